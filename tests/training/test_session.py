"""The memory layout that a run trains in."""

from typing import Any

import pytest
import torch

from cnnlab import config
from cnnlab.models import ConvNet
from cnnlab.training.runtime import Runtime
from cnnlab.training.session import build_session

SMALL = ["data=digits", "data.limit=40", "data.validation=10", "trainer.device=cpu", "trainer.threads=1"]


class Own(ConvNet):
    """Whose forward pass may do anything with the images."""


def changed(blocks: Any, input_shape: tuple[int, int, int], num_outputs: int) -> ConvNet:
    """A function's network may hold layers that oneDNN's layout lacks, such as this one."""
    network = ConvNet(blocks, input_shape, num_outputs)
    network.blocks.append(torch.nn.Tanh())
    return network


@pytest.mark.parametrize(
    ("changes", "fast", "trains"),
    [
        (["model=lenet"], True, True),
        (["model=lenet"], False, False),
        (["model=lenet", "model.activation=tanh"], True, False),
        (["model=mlp"], True, False),
        (["model=lenet", "model._target_=test_session.Own"], True, False),
        (["model=lenet", "model.blocks=[]"], True, False),
    ],
)
def test_onednns_layout_is_for_training_alone(
    changes: list[str], fast: bool, trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "has_fast_onednn_layout", fast)
    session = build_session(config.typed(config.compose([*SMALL, *changes])))
    images, _ = session.step.batch(torch.arange(3), 0)
    shown = session.step.scale(images)
    assert shown.is_mkldnn is trains
    assert not session.scale(images).is_mkldnn
    assert torch.equal(shown.to_dense(), session.scale(images))
    session.step(torch.arange(8), 0, 1.0)
    assert int(session.step.first_bad) == -1
    assert session.outputs("validation").shape == (10, 10)


def test_a_functions_network_trains_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "has_fast_onednn_layout", True)
    blocks = "model.blocks=[{conv: 4, pool: 2}]"
    target = "model._target_=test_session.changed"
    session = build_session(config.typed(config.compose([*SMALL, "model=custom", target, blocks])))
    session.step(torch.arange(8), 0, 1.0)
    assert int(session.step.first_bad) == -1


@pytest.mark.parametrize("fast", [True, False])
def test_an_overflow_behind_relu_and_pooling_is_noticed(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's relu and max pooling turn nan into numbers; dense ones hand it on to the loss."""
    monkeypatch.setattr(Runtime, "has_fast_onednn_layout", fast)
    session = build_session(config.typed(config.compose([*SMALL, "model=lenet"])))
    assert session.step.network_is_finite()
    with torch.no_grad():
        session.model.blocks[0].conv.weight[0] = torch.nan  # type: ignore[index, union-attr]
    session.step.parameters = list(session.model.head.parameters())  # type: ignore[union-attr]  # whose values are fine
    session.step(torch.arange(8), 0, 1.0)
    assert int(session.step.first_bad) >= 0 or not session.step.network_is_finite()
    assert session.model.training
