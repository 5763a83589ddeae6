"""Splits of a data set: they know where their images are stored; the rest of the program only gathers batches.

`Split` is the protocol. A split can be in memory, memory-mapped, a view of another split, or your own class with its methods.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.errors import DataError

CPU = torch.device("cpu")


class Split(Protocol):
    """Images of one shape and their labels."""

    @property
    def labels(self) -> Tensor:
        """The index of each image's class: int64, N, on the CPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image: C, H, W. Features may have other dimensions; the first one is normalized."""

    @property
    def device(self) -> torch.device:
        """The device on which `gather` takes indices and returns images."""

    def __len__(self) -> int: ...

    def gather(self, indices: Tensor) -> Tensor:
        """Return a copy of the images at `indices` (int64, M), in that order: M x C x H x W, uint8 or float32."""

    def to(self, device: torch.device) -> "Split":
        """Return a split of the same images with batches on `device`."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """All images in the device's memory.

    images: N x C x H x W, uint8; or float32, pixels from 0 to 1 or features of any shape. labels: int64, N, on the CPU.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _require_one_label_each(self.images, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.images.device

    def gather(self, indices: Tensor) -> Tensor:
        return self.images.index_select(0, indices)

    def to(self, device: torch.device) -> "InMemory":
        return replace(self, images=self.images.to(device))


@dataclass(frozen=True, eq=False)
class MemoryMapped:
    """Images in a file, with only one batch in memory at a time.

    images: N x C x H x W, uint8 or float32, an `np.memmap` or a slice of one. labels: int64, N, on the CPU. device: of the
    batches; for a GPU, each batch waits for its indices and is copied from the host.
    """

    images: NDArray[Any]
    labels: Tensor
    device: torch.device = CPU

    def __post_init__(self) -> None:
        _require_one_label_each(self.images, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def gather(self, indices: Tensor) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(self.images[indices.cpu().numpy()]))
        _release(self.images)
        return batch.to(self.device)

    def to(self, device: torch.device) -> "MemoryMapped":
        return replace(self, device=device)


@dataclass(frozen=True, eq=False)
class View:
    """Some images of another split, without copying them.

    base: the split. indices: into it, int64, N, on its device. labels: int64, N, on the CPU.
    """

    base: Split
    indices: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def device(self) -> torch.device:
        return self.base.device

    def gather(self, indices: Tensor) -> Tensor:
        return self.base.gather(self.indices.index_select(0, indices))

    def to(self, device: torch.device) -> "View":
        return replace(self, base=self.base.to(device), indices=self.indices.to(device))


def take(split: Split, indices: Tensor) -> View:
    """Return a view of the images at `indices` (int64, M, on the CPU), in that order; views of views share the base split."""
    chosen, labels = indices.to(split.device), split.labels[indices]
    if isinstance(split, View):
        return View(split.base, split.indices[chosen], labels)
    return View(split, chosen, labels)


def chunks(split: Split, size: int) -> Iterator[Tensor]:
    """Yield all images in order, `size` at a time; the last chunk may be shorter."""
    for start in range(0, len(split), size):
        yield split.gather(torch.arange(start, min(start + size, len(split)), device=split.device))


def all_images(split: Split) -> Tensor:
    """Return all images in order: N x C x H x W, on the split's device."""
    return split.gather(torch.arange(len(split), device=split.device))


def _require_one_label_each(images: Tensor | NDArray[Any], labels: Tensor) -> None:
    if len(images) != len(labels):
        raise DataError(f"{len(images):,} images and {len(labels):,} labels: expected one label for each image")


def _release(array: Any) -> None:
    """Release the pages of a memory-mapped file, which would count as the process's memory; the system keeps them cached.

    A private mapping (mode "c") is left alone, since what was written to it is in no file.
    """
    while isinstance(array, np.ndarray):
        if getattr(array, "mode", "r") == "c":
            return
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
