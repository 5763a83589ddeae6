"""The random draws of a step: the order of the images in the epoch, and their augmentation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from cnnlab import seeding
from cnnlab.config import targets
from cnnlab.data.augment import Augmentation
from cnnlab.errors import ConfigError


def epoch_order(seed: int, epoch: int, count: int, device: torch.device) -> Tensor:
    """Draw the order of the images in an epoch (counted from 0): int64, `count`; on the CPU, so it is equal on all devices."""
    return torch.randperm(count, generator=seeding.fold(seed, "order", epoch)).to(device)


@dataclass(frozen=True)
class Chosen:
    """An augmentation and its random generator, which is reseeded before every step."""

    function: Augmentation
    generator: Generator


def augmentations(section: Mapping[str, Any], device: torch.device | str = "cpu") -> dict[str, Chosen]:
    """Return the configured augmentations by name, in the order in which they are applied, for images on `device`.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    chosen: dict[str, Chosen] = {}
    for name, call in section.items():
        where = f"augment.{name}"
        chosen[name] = Chosen(targets.bind(call, where, ("images", "generator")), Generator(device))
    return chosen


def augment(images: Tensor, chosen: Mapping[str, Chosen], seed: int, step: int) -> Tensor:
    """Apply the augmentations to the batch of a step, each with its own random stream.

    Raises:
        ConfigError: an augmentation rejects its arguments.
    """
    for name, one in chosen.items():
        try:
            images = one.function(images, one.generator.manual_seed(seeding.derive(seed, f"augment.{name}", step)))
        except ValueError as error:
            raise ConfigError(f"augment.{name}: {error}") from error
    return images
