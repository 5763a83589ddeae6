"""The memory layout that a run trains in."""

import pytest
import torch

from cnnlab import config
from cnnlab.models import ConvNet
from cnnlab.training.runtime import Runtime
from cnnlab.training.session import build_session

SMALL = ["data=digits", "data.limit=40", "data.validation=10", "trainer.device=cpu", "trainer.threads=1"]


class Own(ConvNet):
    """Whose forward pass may do anything with the images."""


@pytest.mark.parametrize(
    ("changes", "fast", "trains"),
    [
        (["model=lenet"], True, True),
        (["model=lenet"], False, False),
        (["model=lenet", "model.activation=tanh"], True, False),
        (["model=mlp"], True, False),
        (["model=lenet", "model._target_=test_session.Own"], True, False),
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
