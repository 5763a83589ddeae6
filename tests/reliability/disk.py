"""A run whose disk fails, or whose process dies, at any of its file operations: the same bits after it goes on.

All operations of a run in its own directory are counted; each test lets one of them fail. CNNLAB_TORTURE=1 takes every one,
else one in seven.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_same_run
from small_runs import SMALL

OPERATIONS = ("open", "fsync", "replace", "mkdir", "unlink")
STRIDE = 1 if os.environ.get("CNNLAB_TORTURE") else 7
MOST = 70  # more than a run of two epochs has


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs but `finally`, which a test cannot keep from running."""


class Disk:
    """Counts the operations below `folder` while it is entered, and lets the one of number `at` fail."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, failure: BaseException) -> None:
        self.folder, self.count = str(folder), 0
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name), at, failure))

    def _counted(self, original: Callable[..., Any], at: int, failure: BaseException) -> Callable[..., Any]:
        def called(place: Any, *arguments: Any, **options: Any) -> Any:
            if self._is_inside(place):
                self.count += 1
                if self.count == at or (self.count > at and isinstance(failure, Killed)):
                    raise failure
            return original(place, *arguments, **options)

        return called

    def _is_inside(self, place: Any) -> bool:
        path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else os.fspath(place)
        return str(path).startswith(self.folder)


def train(call, run: Path) -> int:
    code: int = call("train", *SMALL, "trainer.epochs=2", "checkpoint.every_s=0", f"hydra.run.dir={run}")[0]
    return code


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cnnlab import cli

    run = tmp_path_factory.mktemp("whole") / "run"
    assert cli.run("train", [*SMALL, "trainer.epochs=2", "checkpoint.every_s=0", f"hydra.run.dir={run}"]) == 0
    return run


def goes_on(call, run: Path) -> None:
    """Resume what was begun, else begin it; both have to end well."""
    if (run / "config.yaml").exists():
        assert call("train", f"resume={run}")[0] == 0
    else:
        assert train(call, run) == 0


@pytest.mark.parametrize("at", range(1, MOST, STRIDE))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=["full", "broken", "too many open files"])
def test_a_disk_that_fails_once(call, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, at: int) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        disk = Disk(run, patch, at, OSError(code, os.strerror(code)))
        exit_code, _, err = call("train", *SMALL, "trainer.epochs=2", "checkpoint.every_s=0", f"hydra.run.dir={run}")
    if disk.count < at:
        pytest.skip(f"a run has {disk.count} file operations")
    assert exit_code in (0, 4)
    assert err.count("\n") <= 1 + ("warning" in err)
    goes_on(call, run)
    assert_same_run(run, whole)


@pytest.mark.parametrize("at", range(1, MOST, STRIDE))
def test_a_process_that_dies(call, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        disk = Disk(run, patch, at, Killed())
        try:
            train(call, run)
        except Killed:
            pass
        else:
            pytest.skip(f"a run has {disk.count} file operations")
    goes_on(call, run)
    assert_same_run(run, whole)
    assert not list(run.glob(".*.tmp"))
    shutil.rmtree(run)
