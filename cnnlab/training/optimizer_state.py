"""The optimizer state in a checkpoint, checked against the optimizer that is to continue from it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnlab.errors import CheckpointError
from cnnlab.training.groups import names_in_order


def kind_of(tensor: Tensor) -> str:
    """A tensor's dtype and shape: "float32 x 3 x 5"."""
    return " x ".join([str(tensor.dtype).removeprefix("torch."), *map(str, tensor.shape)])


def optimizer_state(
    tensors: Mapping[str, Tensor], numbers: Any, model: nn.Module, optimizer: torch.optim.Optimizer, path: Path
) -> dict[int, dict[str, Any]]:
    """Build the "state" for `load_state_dict` from the tensors and numbers that `path` holds by parameter and key.

    Raises:
        CheckpointError: they are from another optimizer or network.
    """
    indices = {name: index for index, name in enumerate(names_in_order(model, optimizer))}
    parameters = dict(model.named_parameters())
    entries: dict[int, dict[str, Any]] = {}
    torchs = f"{type(optimizer).__module__}.".startswith("torch.optim.")
    known = {name: _kept(optimizer, parameters[name]) for name in indices} if torchs else {}
    try:
        if numbers and (known or numbers.keys() & tensors.keys()):
            raise ValueError("a number in place of a tensor")
        for place, value in [*tensors.items(), *numbers.items()]:
            name, _, key = place.rpartition(".")
            parameter = parameters[name]
            if known and kind_of(value) != (expected := known[name][key]):
                raise ValueError(f"{place} is {kind_of(value)}, expected {expected}")
            if known and value.ndim < parameter.ndim and not 0 <= value < math.inf:
                raise ValueError(f"{place} is {value.item()}")
            if isinstance(value, Tensor) and value.ndim and value.shape == parameter.shape:
                # In the parameter's memory format: fused kernels walk both by address.
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            entries.setdefault(indices[name], {})[key] = value
        for name, index in indices.items():
            if known and index in entries and entries[index].keys() != known[name].keys():
                raise ValueError(f"{name} must have exactly {', '.join(known[name])}")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: holds the state of another optimizer or network ({error})") from error
    return entries


def _kept(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, str]:
    """The dtype and shape, by key, of the state that a torch optimizer keeps of a parameter, found by a step on a small one."""
    tried = torch.zeros([2] * parameter.ndim, dtype=parameter.dtype, device=parameter.device, requires_grad=True)
    tried.grad = torch.zeros_like(tried)
    fresh = cast(Any, type(optimizer))([tried])
    fresh.param_groups[0] |= optimizer.defaults
    fresh.step()

    def whole(kept: Tensor) -> list[int]:  # Adafactor has size 1 in place of one side
        return [own if side > 1 else 1 for own, side in zip(parameter.shape, kept.shape, strict=False)]

    return {key: kind_of(torch.empty(whole(kept), dtype=kept.dtype, device="meta")) for key, kept in fresh.state[tried].items()}
