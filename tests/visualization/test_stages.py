"""The stages of a network hold what its layers give."""

import pytest
import torch
from torch import nn

from cnnlab.errors import ConfigError
from cnnlab.models import MLP, ConvNet
from cnnlab.visualization.stages import chosen, spatial, trace

BLOCKS = [{"conv": 3, "kernel": 3, "pool": 2}, {"conv": 5, "kernel": 3, "batch_norm": True}]


def test_maps_and_features_are_what_hooks_see() -> None:
    network = ConvNet(BLOCKS, (1, 12, 12), 4, hidden=[6]).eval()
    seen: dict[str, torch.Tensor] = {}
    for name in ("blocks.0.conv", "blocks.0.activation", "blocks.1.norm", "blocks.1.activation"):
        network.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.clone()}))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0].clone()))
    images = torch.rand(2, 1, 12, 12)
    traced = trace(network, images)
    assert [(one.name, tuple(one.maps.shape)) for one in traced.stages] == [
        ("blocks.0.conv", (2, 3, 5, 5)),
        ("blocks.1.conv", (2, 5, 3, 3)),
    ]
    assert torch.equal(traced.stages[0].maps, seen["blocks.0.activation"])
    assert torch.equal(traced.stages[0].linear, seen["blocks.0.conv"])
    assert torch.equal(traced.stages[1].linear, seen["blocks.1.norm"])
    assert torch.equal(traced.stages[1].maps, seen["blocks.1.activation"])
    assert torch.equal(traced.features, seen["features"])
    assert torch.equal(traced.outputs, network(images))
    seen.clear()
    alone = trace(network, images, "blocks.0.conv")
    assert torch.equal(alone.stages[-1].linear, traced.stages[0].linear)
    assert (len(alone.outputs), "blocks.1.norm" in seen) == (0, False)  # nothing is run behind it


def test_an_activation_in_place_leaves_what_was_before_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True))
    with torch.no_grad():
        network[0].weight.fill_(-1.0)
        network[0].bias.zero_()
    (stage,) = trace(network, torch.ones(1, 1, 2, 2)).stages
    assert stage.linear.unique().tolist() == [-1]
    assert stage.maps.unique().tolist() == [0]


def test_global_pooling_does_not_hide_the_maps() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    (stage,) = trace(network, torch.rand(1, 1, 8, 8)).stages
    assert stage.maps.shape == (1, 2, 6, 6)


def test_only_the_stage_that_is_asked_for_is_kept() -> None:
    network = ConvNet(BLOCKS, (1, 12, 12), 4)
    assert [one.name for one in trace(network, torch.rand(1, 1, 12, 12), "blocks.1.conv").stages] == ["blocks.1.conv"]
    assert trace(network, torch.rand(1, 1, 12, 12), "").stages == []


def test_a_network_without_convolutions_has_no_stages() -> None:
    traced = trace(MLP((1, 4, 4), 3, hidden=[5]), torch.rand(2, 1, 4, 4))
    assert traced.stages == []
    assert traced.features.shape == (2, 5)


def test_layers_are_chosen_by_name_or_evenly() -> None:
    stages = trace(nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(10))), torch.rand(1, 1, 2, 2)).stages
    assert [one.name for one in chosen(stages, None, 4)] == ["0", "3", "6", "9"]
    assert [one.name for one in chosen(stages, None, 1)] == ["0"]
    assert [one.name for one in chosen(stages, "7", 1)] == ["7"]
    assert len(chosen(stages, None, 64)) == len(spatial(stages)) == 10
    with pytest.raises(ConfigError, match="--layer nope"):
        chosen(stages, "nope", 1)
    deep = trace(nn.Sequential(nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(50)))), torch.rand(1, 1, 2, 2)).stages
    with pytest.raises(ConfigError, match=r"Did you mean 0\.4.*--layers") as told:
        chosen(deep, "0.400", 1)
    assert len(str(told.value)) < 160
