"""Row 9: many starts in one run or sweep directory, and file systems without locks."""

import errno
import fcntl
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import WHOLE
from protocol import TWO_EPOCHS, ended, start
from small_runs import SMALL

STARTS = 50 if WHOLE else 5
NIGHT = (*SMALL, "data.limit=2000", "trainer.epochs=100000", "checkpoint.every_s=0.3")


def written(file: Path) -> int:
    """When, in nanoseconds; 0 where it is not there."""
    return file.stat().st_mtime_ns if file.exists() else 0


@pytest.mark.parametrize("kind", ["run", "resume", "sweep"])
def test_one_goes_on_and_the_others_are_refused(call, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    lines = {"run": (*NIGHT, f"hydra.run.dir={place}"), "resume": (f"resume={place}",),
             "sweep": ("-m", *NIGHT, "seed=0,1", f"hydra.sweep.dir={place}")}  # fmt: skip
    if kind == "resume":
        first = start(tmp_path / "first", *lines["run"])
        while not (place / "last.safetensors").exists():
            time.sleep(0.02)
        first.terminate()
        assert ended(first) == 143
    checkpoint = place / ("seed0/last.safetensors" if kind == "sweep" else "last.safetensors")
    before = written(checkpoint)
    processes = [start(tmp_path / f"log{number}", *lines[kind]) for number in range(STARTS)]
    while sum(process.is_alive() for process in processes) > 1:
        time.sleep(0.05)
    while written(checkpoint) == before:  # then it takes signals
        time.sleep(0.05)
    (winner,) = [process for process in processes if process.is_alive()]
    os.kill(winner.pid or 0, signal.SIGTERM)
    assert Counter(ended(process) for process in processes) == {5: STARTS - 1, 143: 1}
    for number in range(STARTS):
        assert "Traceback" not in (tmp_path / f"log{number}").read_text()
    if kind != "sweep":
        assert json.loads((place / "result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("cnnlab.tracking.files.WARNED", [])
    exit_code, _, err = call("train", *TWO_EPOCHS, f"hydra.run.dir={tmp_path / 'run'}")
    assert (exit_code, err.count("warning:"), len(err.splitlines())) == (0, 1, 1)
    assert (tmp_path / "run/result.json").exists()
