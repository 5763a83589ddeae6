"""What a call does to the world, seen by an audit hook that is switched on during the call."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cnnlab

OURS = [Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix, *cnnlab.__path__, Path(cnnlab.__path__[0]).parent)]
PROCESSES = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.", "socket.connect",
             "socket.bind", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.", "webbrowser.", "code.__new__",
             "pickle.find_class")  # fmt: skip
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod", "os.chown",
           "shutil.")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_inside: list[tuple[Path, ...]] = []  # where the watched call may write
_seen: list[str] = []


def _real(path: Any, follow: bool) -> Path:
    name = Path(os.fsdecode(path))
    return name.resolve() if follow else name.parent.resolve() / name.name


def _is_inside(path: Any, follow: bool = False) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):  # the descriptor of an open file
        return True
    found = _real(path, follow)
    return found == Path(os.devnull) or any(found.is_relative_to(folder) for folder in _inside[-1])


def _is_ours(file: str) -> bool:
    return any(Path(file).resolve().is_relative_to(folder) for folder in OURS)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _inside:
        return
    if event == "open":
        path, _, flags = arguments
        found = bool(flags & WRITING) and not _is_inside(path, not flags & os.O_NOFOLLOW)
    elif event.startswith(CHANGES):
        found = not all(map(_is_inside, arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]))
    elif event == "ctypes.dlopen":
        found = "/" in str(arguments[0]) and not _is_ours(arguments[0])  # not libc, nor a driver
    else:
        # git is asked for what `environment.json` of a new run records
        found = event.startswith(PROCESSES) and not (event == "subprocess.Popen" and arguments[0] == "git")
    if found:
        _seen.append(f"{event} {arguments!r:.300}")


sys.addaudithook(_hook)


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Fail if the body hangs."""

    def late(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


MIB = 1 << 20


@contextmanager
def small(size: int) -> Iterator[None]:
    """Fail if the body's resident memory grows by more than 64 MiB and three times `size` (checked only on Linux)."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        yield
        return
    peak.write_text("5")  # resets the peak to what is held now
    before = _resident("VmRSS")
    yield
    assert _resident("VmHWM") - before < 64 * MIB + 3 * size


def _resident(kind: str) -> int:
    return (
        next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
        * 1024
    )


@contextmanager
def watched(*may_write: Path) -> Iterator[list[str]]:
    """List what the body must not do: run other programs or code, open sockets, write outside `may_write`."""
    _seen.clear()
    before = set(sys.modules)
    _inside.append(tuple(folder.resolve() for folder in may_write))
    try:
        yield _seen
    finally:
        _inside.pop()
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if name in ("antigravity", "this") or (file and not _is_ours(file)):
                _seen.append(f"import {name}")


def state(folder: Path, *passing: Path) -> dict[str, tuple[int, bytes | None]]:
    """Return kind and content of everything in a folder, without following links, except what is in `passing`."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for path in sorted(folder.rglob("*")):
        if not any(path == one or path.is_relative_to(one) for one in passing):
            mode = path.lstat().st_mode
            small = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24
            found[str(path.relative_to(folder))] = mode, path.read_bytes() if small else None
    return found


def said(output: Sequence[str]) -> str:
    """Return stdout and stderr of a call as one text; it must hold no traceback and no control characters but line ends."""
    text = "".join(output)
    assert "Traceback" not in text
    assert all(char.isprintable() or char in "\n\t" for char in text), repr(text)
    return text
