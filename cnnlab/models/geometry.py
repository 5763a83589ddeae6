"""Size arithmetic for convolutions and pooling: plain integers, one side at a time. Loads no torch.

Source: Dumoulin and Visin 2016, arXiv:1603.07285; `same` as Keras defines it.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal

Padding = int | Literal["valid", "same", "full"]


def padding_amounts(size: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """The number of zeros before and after a side of `size` pixels.

    valid: none. same: enough for ceil(size / stride) outputs, an odd zero at the end, as in Keras. full: window - 1 at
    both ends, so that every overlap with the image counts. A number: that many at both ends.
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
    """The number of window positions, floor((size - window + zeros) / stride) + 1; 0 or less if the window does not fit."""
    return (size - window + sum(padding_amounts(size, window, stride, padding))) // stride + 1


def left_over(size: int, window: int, stride: int = 1, padding: Padding = "valid") -> int:
    """The number of pixels, zeros included, at the end of a side that no window reaches."""
    return (size - window + sum(padding_amounts(size, window, stride, padding))) % stride


def conv_multiplications(channels: int, filters: int, kernel: Sequence[int], output: Sequence[int]) -> int:
    """Multiplications of a convolution, one per weight and output position: channels * kernel * output * filters."""
    return channels * prod(kernel) * prod(output) * filters


def receptive_field(size: int, jump: int, window: int, stride: int) -> tuple[int, int]:
    """The pixels of the image that one output sees along a side, and the distance in pixels between neighboring outputs.

    Args:
        size, jump: these two numbers for the layer's input; 1, 1 for the image itself.
        window, stride: of the layer.

    Source: Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill.
    """
    return size + (window - 1) * jump, jump * stride
