"""A cache of decoded pictures, so that they are not decoded again at every start."""

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnnlab.config.schema import from_plain
from cnnlab.data.pictures import Resize, Unreadable, decode_all
from cnnlab.data.source import Shape
from cnnlab.errors import CheckpointError, ConfigError, ResourceError, as_known, note
from cnnlab.reading import MAX_RECORD, open_regular, parse_json, require_regular

Cached = tuple[NDArray[np.uint8], dict[int, Unreadable]]


def folder() -> Path:
    """Return the folder of the caches: $XDG_CACHE_HOME/cnnlab/pictures, or else ~/.cache/cnnlab/pictures."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnlab" / "pictures"


def cached(key: str, name: str, files: Sequence[Path], shape: Shape, resize: Resize) -> Cached:
    """Return the pictures in `files` from the cache of that key, or else decode (see `pictures.decode`) and cache them.

    key: identifies the files' contents, the shape and the resize mode. name: of the whole set, for messages.

    Returns:
        Memory-mapped uint8, N x C x H x W, with zeros for files that cannot be read; and the causes, by index.

    Raises:
        ConfigError, ResourceError: the cache cannot be written, or is larger than the disk.
    """
    path = folder() / f"{key}.npy"
    found = _read(path, (len(files), *shape))
    return found or _write(path, name, files, shape, resize)


def _read(path: Path, shape: tuple[int, ...]) -> Cached | None:
    """Read what `_write` wrote; None if it is missing or damaged.

    The hash covers all pixels, even if they will only be mapped: loading a data set reads each of them once anyway, for the
    digests of the splits, which take as long again.
    """
    try:
        require_regular(path)
        images = np.load(path, mmap_mode="r")
        if images.shape != shape or images.dtype != np.uint8:
            return None
        with path.open("rb") as file:
            file.seek(images.offset + images.nbytes)
            said = parse_json(file.read(MAX_RECORD))
        failed = {int(index): from_plain(Unreadable, fields) for index, fields in said["failed"].items()}
        if said["sha256"] != _hash(images) or not all(0 <= index < len(images) for index in failed):
            return None
        return images, failed
    except Exception:  # numpy raises almost anything on a damaged header
        return None


def _hash(pixels: Any) -> str:
    return hashlib.sha256(pixels).hexdigest()


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed: those of live processes are locked, or newer than a minute."""
    for left in folder.glob(".*"):
        with suppress(OSError, CheckpointError), open_regular(left) as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > 60:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


def _write(path: Path, name: str, files: Sequence[Path], shape: Shape, resize: Resize) -> Cached:
    """Decode into a temporary file: the images in numpy's format, followed by their hash and the failures as JSON."""
    start, failed, blank = time.monotonic(), {}, np.zeros(shape, np.uint8).tobytes()
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), *shape)}
    columns = (
        TextColumn("decoding {task.description}", markup=False),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    pixels = hashlib.sha256()
    bar = Progress(*columns, transient=True, console=Console(stderr=True))
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file, bar:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            np.lib.format.write_array_header_1_0(file, header)
            task = bar.add_task(name, total=len(files))
            for index, picture in enumerate(decode_all(files, shape, resize)):
                if isinstance(picture, Unreadable):
                    failed[index] = picture
                content = blank if isinstance(picture, Unreadable) else picture.tobytes()
                file.write(content)
                pixels.update(content)
                bar.advance(task)
            said = {"sha256": pixels.hexdigest(), "failed": {index: asdict(one) for index, one in failed.items()}}
            file.write(json.dumps(said).encode())
            file.flush()
            os.fsync(file.fileno())
        passing = any(one.passing for one in failed.values())
        kept = Path(temporary) if passing else Path(temporary).replace(path)
        images, _ = _read(kept, (len(files), *shape)) or (None, None)
        if images is None:
            raise ConfigError(f"{path}: changed while it was written; run again")
        size = f"{images.nbytes / 2**20:,.0f} MiB" if images.nbytes >= 2**20 else f"{images.nbytes / 2**10:,.0f} KiB"
        where = "" if passing else f", kept in {path} ({size})"
        of = f"{len(files) - len(failed):,} of " if failed else ""
        seconds = time.monotonic() - start
        note(f"{name}: {of}{len(files):,} picture{'s' if len(files) > 1 else ''} decoded in {seconds:.1f} s{where}")
        return images, failed
    except OSError as error:
        known: Any = as_known(error)
        kind = ResourceError if isinstance(known, ResourceError) else ConfigError
        raise kind(f"{path.parent}: {error.strerror or error}; decoded pictures are cached there: free some space, or "
                   "set the environment variable XDG_CACHE_HOME to another folder") from error  # fmt: skip
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
