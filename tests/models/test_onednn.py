"""Training on maps in oneDNN's own memory layout: the same logits and gradients as on dense ones."""

import copy
from typing import Any

import pytest
import torch
from conftest import choices
from torch import Tensor, nn

from cnnlab import config
from cnnlab.models import ConvNet, build_model

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")

BLOCKS: dict[str, list[dict[str, Any]]] = {
    "same": [{"conv": 6, "kernel": 5, "padding": "same", "pool": 2}],
    "rectangular, strided": [{"conv": 5, "kernel": [1, 3], "stride": [2, 1], "padding": 2}],
    "overlapping pool": [{"conv": 4, "pool": [3, 2], "pool_stride": [2, 1]}],
    "average pool": [{"pool": 2, "pool_type": "average"}, {"conv": 20}],
    "batch norm": [{"conv": 6, "batch_norm": True, "pool": 2}, {"conv": 17, "batch_norm": True}],
}


def gradients(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Of every parameter, by the cross-entropy with the classes 0, 1, 2, ...; then the logits and all buffers."""
    logits = model(images)
    loss = nn.functional.cross_entropy(logits, torch.arange(len(images)) % logits.shape[1])
    return [*torch.autograd.grad(loss, list(model.parameters())), logits.detach(), *model.buffers()]


def assert_the_same_in_onednns_layout(model: nn.Module, shape: tuple[int, int, int]) -> None:
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    images[1] = 0.0  # all positions tie for the maximum
    images[2, :, :5] = 0.0
    exact = gradients(copy.deepcopy(model).double(), images.double())
    found = gradients(model, images.to_mkldnn())
    for wanted, got in zip(exact, found, strict=True):
        # float32 rounds sums of up to 10^4 terms to about 1e-5 of the largest of them; a sum itself can be much smaller:
        # a bias before batch norm has gradient 0.
        torch.testing.assert_close(got.to(wanted), wanted, rtol=1e-4, atol=2e-5 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("head", ["flatten", "global_max", "global_average", "conv"])
def test_blocks_and_heads(blocks: list[dict[str, Any]], head: Any) -> None:
    torch.manual_seed(1)
    model = ConvNet(blocks, (3, 13, 11), 4, head)
    assert model.takes_onednn
    assert_the_same_in_onednns_layout(model, (3, 13, 11))


@pytest.mark.parametrize("name", choices("model"))
def test_networks_that_take_it_learn_the_same(name: str) -> None:
    cfg = config.compose([f"model={name}", "data=cifar10"])
    if name == "cats-dogs":
        cfg.data.shape = [3, 150, 150]
    shape = tuple(cfg.data.shape)
    model, _ = build_model(cfg.model, shape, 10, seed=0)
    if isinstance(model, ConvNet) and model.takes_onednn:
        assert_the_same_in_onednns_layout(model, shape)
    else:
        assert name in {"allconv", "strided-same", "cifar-strided", "custom"} or name.startswith("mlp")


@pytest.mark.parametrize(
    ("block", "settings"),
    [
        ({"conv": 4, "stride": 2, "padding": "same"}, {}),  # more zeros at the end than at the start, for some sizes
        ({"conv": 4, "kernel": [3, 2], "padding": "same"}, {}),
        ({"conv": 4}, {"activation": "tanh"}),
        ({"conv": 4, "dropout": 0.5}, {}),
    ],
)
def test_what_onednn_lacks_or_does_slower_keeps_a_network_from_it(block: dict[str, Any], settings: dict[str, Any]) -> None:
    assert not ConvNet([{"conv": 4}, block], (3, 13, 11), 4, **settings).takes_onednn
