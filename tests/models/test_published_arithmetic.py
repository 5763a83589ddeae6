"""The worked examples of configs/published.yaml in whole networks: through the layers, `inspect_network` and `summary`.

The formulas alone are tested in test_geometry.py, the published networks in test_published.py.
"""

import re
from typing import Any

import pytest
import torch
from printed import ARITHMETIC, PUBLISHED, formula, has

from cnnlab.models import MLP, ConvNet
from cnnlab.models.inspection import Layer, inspect_network

EXERCISES = PUBLISHED["exercises"]

Block = dict[str, Any]


def layers_of(blocks: list[Block], side: int, channels: int = 1) -> list[Layer]:
    """The convolutions and poolings of these blocks on square images, run and inspected."""
    model = ConvNet(blocks, (channels, side, side), 2, "global_max", activation="linear")
    return [layer for layer in inspect_network(model.blocks, (channels, side, side)).layers if layer.kind != "Identity"]


@pytest.mark.parametrize(
    ("entry", "blocks", "side", "results", "left"),
    [
        ("fits", [{"conv": 1}], 7, [5], 0),
        ("fits_stride_2", [{"conv": 1, "stride": 2}], 7, [3], 0),
        ("does_not_fit", [{"conv": 1, "stride": 3}], 7, [2], 1),
        ("keeps_size", [{"conv": 1, "kernel": f, "padding": p} for f, p in ((3, 1), (5, 2), (7, 3))], 32, [32, 32, 32], 0),
        ("output_size", [{"conv": 1, "kernel": 5, "stride": 2, "padding": 1}], 32, [15], 1),  # (32 - 5 + 2) / 2 + 1 = 15.5
        ("32 F5 -> 28 -> 24", [{"conv": 1, "kernel": 5}] * 2, 32, [28, 24], 0),
        ("4 F2 -> 3", [{"pool": 2, "pool_stride": 1}], 4, [3], 0),
        ("at stride 2 -> 2", [{"pool": 2}], 4, [2], 0),
        ("4 F3 -> 2", [{"conv": 1}], 4, [2], 0),
        ("with P1 -> 4", [{"conv": 1, "padding": 1}], 4, [4], 0),
        ("5 F3 -> 3", [{"conv": 1}], 5, [3], 0),
        ("padded 5", [{"conv": 1, "padding": "same"}], 5, [5], 0),
        ("pool 2: 220 -> 110 -> 55", [{"pool": 2}] * 2, 220, [110, 55], 0),
        ("padding_modes", [{"conv": 1, "padding": "valid"}], 32, [30], 0),
        ("padding_modes", [{"conv": 1, "stride": 2, "padding": "same"}] * 3, 28, [14, 7, 4], 0),
        ("padding_modes", [{"conv": 1, "kernel": 5, "padding": "full"}], 32, [36], 0),
    ],
)
def test_sizes(entry: str, blocks: list[Block], side: int, results: list[int], left: int) -> None:
    found = layers_of(blocks, side)
    assert [layer.output for layer in found] == [(1, result, result) for result in results]
    assert found[-1].left_over == (left, left)
    if entry not in ARITHMETIC:  # a phrase of `sizes`
        assert has("sizes", entry)
        assert entry.endswith(" -> ".join(map(str, results)))
    elif "out" in ARITHMETIC[entry]:
        assert results == [ARITHMETIC[entry]["out"]]


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "count", "entry"),
    [
        (3, 6, 5, 456, "parameters"),
        (6, 10, 5, 1510, "parameters"),
        (1, 32, 3, 320, "parameters"),
        (32, 64, 3, 18496, "parameters"),
        (1, 1, 2, 5, "parameters_more"),
        (1, 2, 2, 10, "parameters_more"),
    ],
)
def test_parameters(channels: int, filters: int, kernel: int, count: int, entry: str) -> None:
    (layer,) = layers_of([{"conv": filters, "kernel": kernel}], 8, channels)
    assert (layer.parameters, layer.counted) == (count, f"{filters} x ({channels} x {kernel} x {kernel} + 1)")
    assert re.search(rf"\b{count}\b", ARITHMETIC[entry])


@pytest.mark.parametrize(("inputs", "outputs"), [(20, 1), (6, 3), (2, 7)])
def test_a_dense_layer_of_21_equals_a_1x1_convolution_of_21(inputs: int, outputs: int) -> None:
    dense, image = MLP((inputs, 1, 1), outputs, hidden=()), torch.randn(5, inputs, 1, 1)
    conv = ConvNet([], (inputs, 1, 1), outputs, "conv")
    conv.head.load_state_dict(
        {"weight": dense.dense.output.weight.view(outputs, inputs, 1, 1), "bias": dense.dense.output.bias}
    )
    assert [inspect_network(net, (inputs, 1, 1)).parameters for net in (dense, conv)] == [21, 21]
    assert has("parameters_more", "a dense layer of 21 equals a 1x1 convolution of 21")
    torch.testing.assert_close(conv(image), dense(image))


