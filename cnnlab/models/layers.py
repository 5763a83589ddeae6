"""Layers that torch lacks, and the activations by name."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

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
MONOTONE = frozenset({"relu", "leaky_relu", "elu", "sigmoid", "tanh", "linear"})  # non-decreasing: commute with a maximum


class SameConv2d(nn.Conv2d):
    """A convolution with Keras's `same` padding: ceil(n / stride) outputs for any kernel, stride and image size.

    torch's own padding="same" refuses strides, since the zeros then depend on the image's size.

    Input shape: N x C x H x W. Output shape: N x filters x ceil(H / stride) x ceil(W / stride).
    """

    def forward(self, images: Tensor) -> Tensor:
        (top, bottom), (left, right) = (
            padding_amounts(size, window, stride, "same")
            for size, window, stride in zip(images.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        if top != bottom or left != right:
            images, top, left = F.pad(images, (left, right, top, bottom)), 0, 0
        return F.conv2d(images, self.weight, self.bias, self.stride, (top, left))


class GlobalMaxPool2d(nn.Module):
    """The largest value of each map: N x C x H x W to N x C."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3))


class GlobalAveragePool2d(nn.Module):
    """The mean of each map: N x C x H x W to N x C."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def dense_stack(inputs: int, hidden: Sequence[int], outputs: int, activation: Activation, dropout: float) -> nn.Sequential:
    """Hidden dense layers, each with activation and dropout, then a linear layer of `outputs`: N x inputs to N x outputs."""
    stack = nn.Sequential()
    for number, width in enumerate(hidden):
        stack.add_module(f"dense{number}", nn.Linear(inputs, width))
        stack.add_module(f"activation{number}", ACTIVATIONS[activation]())
        if dropout:
            stack.add_module(f"dropout{number}", nn.Dropout(dropout))
        inputs = width
    stack.add_module("output", nn.Linear(inputs, outputs))
    return stack
