from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cnnlab.models import MLP, ConvNet
from cnnlab.models.inspection import Layer, inspect_network, layers_of
from cnnlab.models.layers import SameConv2d


def layer_at(model: nn.Module, shape: tuple[int, int, int], number: int) -> Layer:
    return inspect_network(model, shape).layers[number]


def fields_of(model: nn.Module, shape: tuple[int, int, int]) -> list[tuple[int, int] | None]:
    return [layer.receptive_field for layer in inspect_network(model, shape).layers]


def test_every_column_of_a_small_network() -> None:
    model = ConvNet([{"conv": 2, "kernel": [3, 2], "stride": 2, "pool": 2}], (3, 12, 11), 5, hidden=[7])
    # 12 x 11 -> rows (12 - 3) // 2 + 1 = 5, 1 left over; columns (11 - 2) // 2 + 1 = 5, 1 left over; pool 2: 2 x 2, 1 left over
    seen = [(layer.name, layer.kind, layer.output) for layer in inspect_network(model, (3, 12, 11)).layers]
    assert seen == [
        ("blocks.0.conv", "Conv2d", (2, 5, 5)),
        ("blocks.0.pool", "MaxPool2d", (2, 2, 2)),
        ("blocks.0.activation", "ReLU", (2, 2, 2)),
        ("head.pool", "Flatten", (8,)),
        ("head.dense0", "Linear", (7,)),
        ("head.activation0", "ReLU", (7,)),
        ("head.output", "Linear", (5,)),
    ]
    layers = inspect_network(model, (3, 12, 11)).layers
    assert [layer.parameters for layer in layers] == [2 * (3 * 6 + 1), 0, 0, 0, 7 * 9, 0, 5 * 8]
    assert layers[0].counted == "2 x (3 x 3 x 2 + 1)"
    assert (layers[4].counted, layers[6].counted) == ("7 x (8 + 1)", "5 x (7 + 1)")
    assert [layer.multiplications for layer in layers] == [3 * 6 * 25 * 2, 0, 0, 0, 56, 0, 35]
    # pool: rows 3 + (2 - 1) * 2 = 5, columns 2 + 2 = 4, neighbors 4 apart; flatten sees 2 x 2 of them: 9 x 8
    assert [layer.receptive_field for layer in layers] == [(3, 2), (5, 4), (5, 4), (9, 8), (9, 8), (9, 8), (9, 8)]
    assert [layer.left_over for layer in layers] == [(1, 1), (1, 1), (0, 0), (0, 0), (), (), ()]


def test_parameters_and_trainable_ones() -> None:
    model = MLP((1, 2, 2), 3, (5,))
    model.dense.dense0.requires_grad_(False)
    inspection = inspect_network(model, (1, 2, 2))
    assert (inspection.parameters, inspection.trainable) == (5 * 5 + 3 * 6, 3 * 6)


@pytest.mark.parametrize(
    ("layer", "counted", "parameters", "multiplications"),
    [
        (nn.Conv2d(4, 6, 3, bias=False), "6 x (4 x 3 x 3)", 216, 216 * 36),
        (nn.Conv2d(4, 6, 3, groups=2), "6 x (2 x 3 x 3 + 1)", 6 * 19, 6 * 18 * 36),
        (nn.Conv2d(4, 6, (1, 3), padding="same"), "6 x (4 x 1 x 3 + 1)", 6 * 13, 6 * 12 * 64),
        (nn.Linear(8, 3, bias=False), "3 x (8)", 24, 24 * 4 * 8),
        (nn.BatchNorm2d(4), "4 + 4", 8, 0),
        (nn.ReLU(), "", 0, 0),
    ],
)
def test_counts(layer: nn.Module, counted: str, parameters: int, multiplications: int) -> None:
    row = layer_at(nn.Sequential(layer), (4, 8, 8), 0)
    assert (row.counted, row.parameters, row.multiplications) == (counted, parameters, multiplications)


