"""The manifest: changed by many processes at once, and set right after a kill."""

import json
import multiprocessing
from pathlib import Path

import pytest

from cnnlab.errors import CheckpointError
from cnnlab.status import Status
from cnnlab.sweep import grid
from cnnlab.sweep.manifest import KILLED, Job, Manifest
from cnnlab.tracking.run import RunDirectory


def manifest(path: Path, *statuses: Status) -> Manifest:
    made = Manifest(path)
    made.add([Job(f"job{number}", [f"seed={number}"], "r", number, status) for number, status in enumerate(statuses)])
    return made


def mark(path: Path, number: int) -> None:
    Manifest(path).update(f"job{number}", status=Status.FINISHED, score=number / 10)


def test_no_change_of_many_processes_is_lost(tmp_path: Path) -> None:
    made = manifest(tmp_path, *[Status.RUNNING] * 12)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(mark, [(tmp_path, number) for number in range(12)])
    assert [(job.status, job.score) for job in made.jobs()] == [("finished", number / 10) for number in range(12)]


def test_the_largest_sweep_can_be_read_back(tmp_path: Path) -> None:
    overrides = [f"++model.of_{number}.them=0.00{number}" for number in range(12)]
    jobs = [Job(f"lenet-optimizer.lr-0.00{number}", overrides, "0" * 16, number) for number in range(grid.MOST)]
    Manifest(tmp_path).add(jobs)
    assert Manifest(tmp_path).jobs() == jobs


def test_after_a_kill_nobody_seems_to_run_and_lost_runs_are_due_again(tmp_path: Path) -> None:
    made = manifest(tmp_path, *map(Status, ("running", "running", "finished", "finished", "failed")))
    for name in ("job0", "job3"):
        (tmp_path / name).mkdir()
    (tmp_path / "job3" / "result.json").write_text("{}")
    with RunDirectory(tmp_path / "job0").locked():  # a process is at it
        made.reconcile()
    assert [job.status for job in made.jobs()] == ["running", "interrupted", "pending", "finished", "failed"]
    assert made.jobs()[1].cause == KILLED


def test_without_a_manifest_there_are_no_jobs_and_none_is_made(tmp_path: Path) -> None:
    made = Manifest(tmp_path)
    made.update("job0", status=Status.FINISHED)
    made.reconcile()
    assert made.jobs() == []
    assert not made.path.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"jobs": [{"directory": "a"}]}', '{"jobs": 3}', "[" * 100_000])
def test_a_damaged_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="not the manifest of a sweep"):
        Manifest(tmp_path).jobs()


@pytest.mark.parametrize(
    ("field", "value"),
    [("directory", 5), ("directory", "../../x"), ("directory", "/tmp"), ("seconds", "abc"), ("recipe", [1]),
     ("overrides", None), ("overrides", [5]), ("seed", "a"), ("status", "done"), ("score", "0.9")],
)  # fmt: skip
def test_a_damaged_job_is_told(tmp_path: Path, field: str, value: object) -> None:
    made = manifest(tmp_path, Status.FAILED)
    (entry,) = json.loads(made.path.read_text())["jobs"]
    made.path.write_text(json.dumps({"jobs": [entry | {field: value}]}))
    with pytest.raises(CheckpointError, match=field):
        made.jobs()


def test_what_the_jobs_differ_in(tmp_path: Path) -> None:
    made = Manifest(tmp_path)
    asked = [["data=digits", f"++optimizer.lr={lr}", *more] for lr, more in ((0.1, []), (0.2, []), (0.1, ["model=mlp"]))]
    made.add([Job("first", asked[0], "r0", 0)])
    assert made.varied() == ["data", "optimizer.lr"]  # a lone one: others may come
    made.add([Job(f"job{number}", job, f"r{number}", 0) for number, job in enumerate(asked[1:], 1)])
    assert made.varied() == ["optimizer.lr", "model"]


def test_the_jobs_of_a_search_differ_in_what_it_draws(tmp_path: Path) -> None:
    made = Manifest(tmp_path)
    made.add([Job("trial000", ["data=digits", "++optimizer.lr=0.1", "model=mlp"], "r", 0, drawn=["optimizer.lr", "model"])])
    assert made.varied() == ["optimizer.lr", "model"]  # the first trial, too
