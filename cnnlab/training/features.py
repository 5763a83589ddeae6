"""Features of a frozen backbone, computed once and kept on disk, so that only the head has to be trained."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cnnlab.data import cache
from cnnlab.data.content import digest
from cnnlab.data.splits import InMemory, Split, View, chunks
from cnnlab.errors import CheckpointError, ConfigError, ResourceError, as_known, note
from cnnlab.models import Pretrained
from cnnlab.models.preprocess import Preprocess
from cnnlab.reading import require_regular
from cnnlab.tracking import files
from cnnlab.training.checkpoint import content_hash
from cnnlab.training.phases import Phase
from cnnlab.training.runtime import Runtime, describe


def folder() -> Path:
    """The folder of the features, next to the decoded pictures."""
    return cache.folder().with_name("features")


def require_frozen(model: nn.Module, phases: Sequence[Phase]) -> Pretrained:
    """Return the network if it has a backbone and no phase trains it.

    Raises:
        ConfigError: it has no backbone, or a phase trains it.
    """
    if not isinstance(model, Pretrained):
        raise ConfigError("trainer.cache_features=true: needs a backbone, whose features it keeps; use model=pretrained")
    for phase in phases:
        trained = phase.trained(model)
        if any(name.startswith("backbone.") for name in trained):
            raise ConfigError(
                "trainer.cache_features=true: the backbone is trained, so its features change; freeze it: "
                f"'{phase.where}=[{{match: \"backbone.*\", frozen: true}}]'"
            )
    return model


def feature_splits(
    splits: Mapping[str, Split], model: Pretrained, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> dict[str, Split]:
    """The splits with features, float32, N x F, in place of the images; views of one split share them.

    Raises:
        ConfigError, ResourceError: the features cannot be written to disk.
    """
    made: dict[int, InMemory] = {}

    def features(split: Split) -> Split:
        if isinstance(split, View):
            return replace(split, base=features(split.base))
        if id(split) not in made:
            kept = cached(split, model, preprocess, runtime, batch_size)
            made[id(split)] = InMemory(kept.to(runtime.device), split.labels)
        return made[id(split)]

    return {name: features(split) for name, split in splits.items()}


def cached(split: Split, model: Pretrained, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> Tensor:
    """The features of a split, read from their file if it is valid, else computed and written there with a hash."""
    path = folder() / f"{_key(split, model, preprocess, runtime, batch_size)}.safetensors"
    try:
        require_regular(path)
        with safe_open(path, "pt") as file:
            if file.get_slice("features").get_shape() == [len(split), model.num_features]:
                kept: Tensor = file.get_tensor("features")
                if content_hash({"features": kept}, "") == file.metadata()["sha256"]:
                    return kept
    except (OSError, SafetensorError, CheckpointError, KeyError, TypeError, RuntimeError):  # missing or damaged
        pass
    began = time.monotonic()
    found = _compute(split, model, preprocess, runtime, batch_size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, save({"features": found}, {"sha256": content_hash({"features": found}, "")}))
    except OSError as error:
        kind = ResourceError if isinstance(as_known(error), ResourceError) else ConfigError
        raise kind(f"{path.parent}: {error.strerror or error}; features are kept there: free some space, or set the "
                   "environment variable XDG_CACHE_HOME to another folder") from error  # fmt: skip
    note(f"{model.name}: features of {len(split):,} images in {time.monotonic() - began:.1f} s, kept in {path}")
    return found


def _compute(split: Split, model: Pretrained, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> Tensor:
    model.eval()
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Tensor] = []
    terminal = Console(stderr=True)
    bar = Progress(*columns, transient=True, console=terminal, disable=not terminal.is_terminal)
    with torch.inference_mode(), runtime.autocast(), bar:
        task = bar.add_task(f"features of {model.name}", total=len(split))
        for images in chunks(split, batch_size):
            found.append(model.features(preprocess(images)).float().cpu())
            bar.advance(task, len(images))
    return torch.cat(found)


def _key(split: Split, model: Pretrained, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> str:
    """A hash of everything that the bits of the features depend on."""
    made = hashlib.blake2b(digest_size=12)
    told = (
        model.name,
        digest(split),
        describe(runtime.device),
        runtime.precision,
        runtime.threads,
        batch_size,
        torch.__version__,
    )
    made.update(repr(told).encode())
    for state in (preprocess.state_dict(), model.backbone.state_dict()):
        for name, tensor in state.items():
            made.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return made.hexdigest()
