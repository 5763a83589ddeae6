import math
from typing import Any

import pytest
import torch
from torch import nn

from cnnlab.models.convnet import ConvNet
from cnnlab.models.initializers import initialize
from cnnlab.models.layers import SameConv2d

# layer, fan in, fan out: of a convolution the channels times the window's pixels
LAYERS = [
    (lambda: nn.Linear(300, 200), 300, 200),
    (lambda: nn.Conv2d(40, 60, (3, 5)), 40 * 15, 60 * 15),
    (lambda: SameConv2d(50, 20, 3), 50 * 9, 20 * 9),
]


@pytest.mark.parametrize(("layer", "fan_in", "fan_out"), LAYERS)
def test_glorot_uniform(layer: Any, fan_in: int, fan_out: int) -> None:
    torch.manual_seed(0)
    built = layer()
    initialize(built, "glorot_uniform", 0.01)
    bound = math.sqrt(6 / (fan_in + fan_out))
    weights = built.weight.detach().flatten().double()
    assert weights.abs().max() <= bound
    assert weights.abs().max() > 0.999 * bound
    assert weights.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(weights.mean()) < 5 * bound / math.sqrt(3 * len(weights))
    inside = (weights.abs() < bound / 2).double().mean()
    assert inside == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(weights)))  # flat, unlike a normal distribution
    assert (built.bias == 0).all()


@pytest.mark.parametrize(("initializer", "std"), [("he", None), ("normal", 0.05), ("normal", 0.01)])
@pytest.mark.parametrize(("layer", "fan_in", "fan_out"), LAYERS)
def test_normal_ones(layer: Any, fan_in: int, fan_out: int, initializer: Any, std: float | None) -> None:
    torch.manual_seed(0)
    built = layer()
    initialize(built, initializer, std or 0.01)
    expected = std or math.sqrt(2 / fan_in)
    weights = built.weight.detach().flatten().double()
    count = len(weights)
    assert weights.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
    assert abs(weights.mean()) < 5 * expected / math.sqrt(count)
    beyond = (weights.abs() > 2 * expected).double().mean()
    assert beyond == pytest.approx(0.0455, abs=5 * math.sqrt(0.0455 / count))  # of a normal distribution, not truncated
    assert (built.bias == 0).all()


def test_torch_leaves_everything_as_it_is() -> None:
    built = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5))
    before = {name: value.clone() for name, value in built.state_dict().items()}
    initialize(built, "torch", 0.01)
    for name, value in built.state_dict().items():
        assert torch.equal(value, before[name])
    assert built[0].bias.abs().sum() > 0


def test_other_layers_stay_and_missing_biases_are_no_matter() -> None:
    built = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Linear(4, 5, bias=False))
    nn.init.constant_(built[1].weight, 7.0)
    nn.init.constant_(built[1].bias, 8.0)
    initialize(built, "he", 0.01)
    assert (built[1].weight == 7).all()
    assert (built[1].bias == 8).all()


@pytest.mark.parametrize("initializer", ["glorot_uniform", "he", "normal", "torch"])
def test_the_default_generator_decides(initializer: Any) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return ConvNet([{"conv": 4}], (1, 5, 5), 2, initializer=initializer).blocks[0].conv.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_convnet_passes_the_standard_deviation_on_to_every_layer() -> None:
    torch.manual_seed(0)
    model = ConvNet(
        [{"conv": 100}], (3, 6, 6), 100, hidden=[100], initializer="normal", initializer_std=0.25, activation="sigmoid"
    )
    for layer in (model.blocks[0].conv, model.head.dense0, model.head.output):
        assert layer.weight.std().item() == pytest.approx(0.25, rel=0.1)
        assert (layer.bias == 0).all()
