"""A run continued after any stop is the run that was never stopped, to the bit."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same_run, metrics, write_idx

from cnnlab import cli
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory

# Dropout, augmentation, a short last batch, a schedule that moves, validation: everything that a position touches.
SETTINGS = (
    "data=digits", "data.limit=680", "data.validation=200", "trainer.epochs=3", "trainer.batch_size=64",
    "augment=[crop,rotation]", "model.dropout=0.1", "optimizer=rmsprop", "schedule=step", "schedule.every_epochs=1",
    "console=quiet", "trainer.threads=2",
)  # fmt: skip
STEPS_PER_EPOCH = 11  # 680 / 64, the last one short
QUICK = ("data=digits", "data.limit=100", "console=quiet")


def trained(folder: Path, *settings: str) -> Path:
    run = folder / "run"
    assert cli.run("train", [*settings, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is never stopped."""
    return trained(tmp_path_factory.mktemp("whole"), *SETTINGS)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("one"), *QUICK, "trainer.epochs=1")


@pytest.fixture
def short(one_epoch: Path, tmp_path: Path) -> Path:
    """A finished run of one's own to break."""
    return Path(shutil.copytree(one_epoch, tmp_path / "short"))


def begun(whole: Path, place: Path) -> Path:
    """The record of a run that has just started."""
    place.mkdir()
    for name in ("config.yaml", "environment.json"):
        shutil.copy(whole / name, place)
    return place


def test_a_run_without_a_checkpoint_starts_at_step_0(call, whole: Path, tmp_path: Path) -> None:
    run = begun(whole, tmp_path / "run")
    assert call("train", f"resume={run}")[0] == 0
    assert_same_run(whole, run)


def test_a_finished_run_is_left_alone(call, whole: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    code, out, err = call("train", f"resume={whole}")
    assert (code, err) == (0, "")
    assert "trainer.epochs=6" in out  # would lengthen it
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_a_longer_run_is_the_run_that_was_asked_for_longer(call, whole: Path, tmp_path: Path) -> None:
    run = trained(tmp_path, *SETTINGS, "trainer.epochs=1")
    assert call("train", f"resume={run}", "trainer.epochs=3", "console=quiet")[0] == 0
    assert_same_run(whole, run)


@pytest.mark.parametrize(
    "change", ["optimizer.lr=0.1", "trainer.epochs=2", "trainer.steps=500", "trainer.epochs=x", "console=loud"]
)
def test_what_a_continued_run_cannot_change(call, whole: Path, change: str) -> None:
    code, _, err = call("train", f"resume={whole}", change)
    assert code == 2
    assert change in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "longer"),
    [
        (("trainer.epochs=1", "schedule=cosine"), "trainer.epochs=2"),
        (("trainer.steps=2", "trainer.batch_size=32", "evaluation.weights=best"), "trainer.steps=8"),  # judged within an epoch
    ],
)
def test_a_run_that_a_later_end_would_have_changed_cannot_be_lengthened(
    call, tmp_path: Path, settings: tuple[str, ...], longer: str
) -> None:
    run = trained(tmp_path, *QUICK, *settings)
    code, _, err = call("train", f"resume={run}", longer)
    assert code == 2
    assert longer in err


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "pickle"])
def test_a_damaged_checkpoint_is_one_line(call, whole: Path, tmp_path: Path, damage: str) -> None:
    run = begun(whole, tmp_path / "run")
    good = (whole / "last.safetensors").read_bytes()
    bad = {"empty": b"", "cut": good[: len(good) // 2], "foreign": (whole / "predictions.safetensors").read_bytes()}
    (run / "last.safetensors").write_bytes(bad.get(damage, b"\x80\x04\x95pickled"))
    code, _, err = call("train", f"resume={run}")
    assert code == 2
    assert "last.safetensors" in err
    assert err.count("\n") == 1


def test_a_run_cut_short_within_an_epoch_keeps_its_last_line(call, tmp_path: Path) -> None:
    """Killed between its last checkpoint and its result."""
    run = trained(tmp_path, *QUICK, "trainer.steps=7", "trainer.batch_size=20")
    lines = metrics(run)
    (run / "result.json").unlink()
    assert call("train", f"resume={run}")[0] == 0
    assert metrics(run) == lines
    assert [line["step"] for line in lines] == [5, 7]


def test_a_resume_that_fails_leaves_the_record_of_the_run(call, short: Path) -> None:
    (short / "last.safetensors").write_bytes(b"damaged")
    before = {name: (short / name).read_bytes() for name in ("config.yaml", "result.json", "metrics.jsonl")}
    assert call("train", f"resume={short}", "trainer.epochs=2")[0] == 2
    assert {name: (short / name).read_bytes() for name in before} == before


def test_what_a_killed_process_was_writing_is_cleared_away(call, short: Path) -> None:
    (short / ".last.safetensors.99.tmp").write_bytes(b"half")
    assert call("train", f"resume={short}", "trainer.epochs=2", "console=quiet")[0] == 0
    assert not list(short.glob(".*.tmp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_keeps_the_last_good_checkpoint(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, original = tmp_path / "run", os.open

    def full(path: Path, *arguments: int) -> int:
        late = Path(path).name.startswith(".last") and (run / "last.safetensors").exists()
        return original("/dev/full" if late else path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "open", full)
        code, _, err = call("train", *QUICK, "trainer.epochs=3", "checkpoint.every_s=0", f"hydra.run.dir={run}")
    assert code == 4
    assert "last.safetensors" in err
    assert err.count("\n") == 1
    assert json.loads((run / "result.json").read_text())["status"] == "failed"
    assert call("train", f"resume={run}")[0] == 0


def test_changed_data_is_refused(call, data_root: Path, tmp_path: Path) -> None:
    run = trained(tmp_path, "data=mnist", f"data.root={data_root}", "data.validation=50", "trainer.epochs=1", "console=quiet")
    write_idx(data_root / "MNIST/raw/train-images-idx3-ubyte.gz", np.zeros((300, 28, 28), np.uint8))
    code, _, err = call("train", f"resume={run}", "trainer.epochs=2")
    assert code == 2
    assert str(data_root) in err


def start(run: Path, *changes: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cnnlab.train", *SETTINGS, f"hydra.run.dir={run}", *changes]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_process_is_refused_and_a_signal_saves_says_how_to_resume_and_exits(call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, "trainer.epochs=400")
    wait_for(run / "metrics.jsonl", process)
    assert call("train", f"resume={run}")[0] == 5
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert f"python -m cnnlab.train resume={run}" in err
    assert "Traceback" not in err
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "interrupted"
    assert result["steps"] > 0
    assert (run / "last.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child calls exec at once
def test_a_closed_terminal_saves(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "cnnlab.train", *SETTINGS, f"hydra.run.dir={run}", "trainer.epochs=400", "console=auto"]
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, command)
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    assert json.loads((run / "result.json").read_text())["status"] == "interrupted"


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; a new process inherits it
    try:
        process = start(run, "trainer.epochs=400")
    finally:
        signal.signal(signal.SIGHUP, ignored)
    wait_for(run / "metrics.jsonl", process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_a_second_start_leaves_the_first_ones_directory(call, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    with run.locked():  # a process has just started there
        code, out, _ = call("train", "data=digits", f"hydra.run.dir={run.path}")
    assert (code, out) == (5, "")
    assert (run.path / ".lock").exists()
