"""IDX files, the format of MNIST and Fashion-MNIST, plain or `.gz`. Format: LeCun's page on MNIST, section FILE FORMATS."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnlab.data.download import fetch_idx
from cnnlab.data.source import Declared, Source, declares
from cnnlab.data.splits import InMemory
from cnnlab.errors import DataError

CLASSES = {
    "MNIST": tuple("0123456789"),
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
CHUNK = 1 << 20  # bytes read at a time
UNPACKED = 64 << 20  # bytes (MNIST has 47 million) that a compressed file may unpack to, plus three times its own size


def describe(name: str) -> Declared:
    """Return the shape and the classes of a set.

    Raises:
        DataError: there is no such set.
    """
    if name not in CLASSES:
        raise DataError(f"data.source.name={name}: expected one of {', '.join(CLASSES)}")
    return Declared((1, 28, 28), CLASSES[name])


@declares(describe)
def load(root: str, download: bool, name: str) -> Source:
    """Read the four files of a set from `root`/`name`/raw.

    Args:
        root: the data directory; may be read-only if nothing is missing.
        download: whether to download missing files.
        name: MNIST or FashionMNIST.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is invalid.
    """
    classes = describe(name).classes
    folder = Path(root) / name / "raw"
    stems = [f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    missing = [stem for stem in stems if find(folder, stem) is None]
    if missing:
        fetch_idx(folder, name, missing, download)
    train, test = (_split(folder, prefix, len(classes)) for prefix in ("train", "t10k"))
    return Source(train, test, classes)


def find(folder: Path, stem: str) -> Path | None:
    """Return the file of that name, plain or `.gz`, or None."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read(path: Path) -> NDArray[np.uint8]:
    """Read the array in an IDX file of unsigned bytes: magic 0, 0, 8, number of dimensions; each dimension; the data.

    Raises:
        DataError: the file is unreadable, in another format, or not as long as its header says.
    """
    again = "delete it and run again to download it"
    try:
        held = path.stat().st_size
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or magic[3] > 4:
                got = magic.hex() or "nothing"
                raise DataError(f"{path}: not an IDX file of bytes (starts with {got}, expected 000008..); {again}")
            shape = tuple(int(size) for size in np.frombuffer(file.read(4 * magic[3]), ">u4"))
            expected = prod(shape)
            if len(shape) < magic[3] or expected > (UNPACKED + 3 * held if path.suffix == ".gz" else held):
                raise DataError(f"{path}: its header says {' x '.join(map(str, shape))} bytes of data; {again}, or unpack it")
            data, length = np.empty(expected, np.uint8), 0
            while length < expected and (chunk := file.read(min(CHUNK, expected - length))):
                data[length : length + len(chunk)] = np.frombuffer(chunk, np.uint8)
                length += len(chunk)
            more = len(file.read(1))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {again}") from error
    if more or length != expected:
        found = "more data" if more else f"{length:,} bytes of data"
        raise DataError(f"{path}: holds {found}, but its header says {expected:,}; {again}")
    return data.reshape(shape)


def _split(folder: Path, prefix: str, num_classes: int) -> InMemory:
    image_path, label_path = find(folder, f"{prefix}-images-idx3-ubyte"), find(folder, f"{prefix}-labels-idx1-ubyte")
    assert image_path is not None
    assert label_path is not None
    images, labels = read(image_path), read(label_path)
    if images.ndim != 3 or not images.size:
        raise DataError(f"{image_path}: holds an array of shape {images.shape}, expected images (N x H x W)")
    if labels.ndim != 1:
        raise DataError(f"{label_path}: holds an array of shape {labels.shape}, expected labels (N)")
    if len(images) != len(labels):
        raise DataError(f"{image_path} holds {len(images):,} images and {label_path.name} {len(labels):,} labels")
    if labels.max() >= num_classes:
        raise DataError(f"{label_path}: holds the label {labels.max()}, expected 0 to {num_classes - 1}")
    return InMemory(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))
