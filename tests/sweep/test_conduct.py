from pathlib import Path

import pytest

from cnnlab.status import Status
from cnnlab.sweep.conduct import tell_end
from cnnlab.sweep.manifest import Job, Manifest


def told(path: Path, capsys: pytest.CaptureFixture[str], *jobs: Job) -> str:
    tell_end(Manifest(path), jobs)
    return capsys.readouterr().out


def failed(name: str, cause: str, exit_code: int, status: Status = Status.FAILED) -> Job:
    return Job(name, [], "r", 0, status, cause, exit_code=exit_code)


def test_alike_causes_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [failed(name, f"outputs/s/{name}: the disk is full", 4) for name in ("a", "b")]
    said = told(tmp_path, capsys, *jobs, failed("c", "outputs/s/c: no such thing", 2))
    assert "failed  a, b\n  outputs/s/JOB: the disk is full\n" in said
    assert "failed  c\n  outputs/s/c: no such thing\n" in said
    assert "go on" in said


def test_nothing_to_go_on_with_where_it_would_diverge_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Job("a", [], "r", 0, Status.FINISHED, seconds=61.0)
    diverged = failed("b", "the loss is not finite", 3, Status.DIVERGED)
    said = told(tmp_path, capsys, done, diverged)
    assert "go on" not in said
    assert "compare" in said
    stopped = Job("c", [], "r", 0, Status.INTERRUPTED, "stopped by a signal", exit_code=130)
    assert "go on" in told(tmp_path, capsys, diverged, stopped)


@pytest.mark.parametrize(("place", "hint"), [("outputs/sweeps/a", "command, with sweep.name=a"), ("outputs/mine", "command")])
def test_the_place_is_named_where_the_command_may_not_have(
    place: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"the same {hint}\n" in told(Path(place), capsys, Job("c", [], "r", 0, Status.INTERRUPTED, "a signal"))
