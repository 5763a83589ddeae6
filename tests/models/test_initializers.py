import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnlab.models.convnet import ConvNet
from cnnlab.models.initializers import initialize
from cnnlab.models.layers import SameConv2d

# layer, fan in, fan out: of a convolution the channels times the window's pixels
LAYERS = [
    (lambda: nn.Linear(300, 200), 300, 200),
    (lambda: nn.Conv2d(40, 60, (3, 5)), 40 * 15, 60 * 15),
    (lambda: SameConv2d(50, 20, 3), 50 * 9, 20 * 9),
]


def weights(layer: Any, initializer: Any, std: float = 0.01) -> Tensor:
    """The weights of an initialized layer, whose biases are zero, as one row of float64."""
    torch.manual_seed(0)
    built = layer()
    initialize(built, initializer, std)
    assert (built.bias == 0).all()
    found: Tensor = built.weight.detach().flatten().double()
    return found


@pytest.mark.parametrize(("layer", "fan_in", "fan_out"), LAYERS)
def test_glorot_uniform(layer: Any, fan_in: int, fan_out: int) -> None:
    found, bound = weights(layer, "glorot_uniform"), math.sqrt(6 / (fan_in + fan_out))
    assert 0.999 * bound < found.abs().max() <= bound
    assert found.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(found.mean()) < 5 * bound / math.sqrt(3 * len(found))
    inside = (found.abs() < bound / 2).double().mean()
    assert inside == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(found)))  # flat, unlike a normal distribution


@pytest.mark.parametrize(("initializer", "std"), [("he", None), ("normal", 0.05), ("normal", 0.01)])
@pytest.mark.parametrize(("layer", "fan_in", "fan_out"), LAYERS)
def test_normal_ones(layer: Any, fan_in: int, fan_out: int, initializer: Any, std: float | None) -> None:
    found, expected = weights(layer, initializer, std or 0.01), std or math.sqrt(2 / fan_in)
    assert found.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * len(found)))
    assert abs(found.mean()) < 5 * expected / math.sqrt(len(found))
    beyond = (found.abs() > 2 * expected).double().mean()
    assert beyond == pytest.approx(0.0455, abs=5 * math.sqrt(0.0455 / len(found)))  # of a normal distribution, not truncated


@pytest.mark.parametrize(("initializer", "kept"), [("torch", "012"), ("he", "1")])
def test_torch_leaves_every_layer_as_it_is_and_the_others_batch_norm(initializer: Any, kept: str) -> None:
    built = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5, bias=False))
    nn.init.constant_(built[1].weight, 7.0)
    nn.init.constant_(built[1].bias, 8.0)
    before = {name: value.clone() for name, value in built.state_dict().items()}
    initialize(built, initializer, 0.01)
    for name, value in built.state_dict().items():
        assert torch.equal(value, before[name]) == (name[0] in kept), name


def test_convnet_passes_the_standard_deviation_on_to_every_layer() -> None:
    torch.manual_seed(0)
    model = ConvNet([{"conv": 100}], (3, 6, 6), 100, hidden=[100], initializer="normal", initializer_std=0.25)
    for layer in (model.blocks[0].conv, model.head.dense0, model.head.output):
        assert layer.weight.std().item() == pytest.approx(0.25, rel=0.1)
        assert (layer.bias == 0).all()
