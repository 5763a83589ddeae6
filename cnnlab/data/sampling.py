"""Choosing which training images to keep or hold out for validation: drawn on the CPU, each choice from its own stream."""

import torch
from torch import Tensor

from cnnlab import seeding
from cnnlab.errors import ConfigError


def held_out_count(validation: int | float, total: int) -> int:
    """Return the number of validation images for `data.validation`: a count, or a fraction of `total`, rounded.

    Raises:
        ConfigError: no training images would be left, or a nonzero fraction holds out no images.
    """
    count = round(validation * total) if isinstance(validation, float) else validation
    if validation and not count:
        raise ConfigError(f"data.validation={validation}: holds out none of {total:,} training images; use 0 if intended")
    if count >= total:
        raise ConfigError(f"data.validation={validation}: holds out {count:,} of {total:,} training images, which leaves none")
    return count


def stratified(labels: Tensor, count: int, seed: int, stream: str = "validation") -> tuple[Tensor, Tensor]:
    """Hold out images of each class in proportion to its size.

    Args:
        labels: int64, N.
        count: images to hold out, 0 < count < N.
        seed, stream: of the random draw (see `cnnlab.seeding`).

    Returns:
        Indices to keep and indices to hold out, each ascending. The held-out counts differ from exact proportion by less
        than 1 (largest remainders, ties to the smaller class index).
    """
    sizes = torch.bincount(labels)
    exact = sizes.double() * count / len(labels)
    quota = exact.floor().long()
    order = torch.argsort(exact - quota, descending=True, stable=True)
    quota[order[: count - int(quota.sum())]] += 1
    shuffled = torch.randperm(len(labels), generator=seeding.fold(seed, stream))
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label, size in enumerate(quota.tolist()):
        held_out[shuffled[labels[shuffled] == label][:size]] = True
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def limited(total: int, limit: int, seed: int) -> Tensor:
    """Choose `limit` of `total` indices: the first of a shuffle from the stream "limit", in ascending order.

    Raises:
        ConfigError: `limit` exceeds `total`.
    """
    if limit > total:
        raise ConfigError(f"data.limit={limit}: expected at most {total:,}, the number of training images")
    return torch.randperm(total, generator=seeding.fold(seed, "limit"))[:limit].sort().values


def spread(total: int, at_most: int) -> Tensor:
    """Return at most `at_most` evenly spaced indices into `total` images (int64); many data sets are sorted by class."""
    count = min(total, at_most)
    return torch.arange(count) * total // max(1, count)
