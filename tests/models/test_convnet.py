import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlab.errors import ConfigError, GeometryError
from cnnlab.models.convnet import ConvNet
from cnnlab.models.layers import ACTIVATIONS, MONOTONE

IMAGES = torch.randn(2, 3, 13, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(*blocks: dict[str, Any], **settings: Any) -> ConvNet:
    """In float64 for 3 x 13 x 11 images, with biases that are not zero, not training."""
    torch.manual_seed(1)
    built = ConvNet(blocks, (3, 13, 11), 4, **settings).double()
    for name, parameter in built.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return built.eval()


def conv(model: ConvNet, number: int, images: Tensor, **settings: Any) -> Tensor:
    layer = model.blocks[number].conv
    return F.conv2d(images, layer.weight, layer.bias, **settings)


def kinds(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_children()]


@pytest.mark.parametrize(
    ("keys", "settings", "padding"),
    [
        ({}, {}, None),
        ({"kernel": [2, 5]}, {}, None),
        ({"kernel": 1, "stride": [3, 2]}, {"stride": (3, 2)}, None),
        ({"kernel": [3, 5], "padding": 2}, {"padding": 2}, None),
        ({"kernel": [3, 5], "padding": [0, 3], "stride": 2}, {"padding": (0, 3), "stride": 2}, None),
        ({"kernel": [2, 4], "padding": "full"}, {"padding": (1, 3)}, None),
        ({"kernel": 4, "padding": ["valid", "full"]}, {"padding": (0, 3)}, None),
        # same at stride 2: rows 13 -> 7 need 12 + 3 - 13 = 2 zeros, columns 11 -> 6 need 10 + 4 - 11 = 3: 1 left, 2 right
        ({"kernel": [3, 4], "padding": "same", "stride": 2}, {"stride": 2}, (1, 2, 1, 1)),
    ],
)
def test_convolution_keys(keys: dict[str, Any], settings: dict[str, Any], padding: tuple[int, ...] | None) -> None:
    model = network({"conv": 5, **keys}, head="global_max")
    images = IMAGES if padding is None else F.pad(IMAGES, padding)
    torch.testing.assert_close(model.blocks(IMAGES), conv(model, 0, images, **settings).relu())


@pytest.mark.parametrize(
    ("keys", "reference"),
    [
        ({"pool": 2}, lambda maps: F.max_pool2d(maps, 2)),
        ({"pool": [3, 2]}, lambda maps: F.max_pool2d(maps, (3, 2))),
        ({"pool": 3, "pool_stride": 2}, lambda maps: F.max_pool2d(maps, 3, 2)),
        ({"pool": 3, "pool_stride": [1, 4]}, lambda maps: F.max_pool2d(maps, 3, (1, 4))),
        ({"pool": 2, "pool_type": "average"}, lambda maps: F.avg_pool2d(maps, 2)),
        ({"pool": 3, "pool_stride": 1, "pool_type": "average"}, lambda maps: F.avg_pool2d(maps, 3, 1)),
    ],
)
def test_pooling_keys(keys: dict[str, Any], reference: Any) -> None:
    model = network({"conv": 5, **keys}, head="global_max")
    torch.testing.assert_close(model.blocks(IMAGES), reference(conv(model, 0, IMAGES).relu()))
    alone = network(keys, head="global_max")
    torch.testing.assert_close(alone.blocks(IMAGES), reference(IMAGES))


@pytest.mark.parametrize("pool_type", ["max", "average"])
@pytest.mark.parametrize("pool_stride", [2, 1])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_order_of_activation_and_pooling_changes_no_value_and_no_gradient(
    activation: Any, pool_stride: int, pool_type: str
) -> None:
    block = {"conv": 4, "pool": 2, "pool_stride": pool_stride, "pool_type": pool_type}
    model = network(block, activation=activation, head="global_max")
    first = kinds(model.blocks[0]).index("pool") < kinds(model.blocks[0]).index("activation")
    assert first == (pool_type == "max" and activation in MONOTONE)
    pool = F.max_pool2d if pool_type == "max" else F.avg_pool2d
    expected = pool(ACTIVATIONS[activation]()(conv(model, 0, IMAGES)), 2, pool_stride)
    result = model.blocks(IMAGES)
    torch.testing.assert_close(result, expected)
    weights = torch.randn(result.shape, dtype=torch.float64)
    parameters = list(model.blocks.parameters())
    gradients = [torch.autograd.grad((maps * weights).sum(), parameters) for maps in (result, expected)]
    torch.testing.assert_close(*gradients)


def test_each_block_feeds_the_next_and_the_head_flattens_to_dense_layers() -> None:
    model = network({"conv": 6, "pool": 2}, {"pool": 2, "pool_stride": 1}, {"conv": 5, "stride": 2}, hidden=[7, 8])
    maps = F.max_pool2d(conv(model, 0, IMAGES).relu(), 2)  # 11 x 9 -> 5 x 4
    maps = conv(model, 2, F.max_pool2d(maps, 2, 1), stride=2).relu()  # 4 x 3 -> 1 x 1
    features = maps.flatten(1)
    assert features.shape == (2, 5)
    head = model.head
    for layer in (head.dense0, head.dense1):
        features = F.linear(features, layer.weight, layer.bias).relu()
    assert (head.dense0.out_features, head.dense1.out_features) == (7, 8)
    torch.testing.assert_close(model(IMAGES), F.linear(features, head.output.weight, head.output.bias))


@pytest.mark.parametrize(
    ("head", "reduce"),
    [
        ("flatten", lambda maps: maps.reshape(len(maps), -1)),
        ("global_max", lambda maps: maps.flatten(2).max(2).values),
        ("global_average", lambda maps: maps.flatten(2).sum(2) / maps[0, 0].numel()),
    ],
)
def test_heads(head: Any, reduce: Any) -> None:
    model = network({"conv": 5}, head=head)
    features = reduce(conv(model, 0, IMAGES).relu())
    torch.testing.assert_close(model(IMAGES), F.linear(features, model.head.output.weight, model.head.output.bias))


def test_head_conv_is_the_mean_of_a_dense_layer_at_each_place() -> None:
    model = network({"conv": 5, "stride": 2}, head="conv")
    places = conv(model, 0, IMAGES, stride=2).relu().permute(0, 2, 3, 1)
    logits = F.linear(places, model.head.weight[:, :, 0, 0], model.head.bias)
    torch.testing.assert_close(model.logit_map(IMAGES), logits.permute(0, 3, 1, 2))
    torch.testing.assert_close(model(IMAGES), logits.mean((1, 2)))


def test_flatten_alone_depends_on_the_size_and_gives_no_map() -> None:
    larger = torch.zeros(2, 3, 30, 17, dtype=torch.float64)
    for head in ("global_max", "global_average", "conv"):
        assert network({"conv": 5}, head=head)(larger).shape == (2, 4)
    with pytest.raises(GeometryError, match="3 x 30 x 17"):
        network({"conv": 5})(larger)
    with pytest.raises(ConfigError, match=r"model\.head=flatten"):
        network({"conv": 5}).logit_map(IMAGES)
    for head in ("conv", "global_average"):
        model = network({"conv": 5}, head=head)
        torch.testing.assert_close(model.logit_map(larger).mean((2, 3)), model(larger), rtol=0, atol=1e-12)
    model = network({"conv": 5}, head="global_max", hidden=[6])
    place = model.head[1:](model.blocks(larger)[:, :, 3, 2])
    torch.testing.assert_close(model.logit_map(larger)[:, :, 3, 2], place, rtol=0, atol=1e-12)


def test_the_kernel_of_head_conv() -> None:
    model = network({"conv": 5}, head="conv", head_kernel=[4, 2])
    assert model.head.kernel_size == (4, 2)
    for keys in ({"head_kernel": 2}, {"head": "conv", "head_kernel": 0}, {"head": "conv", "head_kernel": [1, 2, 3]},
                 {"head": "conv", "head_kernel": 50}):  # fmt: skip
        with pytest.raises(ConfigError):
            network({"conv": 5}, **keys)


def test_where_batch_norm_and_dropout_stand_and_a_block_overrules_the_model() -> None:
    blocks = [{"conv": 4}, {"conv": 4, "pool": 2, "pool_type": "average"}, {"pool": 2}, {"conv": 4, "kernel": 1, "pool": 1}]
    model = network(*blocks, batch_norm=True, dropout=0.2, hidden=[6], hidden_dropout=0.3)
    assert [kinds(block) for block in model.blocks] == [
        ["conv", "norm", "activation", "dropout"],
        ["conv", "norm", "activation", "pool", "dropout"],
        ["pool", "dropout"],
        ["conv", "norm", "pool", "activation", "dropout"],
    ]
    assert kinds(model.head) == ["pool", "dense0", "activation0", "dropout0", "output"]
    assert {module.p for module in model.blocks.modules() if isinstance(module, nn.Dropout)} == {0.2}
    assert model.head.dropout0.p == 0.3
    own = network({"conv": 4, "batch_norm": True, "dropout": 0.5}, {"conv": 4})
    assert [kinds(block) for block in own.blocks] == [["conv", "norm", "activation", "dropout"], ["conv", "activation"]]
    assert own.blocks[0].dropout.p == 0.5
    none = network({"conv": 4, "batch_norm": False, "dropout": 0}, batch_norm=True, dropout=0.2)
    assert kinds(none.blocks[0]) == ["conv", "activation"]


def test_batch_norm_comes_before_the_activation() -> None:
    model = network({"conv": 5, "batch_norm": True, "pool": 2}, head="global_max").train()
    maps = conv(model, 0, IMAGES)
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), keepdim=True, correction=0)
    normed = (maps - mean) / (variance + 1e-5).sqrt()
    normed = normed + model.blocks[0].norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(model.blocks(IMAGES), F.max_pool2d(normed.relu(), 2))


