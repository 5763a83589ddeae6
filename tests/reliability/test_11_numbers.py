"""Row 11: nan and infinity in input, loss, gradient and weight, and extreme settings: stopped before the update, exit 3, the
step named, and no checkpoint holds such a number."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from protocol import share
from safetensors.torch import load_file
from small_runs import SMALL, checkpoint_meta
from torch import Tensor

from cnnlab.training import trainer
from cnnlab.training.step import Step

RUN = (*SMALL, "trainer.epochs=3", "checkpoint.every_s=0")  # 12 steps


class Backward(torch.autograd.Function):
    """The identity, whose gradient is `value` everywhere."""

    @staticmethod
    def forward(context: Any, numbers: Tensor, value: float) -> Tensor:
        context.value = value
        return numbers.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(gradient, context.value), None


def spoil(place: str, at: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let step `at`, counted from 0, meet `value` at that place."""
    now = {"step": -1}

    def wrap(name: str, change: Callable[[Step, Any], Any]) -> None:
        original = getattr(Step, name)

        def wrapped(self: Step, *arguments: Any) -> Any:
            if name == "differentiate":
                now["step"] = arguments[1]
                if now["step"] == at:
                    change(self, None)
            result = original(self, *arguments)
            return change(self, result) if name != "differentiate" and now["step"] == at else result

        monkeypatch.setattr(Step, name, wrapped)

    def weight(step: Step, _: object) -> None:
        with torch.no_grad():
            step.parameters[0].view(-1)[3] = value

    def loss(step: Step, _: object) -> None:
        original = step.task.training_loss

        def spoiled(outputs: Tensor, targets: Tensor) -> Tensor:
            step.task.training_loss = original  # type: ignore[method-assign]
            if place == "gradient":
                return original(Backward.apply(outputs, value), targets)
            return original(outputs, targets) + value

        step.task.training_loss = spoiled  # type: ignore[method-assign]

    def images(step: Step, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        numbers = batch[0].float()
        numbers[0, 0, 3, 3] = value
        return numbers, batch[1]

    wrap("differentiate", loss if place in ("loss", "gradient") else lambda *_: None)
    if place == "input":
        wrap("batch", images)
    if place == "weight":
        wrap("update", weight)


@pytest.mark.parametrize(
    ("place", "at", "value"),
    share(itertools.product(("input", "loss", "gradient", "weight"), (0, 4, 11), (torch.nan, torch.inf, -torch.inf)), 5),
)
def test_training_stops_before_the_update(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, at: int, value: float
) -> None:
    spoil(place, at, value, monkeypatch)
    monkeypatch.setattr(trainer, "LOOK_EVERY_S", 0.0)
    run = tmp_path / "run"
    code, _, err = call("train", *RUN, f"hydra.run.dir={run}")
    assert (code, err.count("\n")) == (3, 1)
    assert f"step {at + 1};" in err
    if at == 0:
        assert not (run / "last.safetensors").exists()
    else:
        assert checkpoint_meta(run / "last.safetensors")["progress"]["step"] == at
        assert_finite(run)


def assert_finite(run: Path) -> None:
    for path in run.glob("*.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values() if tensor.is_floating_point()), path


EXTREME = [
    "optimizer.lr=1e30", "optimizer.lr=1e-320", "optimizer.lr=0", "optimizer.lr=-1", "optimizer.lr=inf",
    "optimizer.lr=nan", "optimizer.weight_decay=1e30", "optimizer.weight_decay=-1", "optimizer.betas=[0,0]",
    "optimizer.betas=[1,1]", "optimizer.eps=0", "optimizer.eps=1e30", "trainer.clip_norm=1e-40",
    "trainer.clip_norm=1e30", "trainer.clip_norm=0", "trainer.batch_size=1", "trainer.batch_size=1000000000",
    "trainer.batch_size=9223372036854775808", "trainer.epochs=0", "trainer.steps=1", "trainer.steps=0",
    "trainer.log_every=1", "trainer.log_every=1000000000000000000000", "trainer.patience=0", "trainer.threads=0",
    "trainer.threads=100000", "model.hidden=[1]", "model.hidden=[0]", "model.hidden=[1000000000000]",
    "model.dropout=1", "model.dropout=0.999999", "model.dropout=-1", "seed=-1", "seed=18446744073709551616",
    "data.limit=1", "data.limit=0", "data.validation=0", "data.validation=100000000", "evaluation.every=1000",
    "checkpoint.every_s=1e300", "checkpoint.every_s=-1", "task.label_smoothing=1", "task.label_smoothing=2",
]  # fmt: skip


@pytest.mark.parametrize("setting", share(EXTREME, 6))
def test_an_extreme_setting(call, tmp_path: Path, setting: str) -> None:
    run = tmp_path / "run"
    code, _, err = call("train", *RUN, setting, f"hydra.run.dir={run}")
    assert code in (0, 2, 3, 4)
    assert len(err.splitlines()) <= (code != 0) + err.count("warning:"), err
    assert code != 2 or setting.partition(".")[0] in err, err
    assert_finite(run)
