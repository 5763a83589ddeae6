import json
import re
from pathlib import Path
from typing import Any

import pytest

from cnnlab.sweep import display
from cnnlab.sweep.display import Display
from cnnlab.sweep.manifest import Job, Manifest

LINE = {"epoch": 2, "step": 40, "lr": 0.1, "train_loss": 0.5, "train_accuracy": 0.8, "train_s": 1.0}
VALIDATED = LINE | {"validation_loss": 0.6, "validation_accuracy": 0.75}


@pytest.mark.parametrize(
    ("line", "steps", "share", "says"),
    [
        (VALIDATED, None, 0.5, "epoch 2 of 4  validation accuracy 0.7500"),
        (LINE, None, 0.5, "epoch 2 of 4  train accuracy 0.8000"),
        (VALIDATED, 50, 0.8, "epoch 2  validation accuracy 0.7500"),
        (LINE | {"validation_loss": None, "validation_mae": None}, None, 0.5, "epoch 2 of 4  validation mae nan"),
        ({"epoch": 2, "step": 40, "train_s": 1.0}, None, 0.5, "epoch 2 of 4"),
    ],
)
def test_progress_of_a_run(line: dict[str, Any], steps: int | None, share: float, says: str) -> None:
    assert display.progress([{}, line], {"epochs": 4, "steps": steps}) == (share, says)


def test_progress_before_the_first_epoch_ends() -> None:
    assert display.progress([], {"epochs": 4, "steps": None}) == (0.0, "epoch 1 of 4")


def test_ended_lines() -> None:
    done = Job("lenet-seed2", [], "r", 2, "done", None, "validation accuracy", 0.89124, 12.1)
    assert display.ended_line(done, 3, 12) == " 3/12  lenet-seed2  validation accuracy 0.8912  12.1 s"
    diverged = Job("mlp", [], "r", 0, "done", None, "validation mae", None, 2.0)
    assert "validation mae nan" in display.ended_line(diverged, 3, 12)
    failed = Job("a", [], "r", 0, "failed", "[no] such thing")
    assert display.ended_line(failed, 1, 2) == r"1/2  a  [red]failed[/]: \[no] such thing"


def test_a_running_job_is_shown_from_its_first_second_on(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.add([Job("a", [], "r", 0, "running"), Job("b", [], "r", 1)])
    shown = Display(manifest, ["a", "b"], "auto")

    def table() -> str:
        with shown.terminal.capture() as said:
            shown.terminal.print(shown._table(manifest.jobs()))
        return re.sub(r" +", " ", said.get())

    assert "1 running 1 pending" in table()
    assert "a starts" in table()
    run = tmp_path / "a"
    run.mkdir()
    (run / "config.yaml").write_text("trainer: {epochs: 4, steps: null}")
    assert "a epoch 1 of 4" in table()
    (run / "metrics.jsonl").write_text(json.dumps(VALIDATED) + "\n" + '{"epoch": 3, "st')
    assert "a epoch 2 of 4 validation accuracy 0.7500" in table()
    assert "left" in table()
