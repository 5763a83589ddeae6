"""Your own pictures: one folder per class, optionally inside folders for training, validation and test."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL
import torch

from cnnlab.data.cache import cached
from cnnlab.data.pictures import MODES, SUFFIXES, Resize, Unreadable
from cnnlab.data.sampling import stratified
from cnnlab.data.source import Declared, Shape, Source, declares
from cnnlab.data.splits import InMemory, MemoryMapped, Split, take
from cnnlab.errors import ConfigError, DataError, is_utf8, note, suggest

SPLITS = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing")}
TEST_SHARE, TEST_SEED = 0.2, 0  # of each class, if there is no folder of test pictures; the same for every seed
LISTED = 20  # unreadable files, one line each
SIZE = 150


@dataclass(frozen=True)
class Picture:
    """A picture file. path: relative to the root. bytes, mtime_ns: size and modification time, which reveal changes."""

    path: str
    label: int
    bytes: int
    mtime_ns: int


def describe(root: str, shape: Sequence[int] | None = None, size: int | None = None) -> Declared:
    """Return the shape and the class names, which are found without reading any pictures.

    Raises:
        ConfigError: size and shape contradict each other. DataError: there are no folders of pictures.
    """
    return Declared(_shape(shape, size), _classes(_split_folders(Path(root).expanduser())["train"]))


@declares(describe)
def load(
    root: str,
    shape: Sequence[int] | None = None,
    size: int | None = None,
    resize: Resize = "crop",
    on_error: str = "stop",
    memory_gb: float = 2.0,
) -> Source:
    """Read the pictures below `root`; the decoded pictures are cached in the user's cache folder.

    Args:
        root: contains a folder for each class, or train/, test/ and validation/ that do. Without test/, a fifth of each
            class's training pictures is held out, the same for every seed.
        shape: C (1: gray, 3: color), H, W; None: 3, size, size. size: 150 unless given.
        resize: crop, pad or stretch (see `pictures.decode`).
        on_error: what to do about files that cannot be read: stop, or skip them.
        memory_gb: GiB; pictures that take more than this are memory-mapped instead of loaded.

    Raises:
        ConfigError: size and shape contradict each other. DataError: there are no pictures, or they are invalid.
        ResourceError: the cache does not fit on the disk.
    """
    to, base = _shape(shape, size), Path(root).expanduser()
    folders = _split_folders(base)
    classes = _classes(folders["train"])
    listed = {name: _listed(base, name, folder, classes) for name, folder in folders.items()}
    if "test" not in listed:
        listed["train"], listed["test"] = _held_out(base, listed["train"], classes)
        count, of = len(listed["test"]), len(listed["train"]) + len(listed["test"])
        note(f"{base}: no test/; {count:,} of {of:,} pictures are held out for the test, the same for every seed")
    pictures = [picture for members in listed.values() for picture in members]
    stamp = json.dumps([PIL.__version__, to, resize, [(one.path, one.bytes, one.mtime_ns) for one in pictures]])
    key = hashlib.blake2b(stamp.encode(), digest_size=12).hexdigest()
    images, failed = cached(key, str(base), [base / one.path for one in pictures], to, resize)
    _report(base, pictures, failed, on_error)
    whole = np.array(images) if images.nbytes <= memory_gb * 2**30 else None
    splits: dict[str, Split] = {}
    start = 0
    for name, members in listed.items():
        span, labels = slice(start, start + len(members)), torch.tensor([one.label for one in members])
        in_memory = None if whole is None else InMemory(torch.from_numpy(whole[span]), labels)
        split: Split = in_memory or MemoryMapped(images[span], labels)
        readable = [index - start for index in range(span.start, span.stop) if index not in failed]
        splits[name] = split if len(readable) == len(members) else take(split, torch.tensor(readable, dtype=torch.int64))
        if name == "train" and not torch.bincount(splits[name].labels, minlength=len(classes)).all():
            raise DataError(f"{base}: a class has no training pictures that can be read")
        start = span.stop
    return Source(splits["train"], splits["test"], classes, splits.get("validation"))


def _shape(shape: Sequence[int] | None, size: int | None) -> Shape:
    if shape is None:
        return 3, size or SIZE, size or SIZE
    channels, height, width = shape
    if channels not in MODES or size not in (None, height) or size not in (None, width):
        raise ConfigError(
            f"data.shape={[*shape]}, data.size={size}: expected 1 or 3 channels, and sides equal to the size if it is set"
        )
    return channels, height, width


def _folders(path: Path) -> list[Path]:
    """Return the visible subfolders of a folder, sorted by name, or by number if all names are numbers."""
    try:
        found = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; set data.root=FOLDER to the folder of your pictures") from error
    numbers = all(entry.name.isdecimal() for entry in found)
    return sorted(found, key=lambda entry: (int(entry.name) if numbers else 0, entry.name))


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split; "train" is always included, as `root` itself if that holds the classes."""
    found: dict[str, Path] = {}
    for name, spellings in SPLITS.items():
        own = [folder for folder in _folders(root) if folder.name.lower() in spellings and _folders(folder)]
        if len(own) > 1:
            raise DataError(f"{root}: both {own[0].name}/ and {own[1].name}/ hold {name} pictures; keep one of them")
        if own:
            found[name] = own[0]
    if found and "train" not in found:
        raise DataError(f"{root}: holds {'/ and '.join(folder.name for folder in found.values())}/ but no train/")
    return found or {"train": root}


