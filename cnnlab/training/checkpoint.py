"""Checkpoints: weights, optimizer state and position of a run in one safetensors file. Loading one runs no code.

Tensors: `model.<name>`, `optimizer.<name of the parameter>.<key>`, `progress.sums`. Metadata: "cnnlab", the rest as JSON, with
the network's `Description` under "network"; "sha256", the hash of all of this, checked whenever the tensors are read.
"""

import dataclasses
import hashlib
import io
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cnnlab.config.schema import from_plain
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.models.description import Description
from cnnlab.reading import MAX_RECORD, MIB, open_regular, parse_json, read_bytes
from cnnlab.tracking import files
from cnnlab.training.groups import names_in_order
from cnnlab.training.optimizer_state import kind_of, optimizer_state

if TYPE_CHECKING:  # opening a run needs no optimizer
    from cnnlab.training.step import Step

LARGER, SLACK = 32, 256 * MIB  # a checkpoint holds at most LARGER times its network's bytes, plus SLACK


@dataclass
class Progress:
    """The position of a run: everything but weights, optimizer state and running sums.

    step: updates done. train_s: seconds spent on training steps in this epoch; seconds: on the whole run so far.
    best: the best validation metric so far; best_step: its step; bad_epochs: validations since then.
    """

    step: int = 0
    train_s: float = 0.0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    bad_epochs: int = 0


@dataclass
class State:
    """The content of a checkpoint, as references to the live objects. began: when the run would have begun had it never been
    interrupted, by the monotonic clock."""

    live: "Step"
    description: Description
    progress: Progress = field(default_factory=Progress)
    began: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> nn.Module:
        return self.live.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the current phase."""
        return self.live.optimizer

    @property
    def sums(self) -> Tensor:
        return self.live.sums

    def elapsed_s(self) -> float:
        return time.monotonic() - self.began


def save_checkpoint(path: Path, state: State) -> None:
    """Write `state` to `path`, atomically and durably.

    Raises:
        OSError: the disk is full or not writable; the old file remains.
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
    meta = {
        "network": dataclasses.asdict(state.description),
        "progress": dataclasses.asdict(state.progress),
        "optimizer": type(state.optimizer).__name__,
        "optimizer_numbers": numbers,
    }
    _write(path, tensors, meta)


def save_weights(path: Path, model: nn.Module, description: Description) -> None:
    """Write a checkpoint of a network alone, which can be opened but not resumed, atomically and durably.

    Raises:
        OSError: the disk is full or not writable; the old file remains.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    _write(path, tensors, {"network": dataclasses.asdict(description)})


def content_hash(tensors: Mapping[str, Tensor], said: str) -> str:
    """SHA-256 over the JSON in a checkpoint's metadata, then the names (sorted), dtypes, shapes and bytes of its tensors.

    tensors: contiguous, on the CPU.
    """
    made = hashlib.sha256(said.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        made.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


def load_checkpoint(path: Path, state: State) -> None:
    """Read `path` into the live objects of `state`.

    Raises:
        CheckpointError: the file cannot be read, or is from another network or optimizer.
    """
    tensors, meta = _read(path, state.model)
    saved, own = meta.get("optimizer"), type(state.optimizer).__name__
    if saved != own:
        raise CheckpointError(
            f"{path}: holds the state of {f'the optimizer {saved}' if saved else 'no optimizer'}, but this run's is {own}"
        )
    _require_same_network(meta, state.description, path)
    _copy_into(state.model, _of_network(tensors), path)
    flat = {name.removeprefix("optimizer."): tensor for name, tensor in tensors.items() if name.startswith("optimizer.")}
    optimizer = optimizer_state(flat, meta.get("optimizer_numbers"), state.model, state.optimizer, path)
    state.optimizer.load_state_dict({"state": optimizer, "param_groups": state.optimizer.state_dict()["param_groups"]})
    try:
        if kind_of(tensors["progress.sums"]) != kind_of(state.sums):
            raise ValueError("its running sums")
        state.sums.copy_(tensors["progress.sums"])
        progress = _progress(meta, path)
        for item in dataclasses.fields(Progress):
            setattr(state.progress, item.name, getattr(progress, item.name))
        state.began = time.monotonic() - progress.seconds
    except (KeyError, RuntimeError, AttributeError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version of cnnlab ({error})") from error


def read_step(path: Path) -> int:
    """The number of updates before a checkpoint, from its metadata; its hash is checked only when it is loaded.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return _progress(_said(path), path).step
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version of cnnlab ({error})") from error