@pytest.mark.parametrize(
    ("factor", "filters", "hidden"),
    [(1.0, [6, 16], [10]), (2, [12, 32], [20]), (0.5, [3, 8], [5]), (0.3, [2, 5], [3]), (0.01, [1, 1], [1])],
)
def test_width_factor(factor: float, filters: list[int], hidden: list[int]) -> None:
    model = network({"conv": 6}, {"pool": 2}, {"conv": 16}, hidden=[10], width_factor=factor)
    assert [model.blocks[number].conv.out_channels for number in (0, 2)] == filters
    assert model.blocks[2].conv.in_channels == filters[0]
    assert model.head.dense0.out_features == hidden[0]
    assert model(IMAGES).shape == (2, 4)


@pytest.mark.parametrize(
    ("shape", "blocks", "walk"),
    [
        (
            (1, 28, 28),
            [{"conv": 6, "kernel": 5, "padding": "same", "pool": 2}, {"conv": 16, "kernel": 5, "stride": 2}, {"pool": 6}],
            "28x28x1 -> conv 6 k5 same -> 28x28x6 -> max pool 2 -> 14x14x6 -> conv 16 k5 s2 -> 5x5x16 -> max pool 6: ",
        ),
        ((3, 8, 5), [{"pool": 2, "pool_type": "average"}, {"conv": 7, "kernel": [1, 3]}], "-> 4x2x3 -> conv 7 k1x3: "),
        ((1, 2, 9), [{"conv": 4}], "2x9x1 -> conv 4 k3: "),
    ],
)
def test_too_small_an_image_is_an_error_that_walks_through_the_sizes(
    shape: tuple[int, int, int], blocks: list[dict[str, Any]], walk: str
) -> None:
    with pytest.raises(GeometryError, match=walk):
        ConvNet(blocks, shape, 2)


