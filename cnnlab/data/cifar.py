"""CIFAR-10 in its two official layouts: the binary version, and the Python version through torchvision.

Format of the binary version (https://www.cs.toronto.edu/~kriz/cifar.html): 10,000 records per file, each with 1 label byte and
3,072 bytes in red, green and blue planes of 32 x 32.
"""

from pathlib import Path

import numpy as np
import torch

from cnnlab.data.download import fetch_cifar10
from cnnlab.data.source import Declared, Source, declares
from cnnlab.data.splits import InMemory
from cnnlab.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORDS_PER_FILE = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32


@declares(lambda: Declared((3, 32, 32), CLASSES))
def load(root: str, download: bool) -> Source:
    """Read `root`/cifar-10-batches-bin or, if files are missing there, `root`/cifar-10-batches-py.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is invalid.
    """
    binary = Path(root) / "cifar-10-batches-bin"
    missing = [name for name in TRAIN_FILES + TEST_FILES if not (binary / name).is_file()]
    if missing and (Path(root) / "cifar-10-batches-py").is_dir():
        return _load_python_version(Path(root))
    if missing:
        fetch_cifar10(binary, missing, download)
    return Source(_split(binary, TRAIN_FILES), _split(binary, TEST_FILES), CLASSES)


def _split(folder: Path, names: tuple[str, ...]) -> InMemory:
    records = np.concatenate([_records(folder / name) for name in names])
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return InMemory(torch.from_numpy(images.copy()), torch.from_numpy(records[:, 0].astype(np.int64)))


def _records(path: Path) -> np.ndarray:
    expected = RECORDS_PER_FILE * RECORD_BYTES
    try:
        raw = np.fromfile(path, np.uint8, expected + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if raw.size != expected:
        held = "too many bytes" if raw.size > expected else f"{raw.size:,} bytes"
        raise DataError(f"{path}: has {held}, expected {expected:,}; delete it and run again to download it")
    records = raw.reshape(-1, RECORD_BYTES)
    if records[:, 0].max() >= len(CLASSES):
        record = int((records[:, 0] >= len(CLASSES)).argmax())
        raise DataError(f"{path}: record {record} has the label {records[record, 0]}, expected 0 to 9: not a CIFAR-10 file")
    return records


def _load_python_version(root: Path) -> Source:
    from torchvision.datasets import CIFAR10  # unpickles only files whose md5 sums it knows

    splits = []
    for train in (True, False):
        try:
            data = CIFAR10(str(root), train=train, download=False)
        except Exception as error:
            raise DataError(
                f"{root / CIFAR10.base_folder}: torchvision cannot read it ({error}); delete the directory and run again"
            ) from error
        images = torch.from_numpy(data.data.transpose(0, 3, 1, 2).copy())
        splits.append(InMemory(images, torch.tensor(data.targets, dtype=torch.int64)))
    return Source(splits[0], splits[1], CLASSES)
