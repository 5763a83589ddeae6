"""Layers that torch does not have, and the activations by name."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from cnnlab.errors import ConfigError
from cnnlab.models.geometry import padding_amounts

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
}
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "linear"]
MOST_LAYERS = 1000  # of a kind
MONOTONE = frozenset({"relu", "leaky_relu", "elu", "sigmoid", "tanh", "linear"})  # non-decreasing: commute with a maximum


class _Same(_ConvNd):
    """A convolution with Keras's `same` padding: ceil(n / stride) outputs for any kernel, stride and size.

    torch's padding="same" does not support strides, with which the zeros depend on the size.

    Input shape: N x C x sides. Output shape: N x filters x ceil(side / stride) of each.
    """

    def forward(self, images: Tensor) -> Tensor:
        sides = zip(images.shape[2:], self.kernel_size, self.stride, strict=True)
        zeros = [padding_amounts(*side, "same") for side in sides]
        known = all(isinstance(size, int) for size in images.shape[2:])  # not so in an export for any size
        if not known or any(before != after for before, after in zeros):
            images = F.pad(images, [amount for pair in reversed(zeros) for amount in pair])
            zeros = [(0, 0)] * len(zeros)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(zeros) - 1]
        return convolve(images, self.weight, self.bias, self.stride, tuple(before for before, _ in zeros))


class SameConv1d(_Same, nn.Conv1d):
    """`same` convolution of signals, N x C x L."""


class SameConv2d(_Same, nn.Conv2d):
    """`same` convolution of images, N x C x H x W."""


class SameConv3d(_Same, nn.Conv3d):
    """`same` convolution of clips or voxels, N x C x D x H x W."""


class GlobalMaxPool(nn.Module):
    """The largest value of each map: N x C x sides to N x C."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax(tuple(range(2, maps.ndim)))


class GlobalAveragePool(nn.Module):
    """The mean of each map: N x C x sides to N x C."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(tuple(range(2, maps.ndim)))


# By the number of sides: 1 for signals, 2 for images, 3 for clips and voxels.
CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SAME_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: SameConv1d, 2: SameConv2d, 3: SameConv3d}
BATCH_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS: dict[str, dict[int, type[nn.Module]]] = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "average": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
}


def require_count(layers: Sequence[object], what: str) -> None:
    """Raise ConfigError for more than MOST_LAYERS layers, which would take minutes to build and must be a mistake."""
    if len(layers) > MOST_LAYERS:
        raise ConfigError(f"model: {len(layers):,} {what}: expected at most {MOST_LAYERS:,}")


def dense_stack(inputs: int, hidden: Sequence[int], outputs: int, activation: Activation, dropout: float) -> nn.Sequential:
    """Build hidden dense layers, each with activation and dropout, and a linear output layer: N x inputs to N x outputs.

    Raises:
        ConfigError: too many layers.
    """
    require_count(hidden, "dense layers")
    stack = nn.Sequential()
    for number, width in enumerate(hidden):
        stack.add_module(f"dense{number}", nn.Linear(inputs, width))
        stack.add_module(f"activation{number}", ACTIVATIONS[activation]())
        if dropout:
            stack.add_module(f"dropout{number}", nn.Dropout(dropout))
        inputs = width
    stack.add_module("output", nn.Linear(inputs, outputs))
    return stack
