import io
import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cnnlab.status import Status
from cnnlab.sweep import display
from cnnlab.sweep.display import Display
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking.records import Epoch, Score

TRAINED = {"train": Score(0.5, 0.8)}


@pytest.mark.parametrize(
    ("validation", "steps", "share", "score"),
    [(0.75, None, 0.5, "validation mae 0.7500"), (None, None, 0.5, "train mae 0.8000"), (math.nan, 50, 0.8, "mae nan")],
)
def test_progress_of_a_run(validation: float | None, steps: int | None, share: float, score: str) -> None:
    scores = TRAINED if validation is None else TRAINED | {"validation": Score(0.6, validation)}
    epochs = [Epoch(number, 20 * number, 0.1, "mae", scores, 1.0, 60.0) for number in (1, 2)]
    done, says = display.progress(epochs, {"epochs": 4, "steps": steps})
    assert (done, says.endswith(score)) == (share, True)
    assert display.progress([], {"epochs": 4, "steps": steps})[0] == 0.0


@pytest.mark.parametrize(
    ("elapsed", "ended", "shares", "pending", "expected"),
    [(10.0, 0, [0.01], 3, None), (10.0, 1, [], 2, 20.0), (12.0, 1, [0.25, 0.25], 1, 20.0)],
)
def test_time_left_if_all_goes_on_as_so_far(
    elapsed: float, ended: int, shares: list[float], pending: int, expected: float | None
) -> None:
    assert display.time_left(elapsed, ended, shares, pending) == expected


def test_an_ended_job_is_told_with_its_score_or_its_cause() -> None:
    done = Job("lenet-seed2", [], "r", 2, Status.FINISHED, None, "validation", "accuracy", 0.89124, 12.1)
    assert display.ended_line(done, 3, 12) == " 3/12  lenet-seed2  validation accuracy 0.8912  12.1 s"
    failed = display.ended_line(Job("a", [], "r", 0, Status.FAILED, "[no] such thing"), 1, 2)
    assert failed.endswith(r"\[no] such thing")  # no markup


def test_a_trial_is_told_with_the_values_that_were_drawn_as_far_as_they_fit() -> None:
    keys = ["optimizer.lr", "model.hidden"]
    job = Job("trial000", ["data=digits", "++optimizer.lr=0.123456", "model.hidden=[8]", "seed=1"], "r", 1, drawn=keys)
    job = replace(job, status=Status.FINISHED, split="validation", metric="accuracy", score=0.5)
    told = "1/2  trial000  validation accuracy 0.5000"
    assert display.ended_line(job, 1, 2) == f"{told}  optimizer.lr=0.1235  model.hidden=[8]"
    assert display.ended_line(job, 1, 2, 80) == f"{told}  lr=0.1235  hidden=[8]"
    assert display.ended_line(job, 1, 2, 60) == f"{told}  lr=0.1235  hidde…"
    assert display.ended_line(job, 1, 2, 50) == told


def test_time_and_pending_jobs_are_those_of_all_lots_of_a_search(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.add([Job("a", [], "a", 0, Status.FINISHED), Job("b", [], "b", 0)])
    shown = Display(manifest, ["b"], "plain", lots=1, total=5, began=time.monotonic() - 90)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(shown._table(manifest.jobs()[1:]))
    said = console.export_text()
    assert "1/5" in said
    assert "4 pending" in said
    assert re.search(r"1:3\d, about 6:0\d left", said)  # 90 s for one, four to come


def test_the_live_table_counts_all_jobs_and_names_the_best_so_far(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    done = [
        Job(name, [], name, 0, Status.FINISHED, None, "validation", "accuracy", score)
        for name, score in (("a", 0.8), ("b", 0.7))
    ]
    manifest.add([*done, Job("c", [], "c", 0, Status.RUNNING)])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(Display(manifest, ["c"], "plain", done=2, total=3)._table(manifest.jobs()))
    said = console.export_text()
    assert "2/3" in said
    assert "best so far  a  validation accuracy 0.8000" in said


def test_a_running_job_is_shown_from_its_first_second_on(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.add([Job("a", [], "r", 0, Status.RUNNING), Job("b", [], "r", 1)])
    shown = Display(manifest, ["a", "b"], "auto")

    def table() -> str:
        with shown.terminal.capture() as said:
            shown.terminal.print(shown._table(manifest.jobs()))
        return re.sub(r" +", " ", said.get())

    assert "1 running 1 pending" in table()
    run = tmp_path / "a"
    run.mkdir()
    (run / "config.yaml").write_text("trainer: {epochs: 4, steps: null}")
    assert "a epoch 1 of 4" in table()
    line = Epoch(2, 40, 0.1, "accuracy", TRAINED, 1.0, 60.0).line()
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n" + '{"epoch": 3, "st')
    assert "a epoch 2 of 4 train accuracy 0.8000" in table()
