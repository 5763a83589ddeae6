"""The run directory: claimed once, written by one process at a time, discarded without harm."""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from cnnlab import composing
from cnnlab.errors import CheckpointError, RunTakenError
from cnnlab.reading import read_json_lines
from cnnlab.status import Status
from cnnlab.tracking import files
from cnnlab.tracking.records import Epoch, Result, Score
from cnnlab.tracking.run import RunDirectory, claim, environment, find_run, open_run

REPOSITORY = Path(__file__).resolve().parents[2]


def test_two_claims_of_one_name_get_two_directories(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim(tmp_path / "a" / "run", may_rename=True), range(8)))
    assert {path.name for path in claimed} == {"run", *(f"run_{number}" for number in range(2, 9))}


def test_the_lock_ends_with_its_block_and_not_with_an_attempt(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with suppress(ZeroDivisionError), run.locked():
        for _ in range(2):
            assert run.is_locked()
            with pytest.raises(RunTakenError, match=re.escape(str(tmp_path))), RunDirectory(tmp_path).locked():
                pass
        raise ZeroDivisionError
    assert not run.is_locked()
    with run.locked():
        pass


def own_files(path: Path) -> RunDirectory:
    """What a run has written when it fails before its first step."""
    run = RunDirectory(path)
    path.mkdir(parents=True, exist_ok=True)
    for name in (".lock", "config.yaml", "environment.json"):
        (path / name).write_text("x")
    return run


def test_what_a_start_that_was_killed_has_left_is_taken_over(tmp_path: Path) -> None:
    run = own_files(tmp_path / "run")
    with pytest.raises(RunTakenError):
        claim(run.path, may_rename=False)
    run.config.unlink()
    assert claim(run.path, may_rename=False) == run.path
    assert claim(run.path, may_rename=True) == tmp_path / "run_2"
    (run.path / "notes.txt").touch()
    with pytest.raises(RunTakenError):
        claim(run.path, may_rename=False)


@pytest.mark.parametrize("foreign", ["notes.txt", "mine/mine.yaml", "../other"])
def test_discard_removes_a_run_and_leaves_foreign_files(foreign: str, tmp_path: Path) -> None:
    run = own_files(tmp_path / "run")
    (run.path / foreign).parent.mkdir(exist_ok=True)
    (run.path / foreign).write_text("mine")
    run.discard()
    assert [path.resolve() for path in tmp_path.rglob("*") if path.is_file()] == [(run.path / foreign).resolve()]


def test_begin_is_read_back(tmp_path: Path) -> None:
    run, cfg = RunDirectory(tmp_path), composing.typed(composing.compose(["data=digits", "seed=12"]))
    run.begin(cfg, {"device": "abacus"})
    opened, read = open_run(str(tmp_path))
    assert read == cfg
    assert opened.read_environment()["device"] == "abacus"
    run.write_result(Result(Status.FINISHED))
    cfg.trainer.epochs += 5
    run.reopen(cfg)
    assert opened.read_result() is None
    assert open_run(str(tmp_path))[1].trainer.epochs == cfg.trainer.epochs
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "environment.json"}


def test_open_run_refuses_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("nowhere", "file", "."):
        with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / place))):
            open_run(str(tmp_path / place))


def test_a_folder_of_runs_and_last_stand_for_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no run in outputs yet"):
        find_run("last")
    for age, name in enumerate(["digits-lenet/b", "digits-lenet/a", "sweeps/night/job"]):
        config = Path("outputs", name, "config.yaml")
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (1000 - age, 1000 - age))
    assert find_run("last") == find_run("outputs") == find_run("outputs/digits-lenet") == Path("outputs/digits-lenet/b")
    Path("outputs/sweeps/night/manifest.json").touch()
    Path("outputs/sweeps/night/job/.hydra").mkdir()
    Path("outputs/sweeps/night/job/.hydra/config.yaml").touch()  # Hydra's own, newer
    with pytest.raises(CheckpointError, match=r"its 1, .*outputs/sweeps/night/job$"):  # its runs do not stand for each other
        find_run("outputs/sweeps/night")


@pytest.mark.parametrize(
    ("step", "kept"),
    [(0, []), (4, [4]), (7, [4]), (8, [4, 8]), (10, [4, 8]), (12, [4, 8, 12])],
)
def test_keep_metrics_drops_what_will_be_run_again(step: int, kept: list[int], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.keep_metrics(step, 4, 100)
    assert not run.metrics.exists()
    epochs = [Epoch(1, at, 0.1, "mae", {"train": Score(at / 10, 0.0)}, 1.0, 60.0) for at in (4, 8, 10, 12)]
    lines = [epoch.line() for epoch in epochs]  # 10 ended a run within an epoch
    files.write_json_lines(run.metrics, lines)
    with run.metrics.open("a") as file:
        file.write('{"step": 16, "tra')
    run.keep_metrics(step, 4, 100)
    assert read_json_lines(run.metrics) == [line for line in lines if line["step"] in kept]


def test_names_are_as_a_person_types_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert RunDirectory(Path("outputs/run")).name == "outputs/run"
    assert RunDirectory(tmp_path / "here" / "outputs" / "run").name == "outputs/run"
    assert RunDirectory(tmp_path / "there" / "run").name == str(tmp_path / "there" / "run")
    paths = (Path("a/b/run"), Path("run"), Path("."), tmp_path / "there" / "run")
    assert [RunDirectory(path).label for path in paths] == ["b/run", "run", "here", "there/run"]


def test_environment_tells_versions_revision_and_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cnnlab.train", "hydra.run.dir='a b'"])
    found = environment()
    assert found["python"] == sys.version.split()[0]
    assert torch.__version__.startswith(str(found["packages"]["torch"]))
    assert shlex.split(found["command"]) == sys.argv
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    assert (found["git"] or "").removesuffix("+changes") == head
    monkeypatch.setenv("PATH", os.devnull)  # a machine without git
    assert environment()["git"] is None
