"""The sizing arithmetic of convolutions and pooling: plain integers, one side at a time. Loads no torch.

Source: Dumoulin and Visin 2016, arXiv:1603.07285; `same` as Keras defines it.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal

Padding = int | Literal["valid", "same", "full"]


def padding_amounts(size: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Zeros before and after a side of `size` pixels.

    valid: none. same: so that ceil(size / stride) outputs fit, the odd zero at the end, as in Keras. full: window - 1 on
    both sides, so that every overlap with the image counts. A number: that many on both sides.
    """
    if padding == "valid":
        return 0, 0
    if padding == "full":
        return window - 1, window - 1
    if padding == "same":
        total = max(-size % stride + window - stride, 0)
        return total // 2, total - total // 2
    return padding, padding


def output_size(size: int, window: int, stride: int = 1, padding: Padding = "valid") -> int:
    """floor((size - window + zeros) / stride) + 1: the positions of the window; 0 or less when it does not fit."""
    return (size - window + sum(padding_amounts(size, window, stride, padding))) // stride + 1


def left_over(size: int, window: int, stride: int = 1, padding: Padding = "valid") -> int:
    """Pixels (zeros included) at the end of a side that no window reaches, since the stride does not divide."""
    return (size - window + sum(padding_amounts(size, window, stride, padding))) % stride


def conv_multiplications(channels: int, filters: int, kernel: Sequence[int], output: Sequence[int]) -> int:
    """One per weight and output position: channels * kernel area * output area * filters."""
    return channels * prod(kernel) * prod(output) * filters


def receptive_field(size: int, jump: int, window: int, stride: int) -> tuple[int, int]:
    """Pixels of the image that one output sees along a side, and the distance of neighboring outputs in the image.

    Args:
        size, jump: the same two numbers for the layer's input; 1, 1 for the image itself.
        window, stride: of the layer.

    Source: Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill.
    """
    return size + (window - 1) * jump, jump * stride
