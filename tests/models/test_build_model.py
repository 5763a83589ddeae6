import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnlab.errors import ConfigError
from cnnlab.models import ConvNet, build_model

SHAPE = (3, 8, 6)
SECTION = {
    "_target_": "cnnlab.models.ConvNet",
    "blocks": [{"conv": 4, "batch_norm": True, "pool": 2}],
    "hidden": [5],
    "hidden_dropout": 0.5,
}


def here(name: str, **keys: Any) -> dict[str, Any]:
    """The section of a network of this file."""
    return {"_target_": f"{__name__}.{name}", **keys}


class Foreign(nn.Module):
    """Of a person's own, without a word about images or outputs."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.conv(images).mean((2, 3)))


class Sized(nn.Module):
    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


class Viewing(nn.Module):
    """Takes its maps apart with `view`, which channels-last memory does not allow."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 4, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.linear(maps.view(len(maps), -1))


class Fails(Foreign):
    def forward(self, images: Tensor) -> Tensor:
        raise KeyError("a mistake of their own")


class Flat(Foreign):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, 0]


class Pair(Foreign):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images), images


def no_module() -> str:
    return "a word"


def built(section: dict[str, Any], outputs: int = 5, seed: int = 0) -> nn.Module:
    return build_model(section, SHAPE, outputs, seed)[0]


@pytest.mark.parametrize(
    ("section", "memory_format"),
    [
        (SECTION, torch.channels_last),
        (here("Foreign", outputs=5), torch.channels_last),
        (here("Sized"), torch.channels_last),
        (here("Viewing"), torch.contiguous_format),
    ],
)
def test_any_module_is_built_in_the_faster_memory_format_that_works(
    section: dict[str, Any], memory_format: torch.memory_format
) -> None:
    model, found = build_model(section, SHAPE, 5, seed=0)
    assert found == memory_format
    assert model(torch.randn(3, *SHAPE).to(memory_format=memory_format)).shape == (3, 5)
    assert all(module.training for module in model.modules())
    assert all(weight.is_contiguous(memory_format=memory_format) for weight in model.parameters() if weight.ndim == 4)


@pytest.mark.parametrize("section", [SECTION, here("Foreign"), here("Viewing")])
def test_the_seed_alone_draws_the_weights(section: dict[str, Any]) -> None:
    before = torch.manual_seed(1).get_state()
    first = built(section).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = built(section).state_dict(), built(section, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_trial_leaves_no_trace_in_batch_norm() -> None:
    norm = built(SECTION).get_submodule("blocks.0.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.running_mean == 0).all()
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (here("Foreign", outputs=7), "2 x 7 for 2 images, expected 2 x 5"),
        (here("Flat"), "returns 2 for 2 images, expected 2 x 5"),
        (here("Pair"), "returns tuple"),
        (here("Fails"), "KeyError: 'a mistake of their own'"),
        (here("no_module"), "model._target_=test_build_model.no_module"),
        (here("Sized", num_outputs=5), "model.num_outputs"),
        ({"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 5, "kernel_size": 3}, "3 x 8 x 6"),
        (SECTION | {"hiden": [5]}, "model.hiden"),
    ],
)
def test_what_cannot_be_used_is_a_config_error(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        built(section)


def test_both_memory_formats_compute_the_same() -> None:
    model = built(SECTION).eval()
    assert isinstance(model, ConvNet)
    images = torch.randn(4, *SHAPE)
    with torch.no_grad():
        first = model(images.to(memory_format=torch.channels_last))
        second = model.to(memory_format=torch.contiguous_format)(images)
    torch.testing.assert_close(first, second)
