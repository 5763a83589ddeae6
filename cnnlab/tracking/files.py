"""Writing files so that a kill, a full disk or a power failure leaves either the old content or the new. A run writes all
its files through here, except TensorBoard's event files, which only repeat what the others contain."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cnnlab.errors import note

WARNED: list[Path] = []  # about a file system without locks


@contextmanager
def exclusive(path: Path, wait: bool = False, create: bool = True) -> Iterator[None]:
    """Hold a lock on the file `path`, which is released if the process dies.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false. FileNotFoundError: it is missing, and `create` is false.
    """
    while True:
        handle = os.open(path, (os.O_CREAT | os.O_RDWR if create else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            _lock(handle, path, wait)
            if not path.exists() or not os.path.samestat(os.fstat(handle), path.stat()):
                continue  # its last holder has removed it: this lock protects nothing
            yield
            return
        finally:
            with suppress(OSError):  # of a drive that is gone, which must not hide the first error
                os.close(handle)


def _lock(handle: int, path: Path, wait: bool) -> None:
    """Lock an open file; on a file system without locks (some network drives), continue and warn once per process.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if not WARNED:
            WARNED.append(path)
            note(f"warning: {path}: this file system has no locks; make sure that no two processes use the same directory")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` durably: write under a temporary name next to it, flush, rename, flush the directory.

    Raises:
        OSError: the disk is full or not writable; `path` then keeps its old content.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _naming(path):
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with os.fdopen(os.open(temporary, flags, 0o644), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):  # the disk may be what failed
                temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise an OSError with the name of `path`: a failed write names no file, or a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Replace `path` durably with indented JSON; numbers that are not finite become null."""
    write_atomic(path, (json.dumps(finite(content), indent=2) + "\n").encode())


def open_to_append(path: Path) -> int:
    """Open a file for appending, creating it if it is missing; return the file descriptor.

    Raises:
        OSError: it is a link, a pipe or a device, or cannot be opened.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.ENXIO, "expected a regular file", str(path))
    return handle


def append_json_line(path: Path, content: Any) -> None:
    """Append one line of JSON durably.

    Raises:
        OSError: as in `open_to_append`, or the disk is full.
    """
    with _naming(path), os.fdopen(open_to_append(path), "a") as file:
        file.write(json.dumps(finite(content)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_json_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replace `path` durably with these lines."""
    write_atomic(path, "".join(json.dumps(finite(line)) + "\n" for line in lines).encode())


def as_json(content: Any) -> Any:
    """Return `content` as it would be read back from a JSON file."""
    return json.loads(json.dumps(content, default=str))


def finite(content: Any) -> Any:
    """Return `content` with null for inf and nan, which JSON does not have."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float) and content - content != 0:
        return None
    return content


def make_directory(path: Path) -> None:
    """Create a folder and its missing parents durably.

    Raises:
        OSError: it cannot be created; FileExistsError if there is a file instead.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory to disk, so that the names in it are durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
