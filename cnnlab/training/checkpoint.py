"""Checkpoints: weights, optimizer state and position of a run in one safetensors file. Loading one runs no code.

Tensors: `model.<name>`, `optimizer.<name of the parameter>.<key>`, `progress.sums`. Metadata "cnnlab": JSON of the rest, with
what the network is under "network" (see `Description`).
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.models.description import Description
from cnnlab.schema import from_plain
from cnnlab.tracking import files
from cnnlab.training.groups import names_in_order
from cnnlab.training.step import Step


@dataclass
class Progress:
    """The position of a run: all that is not weights, optimizer state or running sums.

    step: updates done. train_s: seconds of training steps in the epoch so far, seconds: of the whole run so far.
    best: the best validation metric so far, best_step its step; bad_epochs: validations since then.
    """

    step: int = 0
    train_s: float = 0.0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    bad_epochs: int = 0


@dataclass
class State:
    """What a checkpoint holds, by reference to the live objects; began: when the run would have begun without its breaks, on
    the monotonic clock."""

    live: Step
    description: Description
    progress: Progress = field(default_factory=Progress)
    began: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> nn.Module:
        return self.live.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """That of the phase which the run is in."""
        return self.live.optimizer

    @property
    def sums(self) -> Tensor:
        return self.live.sums

    def elapsed_s(self) -> float:
        return time.monotonic() - self.began


def save_checkpoint(path: Path, state: State) -> None:
    """Write `state` to `path`, atomically and durably.

    Raises:
        OSError: the disk is full or not writable; the old file stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    numbers: dict[str, Any] = {}
    names = names_in_order(state.model, state.optimizer)
    for index, entries in state.optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{names[index]}.{key}"] = value
            else:
                numbers[f"{names[index]}.{key}"] = value
    tensors["progress.sums"] = state.sums
    state.progress.seconds = state.elapsed_s()
    kind = type(state.optimizer).__name__
    meta = {
        "network": dataclasses.asdict(state.description),
        "progress": dataclasses.asdict(state.progress),
        "optimizer": kind,
        "optimizer_numbers": numbers,
    }
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    files.write_atomic(path, save(copies, {"cnnlab": json.dumps(meta, default=str)}))


def load_checkpoint(path: Path, state: State) -> None:
    """Read `path` into the live objects of `state`.

    Raises:
        CheckpointError: unreadable, or of another network or optimizer.
    """
    tensors, meta = _read(path)
    saved, own = meta.get("optimizer"), type(state.optimizer).__name__
    if saved != own:
        raise CheckpointError(f"{path}: holds the state of the optimizer {saved}, this run's is {own}")
    _require_same_network(meta, state.description, path)
    network = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    _copy_into(state.model, network, path)
    optimizer = _optimizer_state(tensors, meta, state, path)
    state.optimizer.load_state_dict({"state": optimizer, "param_groups": state.optimizer.state_dict()["param_groups"]})
    try:
        state.sums.copy_(tensors["progress.sums"])
        for item in dataclasses.fields(Progress):
            value = meta["progress"][item.name]
            if not isinstance(value, int | float) and not (item.name == "best" and value is None):
                raise TypeError(f"{item.name} is {value!r}")
            setattr(state.progress, item.name, value)
        state.began = time.monotonic() - state.progress.seconds
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version of cnnlab ({error})") from error


def read_step(path: Path) -> int:
    """The number of updates before a checkpoint.

    Raises:
        CheckpointError: unreadable.
    """
    step = _read(path, "nothing but the metadata")[1].get("progress", {}).get("step")
    if not isinstance(step, int) or step < 0:
        raise CheckpointError(f"{path}: not a checkpoint of this version of cnnlab (its step is {step!r:.40})")
    return step


def read_network(path: Path) -> dict[str, Tensor]:
    """The network's weights and buffers by name.

    Raises:
        CheckpointError: unreadable.
    """
    tensors, _ = _read(path, "model.")
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def load_weights(path: Path, model: nn.Module) -> None:
    """Read only the network's weights and buffers.

    Raises:
        CheckpointError: unreadable, or of another network.
    """
    _copy_into(model, read_network(path), path)


def read_description(path: Path) -> Description:
    """What the network of a checkpoint is.

    Raises:
        CheckpointError: unreadable, or without a description.
    """
    _, meta = _read(path, "nothing but the metadata")
    if "network" not in meta:
        raise CheckpointError(f"{path}: does not say what its network is; it was saved by an older cnnlab, train the run again")
    try:
        return from_plain(Description, meta["network"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: its description of the network is damaged: {error}") from error


def _read(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors whose names begin with `prefix`, and the metadata."""
    try:
        with safe_open(path, "pt") as file:
            meta = dict(json.loads((file.metadata() or {})["cnnlab"]))
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            return {name: file.get_tensor(name) for name in names}, meta
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}); restore it, or start a new run") from error
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: a safetensors file, but not a checkpoint of cnnlab") from error


def _require_same_network(meta: dict[str, Any], description: Description, path: Path) -> None:
    """Raise CheckpointError if the checkpoint says that it holds another network than `description`."""
    own, held = files.as_json(dataclasses.asdict(description)), meta.get("network")
    for name in ("model", "task", "input_shape", "classes", "numbers"):
        if not isinstance(held, dict) or held.get(name) != own[name]:
            raise CheckpointError(f"{path}: of another run: its {name} is not this run's; restore the run's own checkpoint")


def _copy_into(model: nn.Module, held: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    for name in sorted(own.keys() | held.keys()):
        if name not in held or name not in own or own[name].shape != held[name].shape:
            there, here = (tuple(side[name].shape) if name in side else "nothing" for side in (held, own))
            raise CheckpointError(f"{path}: holds another network: {name} is {there} there and {here} in this run's network")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(held[name])  # into the live tensor, so that its memory format stays


def _optimizer_state(tensors: dict[str, Tensor], meta: dict[str, Any], state: State, path: Path) -> dict[int, dict[str, Any]]:
    indices = {name: index for index, name in enumerate(names_in_order(state.model, state.optimizer))}
    parameters = dict(state.model.named_parameters())
    entries: dict[int, dict[str, Any]] = {}
    try:
        flat = [(name.removeprefix("optimizer."), t) for name, t in tensors.items() if name.startswith("optimizer.")]
        for place, value in [*flat, *meta["optimizer_numbers"].items()]:
            name, _, key = place.rpartition(".")
            if isinstance(value, Tensor) and value.ndim:
                # In the parameter's memory format: fused kernels walk both by address.
                if value.shape == parameters[name].shape:
                    value = torch.empty_like(parameters[name], dtype=value.dtype).copy_(value)
                elif state.optimizer.param_groups[0].get("fused"):
                    raise ValueError(f"{place} is {tuple(value.shape)}, its parameter {tuple(parameters[name].shape)}")
            entries.setdefault(indices[name], {})[key] = value
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: holds the state of another optimizer or network ({error})") from error
    return entries