@pytest.mark.parametrize(
    "blocks", [[{"conv": 4, "kernel": 13}], [{"conv": 4, "padding": 1, "kernel": [15, 3]}], [{"pool": 11}]]
)
def test_a_window_as_large_as_its_input_fits(blocks: list[dict[str, Any]]) -> None:
    assert ConvNet(blocks, (3, 13, 13), 4).blocks(torch.zeros(1, 3, 13, 13)).shape[2] == 1


@pytest.mark.parametrize(
    ("blocks", "settings", "key"),
    [
        ([{"conv": 4}, {"conv": 4, "strid": 2}], {}, "blocks[1].strid"),
        ([], {"dropout": 1.0}, "dropout"),
        ([], {"hidden_dropout": -0.1}, "hidden_dropout"),
        ([], {"width_factor": 0}, "width_factor"),
        ([], {"hidden": [10, 0]}, "hidden"),
        ([{"conv": 4}], {"head": "conv", "hidden": [10]}, "hidden"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(blocks: list[dict[str, Any]], settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"model.{key}") + "[=:]"):
        network(*blocks, **settings)


def test_one_and_three_dimensions_are_that_of_torch_layer_by_layer() -> None:
    blocks = [{"conv": 3, "kernel": 2, "stride": 2}, {"conv": 5, "padding": 1, "pool": 2, "pool_type": "average"}]
    torch.manual_seed(0)
    for sides, convolve, pool in (((17,), F.conv1d, F.avg_pool1d), ((8, 9, 10), F.conv3d, F.avg_pool3d)):
        model = ConvNet(blocks, (2, *sides), 4, head="flatten").double()
        images = torch.randn(3, 2, *sides, dtype=torch.float64)
        first, second = (block.conv for block in model.blocks)
        maps = convolve(images, first.weight, first.bias, 2).relu()
        maps = pool(convolve(maps, second.weight, second.bias, 1, 1).relu(), 2)
        torch.testing.assert_close(model(images), F.linear(maps.flatten(1), model.head.output.weight, model.head.output.bias))
        assert model.head.output.in_features == maps[0].numel()


def test_a_block_s_numbers_fit_the_dimensions() -> None:
    with pytest.raises(ConfigError, match=r"model\.blocks\[0\]\.kernel"):
        ConvNet([{"conv": 3, "kernel": [3, 3]}], (2, 17), 4)
    with pytest.raises(GeometryError, match="17"):
        ConvNet([{"conv": 3, "kernel": 18}], (2, 17), 4)
