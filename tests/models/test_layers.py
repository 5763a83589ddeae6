import math
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnlab.models.layers import ACTIVATIONS, MONOTONE, SAME_CONVOLUTIONS, GlobalAveragePool, GlobalMaxPool, SameConv2d


def keras_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max(window - (size % stride or stride), 0)
    return total // 2, total - total // 2


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_same_convolution_pads_explicitly_as_keras(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = SameConv2d(2, 3, kernel, stride, dtype=torch.float64)
    images = torch.randn(2, 2, *size, dtype=torch.float64)
    rows, columns = (keras_padding(*side) for side in zip(size, kernel, stride, strict=True))
    expected = F.conv2d(F.pad(images, (*columns, *rows)), layer.weight, layer.bias, stride)
    result = layer(images)
    assert result.shape == (2, 3, math.ceil(size[0] / stride[0]), math.ceil(size[1] / stride[1]))
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, (2, 3), (4, 7)])
def test_same_convolution_is_that_of_torch_at_stride_1(kernel: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    other = nn.Conv2d(3, 4, kernel, padding="same", dtype=torch.float64)
    layer = SameConv2d(3, 4, kernel, dtype=torch.float64)
    layer.load_state_dict(other.state_dict())
    images = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch copies the images for even kernels, and says so
        expected = other(images)
    torch.testing.assert_close(layer(images), expected)


def test_same_convolution_follows_the_size_of_each_image() -> None:
    layer = SameConv2d(1, 1, 3, 2)
    for side, result in ((7, 4), (8, 4), (9, 5), (1, 1)):
        assert layer(torch.zeros(1, 1, side, side)).shape[2:] == (result, result)


@pytest.mark.parametrize(("sides", "convolve"), [((9,), F.conv1d), ((5, 8, 7), F.conv3d)])
def test_same_convolution_of_signals_and_clips(sides: tuple[int, ...], convolve: Callable[..., torch.Tensor]) -> None:
    torch.manual_seed(0)
    layer = SAME_CONVOLUTIONS[len(sides)](2, 3, 4, 2, dtype=torch.float64)
    images = torch.randn(2, 2, *sides, dtype=torch.float64)
    padded = F.pad(images, [zeros for side in reversed(sides) for zeros in keras_padding(side, 4, 2)])
    torch.testing.assert_close(layer(images), convolve(padded, layer.weight, layer.bias, 2))


def test_global_pooling_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-4.0, -8.0], [-2.0, -2.0]]]])
    assert GlobalMaxPool()(maps).tolist() == [[6.0, -2.0]]
    assert GlobalAveragePool()(maps).tolist() == [[3.0, -4.0]]
    for flat in (maps.flatten(2), maps[:, :, None]):  # a signal, a clip
        assert GlobalMaxPool()(flat).tolist() == [[6.0, -2.0]]
        assert GlobalAveragePool()(flat).tolist() == [[3.0, -4.0]]


FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_follows_its_formula_and_monotone_ones_never_fall(name: str) -> None:
    points = torch.linspace(-6, 6, 241, dtype=torch.float64)
    values = ACTIVATIONS[name]()(points)
    expected = torch.tensor([FORMULAS[name](x) for x in points.tolist()], dtype=torch.float64)
    torch.testing.assert_close(values, expected)
    assert bool((values.diff() >= 0).all()) == (name in MONOTONE)