def _classes(train: Path) -> tuple[str, ...]:
    names = [folder.name for folder in _folders(train)]
    if len(names) < 2:
        raise DataError(f"{train}: holds {', '.join(names) or 'no folder'}; expected two or more folders, one for each class")
    if odd := [name for name in names if not is_utf8(name)]:
        raise DataError(f"{train / odd[0]}: its name is not UTF-8; rename it")
    for one, other in pairwise(sorted(names, key=str.lower)):
        if one.lower() == other.lower():
            raise DataError(f"{train}: the classes {one} and {other} differ only in case; rename one of them")
    return tuple(names)


def _listed(root: Path, split: str, folder: Path, classes: tuple[str, ...]) -> list[Picture]:
    """List the pictures of a split, including those in subfolders, by class and then by name."""
    found: list[Picture] = []
    ignored: list[str] = []
    for own in _folders(folder):
        if own.name not in classes:
            raise DataError(f"{own}: {own.name} has no training pictures.{suggest(own.name, classes)}")
        before = len(found)
        for path in files_below(own):
            name = str(path.relative_to(root))
            with suppress(FileNotFoundError):  # it vanished
                status = path.stat() if path.exists() else path.lstat()  # a broken link is reported as unreadable
                if path.suffix.lower() in SUFFIXES and (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                    found.append(Picture(name, classes.index(own.name), status.st_size, status.st_mtime_ns))
                else:
                    ignored.append(name)
        if split == "train" and len(found) == before:
            raise DataError(f"{own}: holds no pictures ({', '.join(SUFFIXES)}); set data.root=FOLDER to their folder")
    if not found:
        raise DataError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)})")
    if folder.name != split and folder != root:
        note(f"{folder}: used as the {split} pictures")
    tell_ignored(folder, ignored)
    return found


def tell_ignored(folder: Path, names: Sequence[str]) -> None:
    """Report which files below a folder are ignored, if any."""
    if names:
        few = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        note(f"{folder}: ignored {len(names):,} of its files, not named like pictures: {few}")


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all visible files below a folder, sorted; links are followed, except to folders above it, and each folder is
    entered once.

    Raises:
        OSError: a folder cannot be listed, so its pictures would silently be missing.
    """
    entered: set[tuple[int, int]] = set()
    start = folder.resolve()
    for path, inner, names in os.walk(folder, followlinks=True, onerror=_unless_it_vanished):
        within = (name for name in inner if not start.is_relative_to(os.path.realpath(os.path.join(path, name))))
        inner[:] = sorted(name for name in within if not name.startswith((".", "__")))
        try:
            status = os.stat(path)
        except OSError:  # it vanished, or is in /proc and its process ended
            inner.clear()
            continue
        if (status.st_dev, status.st_ino) in entered:
            inner.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        yield from (Path(path, name) for name in sorted(names) if not name.startswith("."))


def _unless_it_vanished(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | ProcessLookupError):  # the latter in /proc
        raise error


def _held_out(root: Path, pictures: list[Picture], classes: tuple[str, ...]) -> tuple[list[Picture], list[Picture]]:
    """Split the pictures into training and test pictures."""
    labels = torch.tensor([one.label for one in pictures])
    sizes = torch.bincount(labels)
    scarce = int(sizes.argmin())
    if sizes[scarce] < 2:
        raise DataError(
            f"{root}: {classes[scarce]} holds one picture; expected two or more, since some are held out for the test"
        )
    kept, held_out = stratified(labels, max(1, round(TEST_SHARE * len(labels))), TEST_SEED, "test")
    return [pictures[index] for index in kept.tolist()], [pictures[index] for index in held_out.tolist()]


def _report(root: Path, pictures: Sequence[Picture], failed: Mapping[int, Unreadable], on_error: str) -> None:
    """List the files that cannot be read; raise DataError unless they are to be skipped."""
    for index, one in list(failed.items())[:LISTED]:
        note(f"cannot read {root / pictures[index].path}: {one.cause}")
    if not failed:
        return
    what = f"{root}: {len(failed):,} of {len(pictures):,} pictures cannot be read"
    if on_error == "stop":
        raise DataError(f"{what}; repair or remove them, or skip them with data.on_error=skip")
    note(f"{what} and are skipped")
