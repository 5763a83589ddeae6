"""What a person sees: on a terminal, in a file, in quiet."""

import builtins
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cnnlab
from cnnlab.tracking.console import duration, epochs

Call = Callable[..., tuple[int, str, str]]
SMALL = ("data=digits", "data.limit=100", "data.validation=50", "model=mlp", "model.hidden=[8]", "trainer.batch_size=32",
         "trainer.epochs=2", "trainer.threads=1", "seed=3")  # fmt: skip
DIVERGES = ("optimizer=sgd", "optimizer.lr=1e30")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the end of a line
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("console", ["plain", "auto"])
def test_into_a_file_go_plain_lines(console: str, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = call("train", *SMALL, f"console={console}", f"hydra.run.dir={run}")
    assert (code, err) == (0, "")
    assert CONTROL.search(out) is None
    assert "mlp (MLP), 6,370 parameters" in out  # 784 * 8 + 8 + 8 * 10 + 10
    assert "digits, 28 x 28 x 1, 10 classes: 100 train, 50 validation, 2,000 test" in out
    assert "Adam, lr 0.001, batches of 32, 8 steps, 4 an epoch, seed 3" in out
    epochs = [line for line in out.splitlines() if line.startswith("epoch ")]
    best = -1.0
    for number, (shown, line) in enumerate(zip(epochs, metrics(run), strict=True), 1):
        assert shown.startswith(f"epoch {number}/2  train loss {line['train_loss']:.4f} accuracy {line['train_accuracy']:.4f}")
        assert f"validation loss {line['validation_loss']:.4f} accuracy {line['validation_accuracy']:.4f}" in shown
        assert shown.endswith("best") is (line["validation_accuracy"] > best)
        best = max(best, line["validation_accuracy"])
    test = json.loads((run / "result.json").read_text())["test"]
    assert f"test accuracy {test['accuracy']:.4f}  loss {test['loss']:.4f}  (last weights, 8 steps in " in out
    assert f"python -m cnnlab.evaluate {run}\n" in out
    assert f"python -m cnnlab.train resume={run} trainer.epochs=4\n" in out


def test_quiet_prints_one_line(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = call("train", *SMALL, "console=quiet", f"hydra.run.dir={run}")
    test = json.loads((run / "result.json").read_text())["test"]
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert out.startswith(f"{run}  test accuracy {test['accuracy']:.4f}  loss {test['loss']:.4f}  2 epochs  ")
    assert CONTROL.search(out.removesuffix("\n")) is None


@pytest.mark.parametrize("name", ["augment=[flip,crop]", "[bold]", "[/]", "a:smile:b"])
def test_a_name_that_looks_like_markup_is_shown_as_it_is(name: str, call: Call, tmp_path: Path) -> None:
    run = tmp_path / name
    code, out, err = call("train", *SMALL, "console=plain", f"hydra.run.dir='{run}'")
    assert (code, err) == (0, "")
    assert out.count(str(run)) == 4  # the header, and the three lines of advice


@pytest.mark.parametrize(("changes", "expected"), [((), 0), (DIVERGES, 3)], ids=["finishes", "diverges"])
def test_the_live_bar_gives_the_terminal_back(
    changes: tuple[str, ...], expected: int, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for: this is a terminal
    monkeypatch.setenv("TERM", "xterm")
    run = tmp_path / "run"
    code, out, _ = call("train", *SMALL, *changes, "console=auto", f"hydra.run.dir={run}")
    assert code == expected
    assert "\x1b[?25l" in out  # the cursor is hidden while the bar is there
    assert out.rfind("\x1b[?25h") > out.rfind("\x1b[?25l")
    if expected == 0:
        left = SEQUENCE.sub("", out)
        assert all(f"train loss {line['train_loss']:.4f}" in left for line in metrics(run))


class ZMQInteractiveShell:
    """What rich takes for a notebook's kernel."""


@pytest.mark.parametrize("widgets", [True, False])
def test_in_a_notebook_each_epoch_has_a_bar_where_widgets_are_installed(
    widgets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    class Output:
        """ipywidgets' Output: takes what is printed while it is entered."""

        def __init__(self) -> None:
            self.closed = False

        def __enter__(self) -> None:
            assert not self.closed

        def __exit__(self, *_: object) -> None: ...

        def clear_output(self, wait: bool) -> None: ...

        def close(self) -> None:
            self.closed = True

    display = SimpleNamespace(display=shown.append)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    for name, module in (("IPython", SimpleNamespace(display=display)), ("IPython.display", display)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(Output=Output))
    monkeypatch.setattr("cnnlab.tracking.console.find_spec", lambda name: widgets or None)
    cnnlab.fit(*SMALL, f"hydra.run.dir={tmp_path / 'run'}")
    bars = [one for one in shown if isinstance(one, Output)]
    assert [bar.closed for bar in bars] == [True, True] * widgets
    assert len(shown) > len(bars)  # the lines that stay


def test_early_stopping_and_the_choice_of_weights_are_told(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlab.training.trainer.judge", lambda session, progress, score: _worse_each_time(progress))
    changes = ("trainer.epochs=9", "trainer.patience=2", "evaluation.weights=best", "console=plain")
    code, out, _ = call("train", *SMALL, *changes, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0
    assert "(best weights by validation, 12 steps in " in out
    assert ", stopped early)" in out


def _worse_each_time(progress: object) -> bool:
    """The first epoch is the best."""
    first = progress.step == 4  # type: ignore[attr-defined]
    progress.bad_epochs += not first  # type: ignore[attr-defined]
    return first


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (8.24, "8.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (60, "1:00"),
        (185, "3:05"),
        (3599.4, "59:59"),
        (3599.6, "1:00:00"),
        (7385, "2:03:05"),
        (90000, "25:00:00"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_one_epoch_is_not_many() -> None:
    assert [epochs(count) for count in (1, 2)] == ["1 epoch", "2 epochs"]
