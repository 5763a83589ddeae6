"""Row 4: a disk that is full, broken, read-only or gone, or too many open files, at each file operation, once and for good."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import WHOLE, assert_same_run
from disk import MOST, Failing, watch
from protocol import TWO_EPOCHS, goes_on, share
from small_runs import train

CODES = {
    "full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS, "too many open files": errno.EMFILE,
    "gone": errno.ESTALE,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run", *TWO_EPOCHS)


@pytest.mark.parametrize(
    ("kind", "lasts", "at"),
    share(((kind, lasts, at) for at in range(1, MOST) for lasts in (False, True) for kind in CODES), 21),
)
def test_an_operation_that_fails(
    call, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lasts: bool, at: int
) -> None:
    run = tmp_path / "run"
    failing = Failing(at, OSError(CODES[kind], os.strerror(CODES[kind])), lasts)
    with monkeypatch.context() as patch:
        watch(run, patch, failing.before, lambda *_: None)
        began = time.monotonic()
        code, _, err = call("train", *TWO_EPOCHS, f"hydra.run.dir={run}")
    if failing.count < at:
        pytest.skip(f"a run has {failing.count} file operations")
    assert time.monotonic() - began < (5 if WHOLE else 60)  # beside other tests everything takes longer
    assert code in (0, 4)
    assert len(err.splitlines()) <= 1 + err.count("warning:"), err
    goes_on(call, run)
    assert_same_run(run, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("free_kib", [0, 4, 16, 64, 256, 1024])
def test_a_file_system_that_is_really_full(call, whole: Path, small_disk: Path, free_kib: int) -> None:
    other = small_disk / "other"
    with other.open("wb") as file:
        file.truncate(0)
        space = os.statvfs(small_disk)
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - free_kib * 1024)
    code, _, err = call("train", *TWO_EPOCHS, f"hydra.run.dir={small_disk / 'run'}")
    assert code in (0, 4)
    assert len(err.splitlines()) <= 1 + err.count("warning:"), err
    other.unlink()
    goes_on(call, small_disk / "run")
    assert_same_run(small_disk / "run", whole)
