"""A disk that fails, or loses its power, at one of a process's file operations."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("open", "fsync", "replace", "mkdir", "unlink")
MOST = 60  # more than a run of two epochs has


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs except `finally`, which a test cannot prevent."""


def watch(folder: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[str, Any], None]) -> None:
    """Make every operation below `folder` call before(), which may raise, and then after(its name, its first argument)."""

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def called(place: Any, *arguments: Any, **options: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else os.fspath(place)
            if not str(path).startswith(str(folder)) or threading.current_thread() is not threading.main_thread():
                return original(place, *arguments, **options)  # no state depends on what TensorBoard's thread writes
            before()
            result = original(place, *arguments, **options)
            after(name, path)
            return result

        return called

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))


@dataclass
class Failing:
    """Raises `failure` at operation number `at`, and at all later ones if it lasts or stands for a process's death."""

    at: int
    failure: BaseException
    lasts: bool = False
    count: int = 0

    def before(self) -> None:
        self.count += 1
        if self.count == self.at or (self.count > self.at and (self.lasts or isinstance(self.failure, Killed))):
            raise self.failure


@dataclass
class Durable:
    """What would be left of `root`, empty at first, after a power cut: files with the bytes, and folders with the names, that
    they had when last synced.

    cuts: what is left, before each operation.
    """

    root: Path
    content: dict[int, bytes] = field(default_factory=dict)  # by inode
    names: dict[Path, dict[str, int]] = field(default_factory=dict)  # of a folder: the inodes of its entries
    cuts: "list[Left]" = field(default_factory=list)

    def before(self) -> None:
        present = {path: _inodes(path) for path in (self.root, *self.root.rglob("*")) if path.is_dir()}
        self.cuts.append(Left(self.root, dict(self.content), dict(self.names), present))

    def after(self, name: str, path: str) -> None:
        if name == "fsync":
            if os.path.isdir(path):
                self.names[Path(path)] = _inodes(Path(path))
            else:
                self.content[os.stat(path).st_ino] = Path(path).read_bytes()


@dataclass
class Left:
    """What a power cut leaves; present: the names that were there, for a disk that keeps them without a sync."""

    root: Path
    content: dict[int, bytes]
    names: dict[Path, dict[str, int]]
    present: dict[Path, dict[str, int]]

    def write(self, to: Path, keeps_names: bool) -> None:
        """Make the folder `to` what is left of the root."""
        names = self.present if keeps_names else self.names
        self._write(self.root, to, names)

    def _write(self, folder: Path, to: Path, names: dict[Path, dict[str, int]]) -> None:
        to.mkdir(exist_ok=True)
        for name, inode in names.get(folder, {}).items():
            if folder / name in self.present:
                self._write(folder / name, to / name, names)
            else:
                (to / name).write_bytes(self.content.get(inode, b""))


def _inodes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}
