"""Writing so that either the old content or the new is there, and reading what a power cut left."""

import errno
import json
import math
import os
import threading
import time
from pathlib import Path

import pytest

from cnnlab.reading import read_json_lines
from cnnlab.tracking import files


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old and long", b"new", b""):
        files.write_atomic(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "interrupt"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failure_leaves_what_was_there(
    call: str, old: bytes | None, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail(*_: object) -> None:
        assert (path.read_bytes() if path.exists() else None) == old  # nothing is overwritten before the end
        raise error

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(type(error)):
        files.write_atomic(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == ([] if old is None else [("file", old)])


@pytest.mark.parametrize("write", [files.write_json, files.append_json_line])
def test_a_failed_sync_names_the_file(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: os.close(-1))  # any error of a descriptor, which has no name
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        write(tmp_path / "file", {})
    assert caught.value.filename == str(tmp_path / "file")


def test_content_reaches_the_disk_before_the_name_and_the_name_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, real_sync, real_replace = [], os.fsync, Path.replace

    def sync(handle: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "content")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    files.write_atomic(tmp_path / "file", b"new")
    assert done == ["content", "rename", "folder"]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    content = {"loss": math.nan, "deep": [{"up": math.inf}, (1.5, -math.inf)], "name": "nan", "none": None, "yes": True}
    as_null = {"loss": None, "deep": [{"up": None}, [1.5, None]], "name": "nan", "none": None, "yes": True}
    path = tmp_path / "file"
    for write in (files.write_json, files.append_json_line, lambda path, content: files.write_json_lines(path, [content])):
        path.unlink(missing_ok=True)
        write(path, content)
        assert json.loads(path.read_text(), parse_constant=pytest.fail) == as_null  # other languages know no NaN


def test_json_lines_append_read_and_replace(tmp_path: Path) -> None:
    path, lines = tmp_path / "lines", [{"step": 1, "name": "a\nb\u2028c"}, {"step": 2}, {"step": 3}]
    assert read_json_lines(path) == []
    for line in lines:
        files.append_json_line(path, line)
    assert path.read_text().count("\n") == 3
    assert read_json_lines(path) == lines
    files.write_json_lines(path, lines[1:])
    assert read_json_lines(path) == lines[1:]
    files.write_json_lines(path, [])
    assert path.read_bytes() == b""


def test_a_lock_is_held_on_the_file_that_is_there(tmp_path: Path) -> None:
    path, found = tmp_path / "lock", list[bool]()

    def wait() -> None:
        with files.exclusive(path, wait=True):
            found.append(path.exists())

    with files.exclusive(path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        path.unlink()  # as one does who tidies up
        assert not found
    waiting.join(10)
    assert found == [True]


def test_a_lock_on_a_drive_that_is_gone_does_not_hide_the_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(_: int) -> None:
        raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))  # as FUSE does

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="Stale"), files.exclusive(tmp_path / "lock"):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
