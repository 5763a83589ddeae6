"""What trains without an error and is probably a mistake: one line each, on stderr, and the same bits."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import metrics
from small_runs import resume, train
from torch import nn
from torch.nn import functional

from cnnlab import cli
from cnnlab.data.source import Source
from cnnlab.data.splits import InMemory
from cnnlab.tracking.recorder import Recorder
from cnnlab.training import mistakes

OWN = f"model._target_={__name__}"
TWENTY = ("trainer.batch_size=5", "trainer.epochs=1")  # steps


class Squashed(nn.Module):
    """A network of one's own that ends as its `end` says."""

    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int, end: str) -> None:
        super().__init__()
        self.end, self.dense = end, nn.Linear(int(np.prod(input_shape)), num_outputs)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = self.dense(self.drop(images.flatten(1)))
        ends = {"module": nn.Softmax(1), "function": lambda x: x.softmax(1), "sigmoid": torch.sigmoid}
        ends |= {"log": lambda x: x.log_softmax(1), "divided": lambda x: x.exp() / x.exp().sum(1, keepdim=True)}
        return ends[self.end](outputs)


class Rectifying(nn.Module):
    """A network of one's own that calls ReLU as a function; `dead`: which of its two gives 0 for every image."""

    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int, dead: int, six: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(int(np.prod(input_shape)), 8), nn.Linear(8, num_outputs)
        self.dead, self.relu = dead, functional.relu6 if six else torch.relu

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.first(images.flatten(1)) - 1e6 * (self.dead == 1))
        return self.last(first) if self.dead == 1 else self.last(self.relu(first - 1e6 * (self.dead == 2)))


class SlowInBf16(nn.Module):
    """A network of one's own that takes 0.1 s longer where autocast is on."""

    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(int(np.prod(input_shape)), num_outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.1 * torch.is_autocast_enabled("cpu"))
        outputs: torch.Tensor = self.dense(images.flatten(1))
        return outputs


def alike(root: str, download: bool, one_class: bool = False) -> Source:
    """Two hundred images: one and the same, or different ones of one class."""
    torch.manual_seed(0)
    images = torch.randint(256, (200, 1, 28, 28), dtype=torch.uint8)
    labels = torch.zeros(200).long() if one_class else torch.arange(200) % 2
    split = InMemory(images if one_class else images[:1].repeat(200, 1, 1, 1), labels)
    return Source(split, split, ("a", "b"))


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([f"{OWN}.Squashed", "model.end=module"], ["remove the softmax"]),
        ([f"{OWN}.Squashed", "model.end=function"], ["remove the softmax"]),
        ([f"{OWN}.Squashed", "model.end=divided"], ["remove the softmax"]),
        ([f"{OWN}.Squashed", "model.end=sigmoid", "task=binary", "data.classes=[3,5]"], ["remove the sigmoid"]),
        ([f"{OWN}.Squashed", "model.end=log"], []),
        (
            ["model=mlp", "model.hidden=[8]", "optimizer=sgd", "optimizer.lr=300", *TWENTY],
            ["of dense.activation0 are dead"],
        ),
        ([f"{OWN}.Rectifying", "model.dead=1"], ["of relu 1 are dead"]),
        ([f"{OWN}.Rectifying", "model.dead=2", "model.six=true"], ["of relu 2 are dead"]),
        ([f"{OWN}.Rectifying", "model.dead=0"], []),
        (
            [f"{OWN}.SlowInBf16", "trainer.precision=bf16", "trainer.threads=1", "trainer.steps=1"],
            ["remove trainer.precision=bf16"],
        ),
        (
            ["model=mlp", "model.activation=sigmoid", "optimizer.lr=30", *TWENTY],
            ["guessing (2.3026): the learning rate 30 is too large"],
        ),
        (["model=mlp", f"data.source._target_={__name__}.alike"], ["are all the same"]),
        (["model=mlp", f"data.source._target_={__name__}.alike", "data.source.one_class=true"], ["are of class a"]),
        (["model=lenet"], []),
    ],
)
def test_a_mistake_is_told_in_one_line(
    overrides: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = () if "data.source" in " ".join(overrides) else ("data=digits",)
    small = ("data.limit=100", "data.validation=50", "trainer.epochs=2", "console=quiet", f"hydra.run.dir={tmp_path}/run")
    assert cli.run("train", [*data, *small, *overrides]) == 0
    told = warnings(capsys)
    assert len(told) == len(words), told
    assert all(word in line for word, line in zip(words, told, strict=True)), told


@pytest.mark.parametrize(("bf16", "count"), [(2.0, 1), (1.0, 0)])
def test_bf16_that_is_slower_is_told_from_a_probe(
    bf16: float, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mistakes, "pass_seconds", lambda session: (bf16, 1.0))
    run = train(tmp_path / "run", "trainer.precision=bf16", "trainer.epochs=1")
    assert len(warnings(capsys)) == count
    resume(run, "trainer.epochs=2")  # it began before: told already
    assert not warnings(capsys)


def test_looking_for_mistakes_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("model=lenet", "model.dropout=0.3", "model.batch_norm=true", "trainer.precision=bf16", "trainer.epochs=2")
    looked = train(tmp_path / "looked", *overrides)
    monkeypatch.setattr(Recorder, "warn", lambda self, mistakes: None)
    assert metrics(train(tmp_path / "blind", *overrides)) == metrics(looked)
