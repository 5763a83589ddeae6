import json
import math
import re
from pathlib import Path

import pytest

from cnnlab.status import Status
from cnnlab.sweep import display
from cnnlab.sweep.display import Display
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking.records import Epoch, Score

TRAINED = {"train": Score(0.5, 0.8)}


@pytest.mark.parametrize(
    ("validation", "steps", "share", "says"),
    [
        (0.75, None, 0.5, "epoch 2 of 4  validation mae 0.7500"),
        (None, None, 0.5, "epoch 2 of 4  train mae 0.8000"),
        (0.75, 50, 0.8, "epoch 2  validation mae 0.7500"),
        (math.nan, None, 0.5, "epoch 2 of 4  validation mae nan"),
    ],
)
def test_progress_of_a_run(validation: float | None, steps: int | None, share: float, says: str) -> None:
    scores = TRAINED if validation is None else TRAINED | {"validation": Score(0.6, validation)}
    epochs = [Epoch(number, 20 * number, 0.1, "mae", scores, 1.0, 60.0) for number in (1, 2)]
    assert display.progress(epochs, {"epochs": 4, "steps": steps}) == (share, says)


def test_progress_before_the_first_epoch_ends() -> None:
    assert display.progress([], {"epochs": 4, "steps": None}) == (0.0, "epoch 1 of 4")


def test_ended_lines() -> None:
    done = Job("lenet-seed2", [], "r", 2, Status.FINISHED, None, "validation", "accuracy", 0.89124, 12.1)
    assert display.ended_line(done, 3, 12) == " 3/12  lenet-seed2  validation accuracy 0.8912  12.1 s"
    diverged = Job("mlp", [], "r", 0, Status.FINISHED, None, "validation", "mae", None, 2.0)
    assert "validation mae nan" in display.ended_line(diverged, 3, 12)
    failed = Job("a", [], "r", 0, Status.FAILED, "[no] such thing")
    assert display.ended_line(failed, 1, 2) == r"1/2  a  [red]failed[/]: \[no] such thing"


def test_a_running_job_is_shown_from_its_first_second_on(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.add([Job("a", [], "r", 0, Status.RUNNING), Job("b", [], "r", 1)])
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
    line = Epoch(2, 40, 0.1, "accuracy", TRAINED, 1.0, 60.0).line()
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n" + '{"epoch": 3, "st')
    assert "a epoch 2 of 4 train accuracy 0.8000" in table()
    assert "left" in table()