@pytest.mark.parametrize(
    ("layer", "side", "left"),
    [
        (nn.Conv2d(1, 1, 3, 3), 7, 1),  # the notes: 3 x 3 on 7 x 7 with stride 3
        (nn.Conv2d(1, 1, 3, 2), 7, 0),
        (nn.Conv2d(1, 1, 3, 2, 1), 8, 1),
        (nn.Conv2d(1, 1, 5, padding="same"), 9, 0),
        (nn.MaxPool2d(2), 7, 1),
        (nn.AvgPool2d(3, 2), 8, 1),
        (nn.MaxPool2d(2, ceil_mode=True), 7, 0),  # the last window reaches over the border
        (nn.Conv2d(1, 1, 2, 3, dilation=2), 8, 2),  # reaches 3 of 8 pixels, then 6
        # Padding `same` leaves pixels over only when the window is smaller than its stride.
        (SameConv2d(1, 1, 5, 2), 8, 0),
        (SameConv2d(1, 1, 3, 3), 8, 0),
        (SameConv2d(1, 1, 1, 2), 8, 1),
        (SameConv2d(1, 1, 1, 3), 9, 2),
    ],
)
def test_left_over(layer: nn.Module, side: int, left: int) -> None:
    assert layer_at(nn.Sequential(layer), (1, side, side), 0).left_over == (left, left)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConvNet([{"conv": 2}, {"conv": 2, "stride": 2}, {"conv": 2, "pool": 2}], (1, 15, 15), 2, "global_max"),
        lambda: ConvNet([{"conv": 2, "kernel": [5, 1], "stride": [1, 2]}, {"pool": 3, "pool_stride": 2}], (1, 15, 15), 2),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.AvgPool2d(2, 1), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 2)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), nn.Conv2d(2, 2, 3)),
        lambda: nn.Sequential(nn.MaxPool2d(2, 1, dilation=3), nn.Conv2d(1, 2, 2)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(2)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)),
    ],
    ids=["strides", "oblong", "average", "dilation", "dilated pooling", "adaptive", "adaptive max", "upsampling"],
)
def test_receptive_field_is_what_a_gradient_reaches_or_unknown(make: Callable[[], nn.Module]) -> None:
    """For each layer of a chain, the pixels that an output in the middle depends on, found by differentiating."""
    torch.manual_seed(0)
    model, outputs = make().double(), []
    rows = inspect_network(model.float(), (1, 15, 15)).layers
    model.double()
    leaves = dict(model.named_modules())
    for row in rows:
        leaves[row.name].register_forward_hook(lambda module, given, output: outputs.append(output))
    seen = torch.zeros(len(rows), 15, 15)
    for _ in range(6):  # maxima and rectifiers hide some pixels each time
        outputs.clear()
        images = torch.randn(1, 1, 15, 15, dtype=torch.float64, requires_grad=True)
        model(images)
        for number, output in enumerate(outputs):
            middle = output[0, :, output.shape[2] // 2, output.shape[3] // 2] if output.ndim == 4 else output[0]
            (gradient,) = torch.autograd.grad(middle.sum(), images, retain_graph=True)
            seen[number] += gradient[0, 0].abs()
    for row, pixels in zip(rows, seen, strict=True):
        touched = pixels.nonzero()
        extent = tuple((touched.max(0).values - touched.min(0).values + 1).tolist())
        assert row.receptive_field in (extent, None), row.name
    assert rows[0].receptive_field is not None


class Wired(nn.Module):
    """Three convolutions of 3 x 3 that keep the shape, wired by a function."""

    def __init__(self, wiring: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))
        self.wiring = wiring

    def forward(self, images: Tensor) -> Tensor:
        return self.wiring(self, images)


def fork(net: Any, x: Tensor) -> Tensor:
    return net.b(x) + net.c(x)


@pytest.mark.parametrize(
    ("wiring", "fields"),
    [
        (lambda net, x: fork(net, net.a(x)), [3, 5, (5, None)]),
        (fork, [3, (3, None)]),
        (lambda net, x: fork(net, torch.relu(net.a(x))), [3, 5, (5, None)]),
        (lambda net, x: net.b(torch.relu(net.a(x))), [3, 5]),
        (lambda net, x: net.b(net.a(x)[:, :, ::2]), [3, (None,)]),
        (lambda net, x: net.b(torch.nn.functional.max_pool2d(net.a(x), 2)), [3, (None,)]),
    ],
    ids=["branch", "branch at the image", "branch behind a function", "function", "slice", "functional pooling"],
)
def test_receptive_field_behind_branches_and_functions(wiring: Any, fields: list[Any]) -> None:
    """A number must be right; where none is known it is None."""
    for found, expected in zip(fields_of(Wired(wiring), (2, 8, 8)), fields, strict=True):
        choices = expected if isinstance(expected, tuple) else (expected,)
        assert found in [choice and (choice, choice) for choice in choices]


class Flattening(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 2, 3), nn.Linear(2 * 36, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.conv(images), 1))


def test_a_dense_layer_behind_a_flattening_function_sees_the_whole_image_or_unknown() -> None:
    first, second = fields_of(Flattening(), (1, 8, 8))
    assert first == (3, 3)
    assert second in ((8, 8), None)