def read_network(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Read the weights and buffers, by name, of a network of about the size of `model`.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return _of_network(_read(path, model)[0])


def load_weights(path: Path, model: nn.Module) -> None:
    """Load the network's weights and buffers into `model`.

    Raises:
        CheckpointError: the file cannot be read, or is from another network.
    """
    _copy_into(model, read_network(path, model), path)


def read_description(path: Path) -> Description:
    """Read the description of a checkpoint's network; the hash is checked only when its weights are loaded.

    Raises:
        CheckpointError: the file cannot be read, or has no description.
    """
    meta = _said(path)
    if "network" not in meta:
        raise CheckpointError(f"{path}: does not describe its network; an older cnnlab saved it, so train the run again")
    try:
        return from_plain(Description, meta["network"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: its description of the network is damaged: {error}") from error


def _write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    said = json.dumps(meta, default=str)
    files.write_atomic(path, save(copies, {"cnnlab": said, "sha256": content_hash(copies, said)}))


def _said(path: Path) -> dict[str, Any]:
    """Read only the metadata, without checking the hash."""
    with _errors_of(path), open_regular(path) as file:
        return _parsed(_metadata(file), path)


def _read(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the metadata and check the hash. A file much larger than `model` is refused.

    The file is not mapped: if another program truncates it, or its drive goes away, a mapped page kills the process.
    """
    own = sum(tensor.nbytes for tensor in model.state_dict().values())
    with _errors_of(path):
        content = read_bytes(path, SLACK + LARGER * own)
        held = _metadata(io.BytesIO(content))
        meta, tensors = _parsed(held, path), load(content)
    if held["sha256"] != content_hash(tensors, held["cnnlab"]):
        raise CheckpointError(f"{path}: damaged: its content is not what was saved; restore it, or start a new run")
    return tensors, meta


def _metadata(file: BinaryIO) -> dict[str, str]:
    """Read the metadata of a safetensors file: 8 bytes with the length of a JSON object, which has it under "__metadata__"."""
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_RECORD:
        raise SafetensorError("its header is too long")
    metadata: dict[str, str] = parse_json(file.read(length))["__metadata__"]
    return metadata


def _parsed(held: Mapping[str, str], path: Path) -> dict[str, Any]:
    meta = parse_json(held["cnnlab"].encode())
    if "sha256" not in held:
        raise CheckpointError(f"{path}: has no hash of its content; an older cnnlab saved it, so train the run again")
    return meta


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Raise the errors of reading a checkpoint as CheckpointError."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}); restore it, or start a new run") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: a safetensors file, but not a checkpoint of cnnlab") from error


def _of_network(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}


def _progress(meta: Mapping[str, Any], path: Path) -> Progress:
    """
    Raises:
        CheckpointError: the checkpoint holds only a network.
        ConfigError: a value of the wrong type. ValueError: a number out of range.
    """
    if "progress" not in meta:
        raise CheckpointError(f"{path}: holds only the weights of a converted network, so training cannot resume from it")
    progress = from_plain(Progress, meta["progress"], "progress")
    counts = (progress.step, progress.best_step, progress.bad_epochs)
    seconds = (progress.train_s, progress.seconds)
    finite = all(map(math.isfinite, (*seconds, progress.best or 0.0)))
    if min(*counts, *seconds) < 0 or max(progress.best_step, progress.bad_epochs) > progress.step or not finite:
        raise ValueError(f"{progress}")
    return progress


def _require_same_network(meta: dict[str, Any], description: Description, path: Path) -> None:
    """Raise CheckpointError if the checkpoint's description of its network differs from `description`."""
    own, held = files.as_json(dataclasses.asdict(description)), meta.get("network")
    for name in ("model", "task", "input_shape", "classes", "numbers"):
        if not isinstance(held, dict) or held.get(name) != own[name]:
            raise CheckpointError(f"{path}: belongs to another run: its {name} differs; restore the run's own checkpoint")


def _copy_into(model: nn.Module, held: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    for name in sorted(own.keys() | held.keys()):
        there, here = (kind_of(side[name]) if name in side else "nothing" for side in (held, own))
        if there != here:
            raise CheckpointError(f"{path}: holds another network: {name} is {there} there and {here} in this run's network")
    require_trained(held, model, path)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(held[name])  # into the live tensor, so that its memory format stays


def require_trained(held: Mapping[str, Tensor], model: nn.Module, path: Path) -> None:
    """Raise CheckpointError if a parameter in `path` is not finite or a running variance is negative."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in held.items():
        is_finite = name not in parameters or bool(torch.isfinite(tensor).all())
        if not is_finite or (name.endswith("running_var") and bool(tensor.min() < 0)):
            raise CheckpointError(f"{path}: {name} holds values that training never produces; restore it, or start a new run")
