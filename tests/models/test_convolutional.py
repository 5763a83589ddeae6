"""A converted network gives, at each place of its map, what the original gives of the part of the image below that place."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cnnlab.errors import ConfigError
from cnnlab.models import build_model
from cnnlab.models.convnet import ConvNet
from cnnlab.models.convolutional import as_convolutions

SHAPE = (3, 14, 11)
BLOCKS = [{"conv": 4, "kernel": 3}, {"conv": 5, "kernel": 2, "stride": 2, "pool": [1, 2]}]
CONVNET = {"_target_": "cnnlab.models.ConvNet", "blocks": BLOCKS}
MLP = {"_target_": "cnnlab.models.MLP"}
SECTIONS: list[tuple[dict[str, Any], tuple[int, int]]] = [  # with the pixels between two places of the map
    (CONVNET, (2, 4)),
    (CONVNET | {"hidden": [7, 6], "hidden_dropout": 0.5, "width_factor": 1.5, "activation": "tanh"}, (2, 4)),
    (CONVNET | {"hidden": [8], "batch_norm": True, "initializer": "he"}, (2, 4)),
    (MLP, (1, 1)),
    (MLP | {"hidden": [], "activation": "sigmoid"}, (1, 1)),
]


def both(section: dict[str, Any]) -> tuple[torch.nn.Module, ConvNet]:
    original, _ = build_model(section, SHAPE, 4, 0)
    for name, buffer in original.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    changed, weights = as_convolutions(section, original, SHAPE)
    converted, _ = build_model(changed, SHAPE, 4, 1)
    converted.load_state_dict(weights)
    assert isinstance(converted, ConvNet)
    return original.double().eval(), converted.double().eval()


def images(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("section", "step"), SECTIONS)
def test_each_place_is_the_original_on_a_part_of_the_image(section: dict[str, Any], step: tuple[int, int]) -> None:
    original, converted = both(section)
    count = [sum(parameter.numel() for parameter in network.parameters()) for network in (original, converted)]
    assert count[0] == count[1]
    own = images(14, 11)
    torch.testing.assert_close(converted(own), original(own), rtol=0, atol=1e-12)
    large = images(14 + 3 * step[0], 11 + 2 * step[1])
    found = converted.logit_map(large)
    assert found.shape == (2, 4, 4, 3)
    for row in range(4):
        for column in range(3):
            part = large[:, :, row * step[0] :, column * step[1] :][:, :, :14, :11]
            torch.testing.assert_close(found[:, :, row, column], original(part), rtol=0, atol=1e-12)
    torch.testing.assert_close(converted(large), found.mean((2, 3)), rtol=0, atol=0)


@pytest.mark.parametrize("section", [CONVNET | {"head": "conv"}, CONVNET | {"head": "global_max"},
                                     {"_target_": "torch.nn.Flatten"}])  # fmt: skip
def test_what_has_no_flatten_layer_is_refused(section: dict[str, Any]) -> None:
    network = torch.nn.Flatten() if "torch" in section["_target_"] else build_model(section, SHAPE, 4, 0)[0]
    with pytest.raises(ConfigError):
        as_convolutions(section, network, SHAPE)
