"""What a person sees: on a terminal, in a file, in quiet."""

import builtins
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import SMALL, epoch_lines, result

import cnnlab
from cnnlab.tracking.console import activating, duration, epoch_line
from cnnlab.tracking.records import Epoch, Score

Call = Callable[..., tuple[int, str, str]]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the end of a line
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("console", ["plain", "auto", "quiet"])
def test_into_a_file_go_plain_lines_with_the_numbers_of_the_record(console: str, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = call("train", *SMALL, "trainer.epochs=2", f"console={console}", f"hydra.run.dir={run}")
    assert (code, err) == (0, "")
    assert CONTROL.search(out) is None
    test = result(run)["test"]
    assert f"test accuracy {test['accuracy']:.4f}  loss {test['loss']:.4f}" in out
    if console == "quiet":
        assert out.count("\n") == 1
        return
    assert "6,370 parameters" in out  # 784 * 8 + 8 + 8 * 10 + 10
    shown, best = [line for line in out.splitlines() if line.startswith("epoch ")], -1.0
    for text, line in zip(shown, epoch_lines(run), strict=True):
        for split in ("train", "validation"):
            assert f"{split} loss {line[f'{split}_loss']:.4f} accuracy {line[f'{split}_accuracy']:.4f}" in text
        assert text.endswith("best") is (line["validation_accuracy"] > best)
        best = max(best, line["validation_accuracy"])


@pytest.mark.parametrize("name", ["augment=[flip,crop]", "[bold]", "[/]", "a:smile:b"])
def test_a_name_that_looks_like_markup_is_shown_as_it_is(name: str, call: Call, tmp_path: Path) -> None:
    run = tmp_path / name
    code, out, err = call("train", *SMALL, "trainer.steps=1", "console=plain", f"hydra.run.dir='{run}'")
    assert (code, err) == (0, "")
    assert out.count(str(run)) >= 3  # the header and the commands to go on with


@pytest.mark.parametrize(("lr", "expected"), [("0.1", 0), ("1e30", 3)], ids=["finishes", "diverges"])
def test_the_live_bar_gives_the_terminal_back(
    lr: str, expected: int, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for: this is a terminal
    monkeypatch.setenv("TERM", "xterm")
    run = tmp_path / "run"
    settings = ("trainer.epochs=2", "optimizer=sgd", f"optimizer.lr={lr}", "console=auto", f"hydra.run.dir={run}")
    code, out, _ = call("train", *SMALL, *settings)
    assert code == expected
    assert "\x1b[?25l" in out  # the cursor is hidden while the bar is there
    assert out.rfind("\x1b[?25h") > out.rfind("\x1b[?25l")
    if expected == 0:
        assert all(f"train loss {line['train_loss']:.4f}" in SEQUENCE.sub("", out) for line in epoch_lines(run))


def test_an_epoch_s_line_fits_the_terminal() -> None:
    scores = {"train": Score(1.1, 0.5), "validation": Score(1.2, 0.6), "test": Score(1.3, 0.7)}
    epoch = Epoch(1, 10, 0.001, "accuracy", scores, 2.0, 5000.0)
    lines = {width: epoch_line("epoch 1/2", epoch, True, width) for width in (None, 150, 110, 80)}
    assert all(len(line) <= width and line.endswith("best") for width, line in lines.items() if width)
    assert "validation loss 1.2000 accuracy 0.6000" in lines[None] == lines[150]
    assert "val loss 1.2000 acc 0.6000" in lines[110]
    assert "val acc 0.6000  test acc 0.7000" in lines[80]


class ZMQInteractiveShell:
    """What rich takes for a notebook's kernel."""


@pytest.mark.parametrize("widgets", [True, False])
def test_in_a_notebook_each_epoch_has_a_bar_where_widgets_are_installed(
    widgets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    class Output:
        """ipywidgets' Output: takes what is printed while it is entered."""

        closed = False

        def __enter__(self) -> None:
            assert not self.closed

        def __exit__(self, *_: object) -> None: ...

        def clear_output(self, wait: bool) -> None: ...

        def close(self) -> None:
            self.closed = True

    display = SimpleNamespace(display=shown.append)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(Output=Output))
    monkeypatch.setattr("cnnlab.tracking.console.find_spec", lambda name: widgets or None)
    cnnlab.fit(*SMALL[:-1], "trainer.epochs=2", f"hydra.run.dir={tmp_path / 'run'}")
    bars = [one for one in shown if isinstance(one, Output)]
    assert [bar.closed for bar in bars] == [True, True] * widgets
    assert len(shown) > len(bars)  # the lines that stay


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (185, "3:05"),
        (3599.4, "59:59"),
        (3599.6, "1:00:00"),
        (7385, "2:03:05"),
        (90000, "25:00:00"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(("path", "line"), [("env/bin", ""), ("elsewhere", "first         source 'an env/bin/activate'\n")])
def test_commands_that_the_shell_does_not_find_are_preceded_by_the_line_that_activates(
    path: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "an env" / "bin").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "env").symlink_to("an env")
    for folder in ("an env/bin", "elsewhere"):
        (tmp_path / folder / "python").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "an env"))
    monkeypatch.setenv("PATH", str(tmp_path / path))
    assert activating() == line