def test_multiplications_of_a_convolution_and_of_a_dense_layer() -> None:
    (conv,) = layers_of([{"conv": 6, "kernel": 5}], 32, channels=3)
    assert conv.multiplications == 352_800
    dense = inspect_network(MLP((3, 1, 1), 6, hidden=()), (3, 1, 1)).layers[-1]
    assert dense.multiplications == 3 * 6
    times = formula("conv_over_dense", "multiplies ", " times", F=5, W_out=28, H_out=28)
    assert conv.multiplications == times * dense.multiplications
    assert inspect_network(MLP((3, 32, 32), 6, hidden=()), (3, 32, 32)).layers[-1].multiplications == 18_432
    assert has("parameters_more", "dense 3072 -> 6 has 18432 weights")


@pytest.mark.parametrize(("i", "j"), [(0, 0), (2, 1), (3, 4)])
def test_a_neuron_sees_the_rows_and_columns_of_the_formula(i: int, j: int) -> None:
    (f_h, f_w), (s_h, s_w) = (3, 2), (2, 1)
    network = ConvNet([{"conv": 1, "kernel": [f_h, f_w], "stride": [s_h, s_w]}], (1, 11, 9), 1)
    image = torch.rand(1, 1, 11, 9, requires_grad=True)
    network.blocks[0].conv(image)[0, 0, i, j].backward()
    assert image.grad is not None
    rows, columns = (torch.nonzero(image.grad[0, 0].abs().sum(axis)).flatten().tolist() for axis in (1, 0))
    names = {"i": i, "j": j, "f_h": f_h, "f_w": f_w, "s_h": s_h, "s_w": s_w}
    first_row, last_row = (
        formula("receptive_fields", "rows ", " ..", **names),
        formula("receptive_fields", ".. ", " and", **names),
    )
    assert rows == list(range(i * s_h, i * s_h + f_h)) == list(range(int(first_row), int(last_row) + 1))
    first, last = (
        formula("receptive_fields", "columns ", " ..", **names),
        formula("receptive_fields", "s_w .. ", " of", **names),
    )
    assert columns == list(range(j * s_w, j * s_w + f_w)) == list(range(int(first), int(last) + 1))


@pytest.mark.parametrize(("side", "numbers"), [(32, 400), (64, 1600)])
def test_flatten_grows_with_the_image_and_global_pooling_does_not(side: int, numbers: int) -> None:
    blocks = [{"conv": 100, "stride": 2, "padding": "same"}] * 4
    for head, expected in (("flatten", numbers), ("global_max", 100)):
        network = ConvNet(blocks, (3, side, side), 2, head)  # type: ignore[arg-type]
        pooled = next(layer for layer in inspect_network(network, (3, side, side)).layers if layer.name == "head.pool")
        assert pooled.output == (expected,)
        assert str(expected) in ARITHMETIC["flatten_vs_global"]


def test_a_2x2_image_cannot_be_halved_four_times(call) -> None:
    code, _, err = call(
        "summary", "model.blocks=[{pool:2},{pool:2},{pool:2},{pool:2}]", "model.hidden=[]", "data.shape=[1,2,2]"
    )
    assert code == 2
    assert "2x2x1 -> max pool 2 -> 1x1x1 -> max pool 2" in err


GERON = [{"conv": maps, "stride": 2, "padding": "same"} for maps in (100, 200, 400)]


def test_geron_2_parameters_and_what_one_image_needs() -> None:
    found = inspect_network(ConvNet(GERON, (3, 200, 300), 1, "global_max").blocks, (3, 200, 300))
    assert found.parameters == 903_400
    assert "903,400" in EXERCISES["geron-2"]["text"]
    convs = [layer.output for layer in found.layers if layer.kind == "SameConv2d"]
    assert convs == [(100, 100, 150), (200, 50, 75), (400, 25, 38)]
    # To predict, two maps in turn are alive, the first two at most: 6 MB and 3 MB in float32, and 3.6 MB of parameters.
    sizes = [4 * maps * height * width for maps, height, width in convs]
    assert sizes == [6_000_000, 3_000_000, 1_520_000]
    # To train, all are kept, and so are the zero-padded inputs of the convolutions: padding that torch must copy.
    padded = [4 * 3 * 201 * 301, 4 * 100 * 101 * 151, 4 * 200 * 51 * 77]
    assert found.activation_bytes == sum(sizes) + sum(padded)


def test_geron_2_memory_to_train_on_50_images(call) -> None:
    blocks = ",".join(f"{{conv:{block['conv']},stride:2,padding:same}}" for block in GERON)
    settings = [f"model.blocks=[{blocks}]", "model.hidden=[]", "model.head=global_average", "trainer.batch_size=50"]
    code, out, _ = call("summary", *settings, "data.shape=[3,200,300]", "optimizer=sgd")
    assert code == 0
    head = 10 * (400 + 1)
    assert f"{903_400 + head:,} parameters" in out
    found = re.search(r"activations of 50 images +([\d.]+) MiB", out)
    assert found is not None
    # The two largest maps that follow each other, of 6 and 3 MB, and the parameters.
    assert f"predict one image, fp32: {(9_000_000 + 4 * (903_400 + head)) / 2**20:.1f} MiB" in out
    one = 4 * (100 * 100 * 150 + 200 * 50 * 75 + 400 * 25 * 38 + 3 * 201 * 301 + 100 * 101 * 151 + 200 * 51 * 77 + 400)
    assert float(found.group(1)) == pytest.approx(50 * one / 2**20, abs=0.06)
