"""What trains without an error and is probably a mistake: one line each, on stderr, and the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import metrics
from small_runs import resume, train
from torch import nn

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
        ([f"{OWN}.Squashed", "model.end=module"], ["take the softmax out"]),
        ([f"{OWN}.Squashed", "model.end=function"], ["take the softmax out"]),
        ([f"{OWN}.Squashed", "model.end=divided"], ["take the softmax out"]),
        ([f"{OWN}.Squashed", "model.end=sigmoid", "task=binary", "data.classes=[3,5]"], ["take the sigmoid out"]),
        ([f"{OWN}.Squashed", "model.end=log"], []),
        (
            ["model=mlp", "model.hidden=[8]", "optimizer=sgd", "optimizer.lr=300", *TWENTY],
            ["of dense.activation0 are dead"],
        ),
        (["model=mlp", "model.activation=sigmoid", "optimizer.lr=30", *TWENTY], ["worse than guessing"]),
        (["model=mlp", f"data.source._target_={__name__}.alike"], ["one and the same"]),
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
