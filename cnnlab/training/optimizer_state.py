"""The state of an optimizer in a checkpoint, checked against the optimizer that is to go on with it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnlab.errors import CheckpointError
from cnnlab.training.groups import names_in_order


def kind_of(tensor: Tensor) -> str:
    """Its type and shape: "float32 x 3 x 5"."""
    return " x ".join([str(tensor.dtype).removeprefix("torch."), *map(str, tensor.shape)])


def optimizer_state(
    tensors: Mapping[str, Tensor], numbers: Any, model: nn.Module, optimizer: torch.optim.Optimizer, path: Path
) -> dict[int, dict[str, Any]]:
    """What `load_state_dict` takes as "state", of the tensors and numbers that `path` holds by parameter and key.

    Raises:
        CheckpointError: of another optimizer or network.
    """
    indices = {name: index for index, name in enumerate(names_in_order(model, optimizer))}
    parameters = dict(model.named_parameters())
    entries: dict[int, dict[str, Any]] = {}
    is_number = _kept(optimizer)
    try:
        if numbers and (is_number is not None or numbers.keys() & tensors.keys()):
            raise ValueError("a number in the place of a tensor")
        for place, value in [*tensors.items(), *numbers.items()]:
            name, _, key = place.rpartition(".")
            if is_number is not None:
                expected = "float32" if is_number[key] else kind_of(parameters[name])
                if kind_of(value) != expected or (is_number[key] and not 0 <= value < math.inf):
                    raise ValueError(f"{place} is {kind_of(value)}, expected {expected} from 0 on")
            if isinstance(value, Tensor) and value.ndim and value.shape == parameters[name].shape:
                # In the parameter's memory format: fused kernels walk both by address.
                value = torch.empty_like(parameters[name], dtype=value.dtype).copy_(value)
            entries.setdefault(indices[name], {})[key] = value
        if is_number is not None and any(entry.keys() != is_number.keys() for entry in entries.values()):
            raise ValueError(f"a parameter lacks one of {', '.join(is_number)}")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: holds the state of another optimizer or network ({error})") from error
    return entries


def _kept(optimizer: torch.optim.Optimizer) -> dict[str, bool] | None:
    """What one of torch's optimizers keeps of each parameter, by key: a number, or what has its shape. None for others, and for
    Adafactor, whose state depends on the shape."""
    kind = cast(Any, type(optimizer))
    if not kind.__module__.startswith("torch.optim.") or kind is torch.optim.Adafactor:
        return None
    device = optimizer.param_groups[0]["params"][0].device
    tried = torch.zeros(1, 2, device=device, requires_grad=True)
    tried.grad = torch.zeros_like(tried)
    fresh = kind([tried])
    fresh.param_groups[0] |= optimizer.defaults
    fresh.step()
    return {key: value.ndim == 0 for key, value in fresh.state[tried].items()}
