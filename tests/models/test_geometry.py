"""The arithmetic against torch's layers, Keras's rule, loops by hand, and what configs/published.yaml prints."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from printed import ARITHMETIC, formula

from cnnlab.models.convnet import ConvNet
from cnnlab.models.geometry import (
    Padding,
    conv_multiplications,
    left_over,
    output_size,
    padding_amounts,
    receptive_field,
)

sizes, windows, strides = st.integers(1, 40), st.integers(1, 12), st.integers(1, 6)
paddings = st.one_of(st.sampled_from(["valid", "same", "full"]), st.integers(0, 5))
quickly = settings(max_examples=150, deadline=None)


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """Every place of a window on a side, by counting."""
    return [start for start in range(0, size, stride) if start + window <= size]


@quickly
@given(sizes, windows, strides, paddings)
def test_output_size_counts_the_places_of_the_window(size: int, window: int, stride: int, padding: Padding) -> None:
    padded = size + sum(padding_amounts(size, window, stride, padding))
    starts = window_starts(padded, window, stride)
    assert max(output_size(size, window, stride, padding), 0) == len(starts)
    if starts:
        assert left_over(size, window, stride, padding) == padded - (starts[-1] + window)


@quickly
@given(sizes, windows, strides, paddings)
def test_output_size_is_that_of_torch(size: int, window: int, stride: int, padding: Padding) -> None:
    before, after = padding_amounts(size, window, stride, padding)
    assume(size + before + after >= window)
    padded = F.pad(torch.zeros(1, 1, size), (before, after))
    assert output_size(size, window, stride, padding) == F.conv1d(padded, torch.zeros(1, 1, window), stride=stride).shape[2]


@quickly
@given(st.lists(st.tuples(windows, strides), min_size=1, max_size=4), st.integers(0, 2))
def test_receptive_field_by_walking_back_from_two_neighboring_outputs(layers: list[tuple[int, int]], start: int) -> None:
    """published.yaml: neuron i sees i * s .. i * s + f - 1 of the layer before; applied from the last layer to the image."""
    seen = []
    for neuron in (start, start + 1):
        first = last = neuron
        for window, stride in reversed(layers):
            first, last = first * stride, last * stride + window - 1
        seen.append((first, last))
    size, jump = 1, 1
    for window, stride in layers:
        size, jump = receptive_field(size, jump, window, stride)
    assert size == seen[0][1] - seen[0][0] + 1
    assert jump == seen[1][0] - seen[0][0]


@quickly
@given(sizes, windows, strides, st.integers(0, 5))
def test_published_formulas(size: int, window: int, stride: int, padding: int) -> None:
    assume(size >= window)
    conv = formula("output_size", "N2 = ", " for a convolution", N1=size, F=window, P=padding, S=stride)
    pool = formula("output_size", "; ", " for pooling", W=size, F=window, S=stride)
    same = formula("padding_modes", "same (keeps ", "),", n=size, stride=stride)
    full = formula("padding_modes", "full (P = ", ")", F=window)
    assert math.floor(conv) == output_size(size, window, stride, padding)
    assert math.floor(pool) == output_size(size, window, stride)
    assert same == output_size(size, window, stride, "same")
    assert (full, full) == padding_amounts(size, window, stride, "full")


def test_published_does_not_fit_leaves_pixels_over() -> None:
    case = ARITHMETIC["does_not_fit"]
    quotient = (case["n"] - case["f"]) / case["s"] + 1
    assert quotient == pytest.approx(case["quotient"], abs=0.005)


def test_published_multiplications() -> None:
    assert conv_multiplications(3, 6, (5, 5), (28, 28)) == 352_800
    assert "352800" in ARITHMETIC["multiplications"]
    times = formula("conv_over_dense", "multiplies ", " times", F=5, W_out=13, H_out=17)
    assert conv_multiplications(7, 11, (5, 5), (13, 17)) == (7 * 11) * times
    assert conv_multiplications(7, 11, (3, 5), (13, 17)) == (7 * 11) * (3 * 5 * 13 * 17)


def test_published_max_pooling() -> None:
    case = ARITHMETIC["max_pool_example"]
    image = torch.tensor([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    network = ConvNet([{"pool": case["window"], "pool_stride": case["stride"]}], (1, 4, 4), 1)
    assert network.blocks(image.view(1, 1, 4, 4))[0, 0].tolist() == case["output"]


def test_published_convolution_formula() -> None:
    """z_ijk = b_k + sum over u, v, k' of x_i'j'k' * w_uvk'k with i' = i * s_h + u, j' = j * s_w + v, as loops."""
    torch.manual_seed(0)
    network = ConvNet([{"conv": 3, "kernel": [2, 3], "stride": [2, 1]}], (2, 6, 5), 1, activation="linear").double()
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    conv = network.blocks[0].conv
    torch.nn.init.normal_(conv.bias)
    z = torch.zeros(3, 3, 3, dtype=torch.float64)
    for k, i, j in product(range(3), range(3), range(3)):
        z[k, i, j] = conv.bias[k].detach() + sum(
            x[depth, i * 2 + u, j + v] * conv.weight[k, depth, u, v].detach()
            for u, v, depth in product(range(2), range(3), range(2))
        )
    torch.testing.assert_close(network.blocks(x[None])[0], z)
