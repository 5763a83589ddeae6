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


def describe(name: str) -> Declared:
    """What a set holds.

    Raises:
        DataError: no such set.
    """
    if name not in CLASSES:
        raise DataError(f"data.source.name={name}: expected one of {', '.join(CLASSES)}")
    return Declared((1, 28, 28), CLASSES[name])


@declares(describe)
def load(root: str, download: bool, name: str) -> Source:
    """Read the four files of a set from `root`/`name`/raw.

    Args:
        root: the data directory; may be read-only when nothing is missing.
        download: fetch what is missing.
        name: MNIST or FashionMNIST.

    Raises:
        DataError: a file is missing and cannot be fetched, or is not what it should be.
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
    """The file of that name, plain or `.gz`, or None."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes: magic 0, 0, 8, number of dimensions; each dimension; the data.

    Raises:
        DataError: unreadable, of another format, or not as long as its header says.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and run again to download it") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or raw[3] > 4 or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path}: not an IDX file of bytes (starts with {raw[:4].hex() or 'nothing'}, expected 000008..)")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", raw[3], offset=4))
    start, expected = 4 + 4 * raw[3], prod(shape)
    if len(raw) - start != expected:
        raise DataError(
            f"{path}: holds {len(raw) - start:,} bytes of data, its header says {expected:,}; "
            "delete it and run again to download it"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


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
    return InMemory(torch.from_numpy(images[:, None].copy()), torch.from_numpy(labels.astype(np.int64)))
