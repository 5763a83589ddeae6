"""configs/model/ against configs/published.yaml: what the notes print, and what follows from their layers by the formulas."""

import re
from typing import Any, cast

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from cnnlab import composing, config
from cnnlab.models import ConvNet, build_model
from cnnlab.models.inspection import inspect_network
from cnnlab.models.layers import ACTIVATIONS

PUBLISHED: dict[str, Any] = yaml.safe_load((config.config_dir() / "published.yaml").read_text())
NETWORKS: dict[str, dict[str, Any]] = PUBLISHED["networks"]
SHAPES = {"mnist": (1, 28, 28), "fashion": (1, 28, 28), "cifar10": (3, 32, 32)}
UNPRINTED = {type(make()).__name__ for make in ACTIVATIONS.values()} | {"Dropout"}

Row = tuple[list[int], int]  # the output, H x W x C or features; parameters


def layers_of(name: str) -> list[str]:
    text = str(NETWORKS[name]["layers"])
    if other := re.fullmatch(r"as (\S+), with (global max) pooling in place of flatten", text):
        return [other[2] if layer == "flatten" else layer for layer in layers_of(other[1])]
    return text.split(", ")


def follow(name: str) -> list[Row]:
    """Every layer's output and parameters, by the formulas of the notes from their notation of the layers."""
    shape, rows = list(NETWORKS[name]["input"]), []
    for layer in layers_of(name):
        kind, *words = layer.split()
        parameters = 0
        if kind == "conv":
            window, filters = int(words[1][1:]), int(words[0])
            stride = 2 if "s2" in words else 1
            parameters = filters * (shape[2] * window * window + 1)
            side = (shape[0] + stride - 1) // stride if "same" in words else (shape[0] - window) // stride + 1
            shape = [side, side, filters]
        elif kind == "pool":
            shape = [shape[0] // 2, shape[1] // 2, shape[2]]
        elif kind == "flatten":
            shape = [shape[0] * shape[1] * shape[2]]
        elif layer == "global max":
            shape = [shape[2]]
        elif kind == "dense":
            parameters = int(words[0]) * (shape[0] + 1)
            shape = [int(words[0])]
        else:
            raise AssertionError(layer)
        rows.append((shape, parameters))
    return rows


def section(name: str, *changes: str) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(composing.compose([f"model={name}", *changes]).model))


def build(name: str, *changes: str, shape: tuple[int, int, int] | None = None) -> ConvNet:
    """The network as published, for its images and number of outputs."""
    height, width, channels = NETWORKS[name]["input"]
    outputs = follow(name)[-1][0][-1]
    model, _ = build_model(section(name, *changes), shape or (channels, height, width), outputs, seed=0)
    assert isinstance(model, ConvNet)
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_every_shape_and_count(name: str) -> None:
    facts = NETWORKS[name]
    height, width, channels = facts["input"]
    inspection = inspect_network(build(name), (channels, height, width))
    printed = [layer for layer in inspection.layers if layer.kind not in UNPRINTED]
    rows = [([*layer.output[1:], layer.output[0]], layer.parameters) for layer in printed]
    assert rows == follow(name)
    assert [shape for shape, _ in rows] == facts.get("shapes", [shape for shape, _ in rows])
    assert [count for _, count in rows] == facts.get("params", [count for _, count in rows])
    assert inspection.parameters == facts.get("total", sum(count for _, count in rows))
    if "without_dense" in facts:
        assert sum(layer.parameters for layer in printed if layer.kind != "Linear") == facts["without_dense"]


def test_every_convolutional_network_of_the_configs_is_published() -> None:
    own = {"mlp", "custom", "signal", "clip", "pretrained", "transfer"}
    assert set(composing.groups()["model"]) == {*NETWORKS, *own}


@pytest.mark.parametrize("case", NETWORKS["allconv"]["any_input"], ids=lambda case: str(case["input"]))
def test_allconv_maps_images_of_any_size(case: dict[str, Any]) -> None:
    height, width, channels = case["input"]
    rows, columns, classes = case["output"]
    model = build("allconv")
    with torch.no_grad():
        assert model.logit_map(torch.zeros(1, channels, height, width)).shape == (1, classes, rows, columns)


def test_functional_with_dropout_has_it_after_each_convolution_only() -> None:
    layers = inspect_network(build("functional", "model.dropout=0.2"), (1, 28, 28)).layers
    kinds = [layer.kind for layer in layers]
    assert kinds == ["Conv2d", "ReLU", "Dropout"] * 3 + ["Flatten", "Linear", "ReLU", "Linear"]


def test_functional_with_global_max_pooling() -> None:
    inspection = inspect_network(build("functional", "model.head=global_max"), (1, 28, 28))
    # 28 -> 13 -> 6 -> 2: 2 x 2 x 128 flattened are 512, pooled 128
    assert inspection.parameters == 320 + 18_496 + 73_856 + (128 + 1) * 512 + (512 + 1) * 10


MLPS = {
    name: (re.search(r"mlp (?:(\d)x)?128 (\w+)", recipe["net"]), recipe["data"])
    for name, recipe in PUBLISHED["results"].items()
    if recipe["net"].startswith("mlp")
}


@pytest.mark.parametrize("name", MLPS)
def test_the_multilayer_perceptrons(name: str) -> None:
    words, data = MLPS[name]
    assert words is not None
    depth, shape = int(words[1] or 1), SHAPES[data]
    changes = [f"model.hidden=[{','.join(['128'] * depth)}]", f"model.activation={words[2]}"]
    model, _ = build_model(section("mlp", *changes), shape, 10, seed=0)
    rows = [(layer.kind, layer.output, layer.parameters) for layer in inspect_network(model, shape).layers]
    inputs = shape[0] * shape[1] * shape[2]
    activation = {"relu": "ReLU", "sigmoid": "Sigmoid"}[words[2]]
    expected: list[tuple[str, tuple[int, ...], int]] = [("Flatten", (inputs,), 0)]
    for width in [inputs, *[128] * (depth - 1)]:
        expected += [("Linear", (128,), (width + 1) * 128), (activation, (128,), 0)]
    assert rows == [*expected, ("Linear", (10,), 1290)]