def test_resnet18() -> None:
    model = torchvision.models.resnet18()
    inspection = inspect_network(model, (3, 64, 64))
    rows = {layer.name: layer for layer in inspection.layers}
    assert inspection.parameters == 11_689_512  # as torchvision's page prints
    assert rows["layer4.1.conv2"].output == (512, 2, 2)
    # 7 x 7 s2, pool 3 s2, then 3 x 3 at a distance of 4 pixels: 7, 7 + 2 * 2 = 11, + 2 * 4 each
    assert rows["conv1"].receptive_field == (7, 7)
    assert rows["maxpool"].receptive_field == (11, 11)
    assert rows["layer1.0.conv1"].receptive_field == (19, 19)
    assert rows["layer1.0.conv2"].receptive_field == (27, 27)
    # Each stage adds 2 * jump for the two convolutions of a block, the widest branch counting: 43; 51, 99; 115, 211; 243, 435.
    assert rows["layer2.0.downsample.0"].receptive_field == (43, 43)
    assert rows["layer3.0.conv1"].receptive_field == (115, 115)
    assert rows["layer4.1.conv2"].receptive_field == (435, 435)
    assert rows["fc"].receptive_field == (435 + 32, 435 + 32)


@pytest.mark.parametrize(
    ("make", "shape", "floats", "bytes_more"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), (3, 2, 2), 12, 0),  # the input, for the weights' gradient
        (lambda: ConvNet([{"conv": 2}], (1, 4, 4), 3), (1, 4, 4), 16 + 8, 0),  # the input; what ReLU gave, shared by the view
        # the input; the 2 x 2 x 2 maps, and where each maximum was (int64); what ReLU gave
        (lambda: ConvNet([{"conv": 2, "pool": 2}], (1, 4, 4), 3), (1, 4, 4), 16 + 8 + 2, 2 * 8),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1)), (1, 2, 2), 4 + 4, 0),
    ],
)
def test_activation_bytes_by_hand(make: Callable[[], nn.Module], shape: Any, floats: int, bytes_more: int) -> None:
    assert inspect_network(make(), shape).activation_bytes == 4 * floats + bytes_more


def test_inspecting_changes_nothing() -> None:
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), dropout=nn.Dropout(0.5), flat=nn.Flatten(), out=nn.Linear(8, 2)
        )
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for training in (True, False):
        model.train(training)
        inspect_network(model, (1, 4, 4))
        assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_signals_and_clips_by_hand() -> None:
    signal = inspect_network(ConvNet([{"conv": 4, "kernel": 5, "stride": 2}], (3, 12), 2), (3, 12)).layers
    # (12 - 5) // 2 + 1 = 4, one step left over; 3 x 5 weights a filter, at 4 places
    assert (signal[0].output, signal[0].counted, signal[0].multiplications) == ((4, 4), "4 x (3 x 5 + 1)", 3 * 5 * 4 * 4)
    assert (signal[0].receptive_field, signal[0].left_over, signal[2].receptive_field) == ((5,), (1,), (11,))
    clip = inspect_network(ConvNet([{"conv": 2, "kernel": [2, 3, 3], "pool": 2}], (1, 5, 6, 8), 2), (1, 5, 6, 8)).layers
    assert (clip[0].output, clip[0].parameters) == ((2, 4, 4, 6), 2 * (18 + 1))
    assert (clip[1].output, clip[1].receptive_field) == ((2, 2, 2, 3), (3, 4, 4))


def test_how_sizes_and_multiplications_come_about() -> None:
    """The notes' examples: (28 - 5 + 2 x 2) / 1 + 1 = 28; a 3 x 3 filter at stride 3 does not fit 7 x 7."""
    same, halved = layers_of(ConvNet([{"conv": 6, "kernel": 5, "padding": 2, "pool": 2}], (1, 28, 28), 2), (1, 28, 28))[:2]
    assert same.sizing == ("(28 - 5 + 2 x 2) / 1 + 1 = 28",) * 2
    assert same.multiplied == "5 x 5 x 1 x 28 x 28 x 6 = 117,600"
    assert (same.dense, halved.dense) == (28 * 28 * 28 * 28 * 6, 0)
    assert halved.sizing == ("(28 - 2) / 2 + 1 = 14",) * 2
    odd = layers_of(ConvNet([{"conv": 1, "kernel": 3, "stride": 3}], (1, 7, 7), 2), (1, 7, 7))[0]
    assert odd.sizing == ("(7 - 3) / 3 + 1 = 2.33, rounded down: 2",) * 2
    uneven = layers_of(SameConv2d(1, 1, 2), (1, 4, 4))[0]
    assert uneven.sizing == ("(4 - 2 + 0 + 1) / 1 + 1 = 4",) * 2


def test_strides_over_a_single_pixel() -> None:
    """The notes: 2 x 2 cannot be halved four times. Pooling refuses; a strided `same` convolution stays at 1."""
    strided = [{"conv": 2, "stride": 2, "padding": "same"}] * 4
    past = [layer.name for layer in layers_of(ConvNet(strided, (1, 2, 2), 2), (1, 2, 2)) if layer.strides_past]
    assert past == ["blocks.1.conv", "blocks.2.conv", "blocks.3.conv"]
    assert not any(layer.strides_past for layer in layers_of(ConvNet(strided, (1, 16, 16), 2), (1, 16, 16)))
