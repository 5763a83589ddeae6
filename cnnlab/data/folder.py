"""Pictures of your own: a folder for each class, in folders for training, validation and test or in none."""

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
TEST_SHARE, TEST_SEED = 0.2, 0  # of each class, where no folder holds test pictures: the same for every run's seed
LISTED = 20  # unreadable files, a line each
SIZE = 150


@dataclass(frozen=True)
class Picture:
    """path: relative to the root. bytes, mtime_ns: of the file, by which a change is noticed."""

    path: str
    label: int
    bytes: int
    mtime_ns: int


def describe(root: str, shape: Sequence[int] | None = None, size: int | None = None) -> Declared:
    """The shape and the names of the classes, of which only the folders are read.

    Raises:
        ConfigError: size and shape contradict each other. DataError: no folder of pictures.
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
    """Read the pictures below `root`; decoded ones are kept in the user's cache folder.

    Args:
        root: holds a folder for each class, or train/, test/ and validation/ that do. Without test/ a fifth of each class's
            training pictures is held out, whatever the run's seed.
        shape: C (1: gray, 3: color), H, W; None: 3, size, size. size: 150 unless given.
        resize: crop, pad or stretch (see `pictures.decode`).
        on_error: what happens where files cannot be read: stop, or skip them.
        memory_gb: GiB; more than this is not read into the memory but mapped.

    Raises:
        ConfigError: size and shape contradict each other. DataError: no pictures, or not as they should be.
        ResourceError: the cache does not fit on the disk.
    """
    to, base = _shape(shape, size), Path(root).expanduser()
    folders = _split_folders(base)
    classes = _classes(folders["train"])
    listed = {name: _listed(base, name, folder, classes) for name, folder in folders.items()}
    if "test" not in listed:
        listed["train"], listed["test"] = _held_out(base, listed["train"], classes)
        count, of = len(listed["test"]), len(listed["train"]) + len(listed["test"])
        note(f"{base}: no test/; held out for the test: {count:,} of {of:,} pictures, for every seed the same")
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
            raise DataError(f"{base}: a class is left without a training picture that can be read")
        start = span.stop
    return Source(splits["train"], splits["test"], classes, splits.get("validation"))


def _shape(shape: Sequence[int] | None, size: int | None) -> Shape:
    if shape is None:
        return 3, size or SIZE, size or SIZE
    channels, height, width = shape
    if channels not in MODES or size not in (None, height) or size not in (None, width):
        raise ConfigError(f"data.shape={[*shape]}: pictures have 1 channel (gray) or 3 (color), and data.size={size}; set one")
    return channels, height, width


def _folders(path: Path) -> list[Path]:
    """Those in a folder that are not hidden, sorted by name, or by number where all are numbers."""
    try:
        found = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name the folder of the pictures by data.root=FOLDER") from error
    numbers = all(entry.name.isdecimal() for entry in found)
    return sorted(found, key=lambda entry: (int(entry.name) if numbers else 0, entry.name))


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits, "train" always among them: `root` itself where it holds the classes."""
    found: dict[str, Path] = {}
    for name, spellings in SPLITS.items():
        own = [folder for folder in _folders(root) if folder.name.lower() in spellings and _folders(folder)]
        if len(own) > 1:
            raise DataError(f"{root}: both {own[0].name}/ and {own[1].name}/ hold {name} pictures; keep one of them")
        if own:
            found[name] = own[0]
    if found and "train" not in found:
        raise DataError(f"{root}: holds {'/ and '.join(folder.name for folder in found.values())}/ without train/")
    return found or {"train": root}


def _classes(train: Path) -> tuple[str, ...]:
    names = [folder.name for folder in _folders(train)]
    if len(names) < 2:
        raise DataError(f"{train}: {', '.join(names) or 'no class'}: expected two or more folders, one for each class")
    if odd := [name for name in names if not is_utf8(name)]:
        raise DataError(f"{train / odd[0]}: a name that is not UTF-8; rename it")
    for one, other in pairwise(sorted(names, key=str.lower)):
        if one.lower() == other.lower():
            raise DataError(f"{train}: the classes {one} and {other} differ only in case; rename one of them")
    return tuple(names)


def _listed(root: Path, split: str, folder: Path, classes: tuple[str, ...]) -> list[Picture]:
    """The pictures of a split by class and then by name, folders in folders included."""
    found: list[Picture] = []
    ignored: list[str] = []
    for own in _folders(folder):
        if own.name not in classes:
            raise DataError(f"{own}: {own.name} has no training pictures.{suggest(own.name, classes)}")
        before = len(found)
        for path in files_below(own):
            name = str(path.relative_to(root))
            with suppress(FileNotFoundError):  # it vanished
                status = path.stat() if path.exists() else path.lstat()  # a link to nothing cannot be read, which is told
                if path.suffix.lower() in SUFFIXES and (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                    found.append(Picture(name, classes.index(own.name), status.st_size, status.st_mtime_ns))
                else:
                    ignored.append(name)
        if split == "train" and len(found) == before:
            raise DataError(f"{own}: holds no pictures ({', '.join(SUFFIXES)}); name their folder by data.root=FOLDER")
    if not found:
        raise DataError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)})")
    if folder.name != split and folder != root:
        note(f"{folder}: taken as the {split} pictures")
    tell_ignored(folder, ignored)
    return found


def tell_ignored(folder: Path, names: Sequence[str]) -> None:
    """Say which files below a folder are left out, if there are any."""
    if names:
        few = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        note(f"{folder}: {len(names):,} left out, no pictures by their names: {few}")


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden, sorted; links are followed, but not to what lies above, and each folder is
    entered once.

    Raises:
        OSError: a folder cannot be listed, whose pictures would be lost without a word.
    """
    entered: set[tuple[int, int]] = set()
    start = folder.resolve()
    for path, inner, names in os.walk(folder, followlinks=True, onerror=_unless_it_vanished):
        within = (name for name in inner if not start.is_relative_to(os.path.realpath(os.path.join(path, name))))
        inner[:] = sorted(name for name in within if not name.startswith((".", "__")))
        try:
            status = os.stat(path)
        except OSError:  # it vanished, or is a process that ended
            inner.clear()
            continue
        if (status.st_dev, status.st_ino) in entered:
            inner.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        yield from (Path(path, name) for name in sorted(names) if not name.startswith("."))


def _unless_it_vanished(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _held_out(root: Path, pictures: list[Picture], classes: tuple[str, ...]) -> tuple[list[Picture], list[Picture]]:
    """The training and the test pictures."""
    labels = torch.tensor([one.label for one in pictures])
    sizes = torch.bincount(labels)
    scarce = int(sizes.argmin())
    if sizes[scarce] < 2:
        raise DataError(
            f"{root}: {classes[scarce]} holds one picture; expected two or more, of which some are held out for the test"
        )
    kept, held_out = stratified(labels, max(1, round(TEST_SHARE * len(labels))), TEST_SEED, "test")
    return [pictures[index] for index in kept.tolist()], [pictures[index] for index in held_out.tolist()]


def _report(root: Path, pictures: Sequence[Picture], failed: Mapping[int, Unreadable], on_error: str) -> None:
    """List what cannot be read; unless that is skipped, raise DataError."""
    for index, one in list(failed.items())[:LISTED]:
        note(f"cannot read {root / pictures[index].path}: {one.cause}")
    if not failed:
        return
    what = f"{root}: {len(failed):,} of {len(pictures):,} pictures cannot be read"
    if on_error == "stop":
        raise DataError(f"{what}; mend or remove them, or leave them out by data.on_error=skip")
    note(f"{what} and are left out")
