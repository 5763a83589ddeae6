"""Everything that defines a trained network except its weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from cnnlab.errors import ConfigError
from cnnlab.models.preprocess import Preprocess

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous_format": torch.contiguous_format}


@dataclass(frozen=True)
class Description:
    """Everything needed to rebuild a network and its preprocessing, as stored in its checkpoints.

    model, task: these sections of the configuration. input_shape: C, H, W, or C and other sides. classes: their names. numbers:
    the label of each class in the data source. mean, std: of each channel, for pixels from 0 to 1 (see `Preprocess`).
    memory_format: of the network's input, one of MEMORY_FORMATS.

    Raises:
        ConfigError: invalid values, or values that contradict each other.
    """

    model: dict[str, Any]
    task: dict[str, Any]
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    memory_format: str

    def __post_init__(self) -> None:
        scale = (*self.mean, *self.std)
        if len(self.input_shape) < 2 or min(self.input_shape) < 1 or not len(self.mean) == len(self.std) == self.input_shape[0]:
            raise ConfigError(f"input_shape {self.input_shape} with {len(self.mean)} means, {len(self.std)} deviations")
        if not all(map(math.isfinite, scale)) or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean}, std {self.std}: expected finite numbers, and deviations above 0")
        if len(self.classes) != len(self.numbers) or len(self.classes) < 2:
            raise ConfigError(f"{len(self.classes)} classes with {len(self.numbers)} numbers")
        if self.memory_format not in MEMORY_FORMATS:
            raise ConfigError(f"memory_format {self.memory_format}: expected one of {', '.join(MEMORY_FORMATS)}")

    def preprocess(self) -> Preprocess:
        """Build the preprocessing module that precedes the network, on the CPU."""
        return Preprocess(torch.tensor(self.mean), torch.tensor(self.std), MEMORY_FORMATS[self.memory_format])
