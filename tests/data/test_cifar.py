import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from conftest import write_cifar

from cnnlab.data import cifar
from cnnlab.errors import DataError

RECORDS = 12


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cifar, "RECORDS_PER_FILE", RECORDS)
    write_cifar(tmp_path, RECORDS)
    return tmp_path


def binary(root: Path, name: str) -> Path:
    return root / "cifar-10-batches-bin" / name


def test_the_official_size_is_30_730_000_bytes_a_file() -> None:
    assert cifar.RECORDS_PER_FILE * cifar.RECORD_BYTES == 30_730_000


def test_load_reads_the_six_files_in_their_order(root: Path) -> None:
    source = cifar.load(str(root), download=False)
    assert source.train.images.shape == (5 * RECORDS, 3, 32, 32)
    assert source.test.images.shape == (RECORDS, 3, 32, 32)
    assert (source.train.images.dtype, source.train.labels.dtype) == (torch.uint8, torch.int64)
    assert len(source.classes) == 10
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for part, files in ((source.train, names), (source.test, ["test_batch.bin"])):
        content = b"".join(binary(root, name).read_bytes() for name in files)
        rebuilt = b"".join(bytes([y]) + x.numpy().tobytes() for x, y in zip(part.images, part.labels.tolist(), strict=True))
        assert rebuilt == content


def test_a_record_is_its_label_then_red_green_and_blue_rows(root: Path) -> None:
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[0, 0, 1], pixels[1, 31, 0], pixels[2, 2, 3] = 11, 22, 33
    path = binary(root, "test_batch.bin")
    path.write_bytes(bytes([7]) + pixels.tobytes() + path.read_bytes()[3073:])
    test = cifar.load(str(root), download=False).test
    assert test.labels[0] == 7
    places = {tuple(place.tolist()): int(test.images[0][tuple(place)]) for place in test.images[0].nonzero()}
    assert places == {(0, 0, 1): 11, (1, 31, 0): 22, (2, 2, 3): 33}


@pytest.mark.parametrize("change", [-1, 1, -RECORDS * 3073], ids=["cut short", "too long", "empty"])
def test_load_refuses_a_file_of_another_size(root: Path, change: int) -> None:
    size = RECORDS * 3073
    binary(root, "data_batch_3.bin").write_bytes(bytes(size + change))
    expected = rf"^[^\n]*data_batch_3\.bin: has {size + change:,} bytes, expected {size:,}; delete it [^\n]*$"
    with pytest.raises(DataError, match=expected):
        cifar.load(str(root), download=False)


def test_load_refuses_a_label_beyond_nine(root: Path) -> None:
    content = bytearray(binary(root, "data_batch_5.bin").read_bytes())
    content[4 * 3073] = 10
    binary(root, "data_batch_5.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_5\.bin: record 4 has the label 10, expected 0 to 9"):
        cifar.load(str(root), download=False)


def test_load_names_the_missing_files(root: Path) -> None:
    binary(root, "data_batch_2.bin").unlink()
    binary(root, "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_2\.bin, test_batch\.bin, and data\.download=false"):
        cifar.load(str(root), download=False)


def write_python_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the Python version, whose md5 sums torchvision is told to expect."""
    random, dataset = np.random.default_rng(6), torchvision.datasets.CIFAR10
    folder = root / dataset.base_folder
    folder.mkdir()

    def store(name: str, content: Any) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name: str) -> list[str]:
        content = {"data": random.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": random.integers(0, 10, 4).tolist()}
        return [name, store(name, content)]

    monkeypatch.setattr(dataset, "train_list", [batch(f"data_batch_{number}") for number in range(1, 6)])
    monkeypatch.setattr(dataset, "test_list", [batch("test_batch")])
    meta = store("batches.meta", {"label_names": list(cifar.CLASSES)})
    monkeypatch.setattr(dataset, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})


def test_load_reads_the_python_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python_version(tmp_path, monkeypatch)
    source = cifar.load(str(tmp_path), download=False)
    assert source.train.images.shape == (20, 3, 32, 32)
    stored = pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert source.test.images.numpy().tobytes() == stored["data"].tobytes()
    assert source.test.labels.tolist() == stored["labels"]


def test_load_prefers_the_binary_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python_version(root, monkeypatch)
    assert len(cifar.load(str(root), download=False).train) == 5 * RECORDS


def test_a_spoiled_python_version_is_named_and_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python_version(tmp_path, monkeypatch)
    with (tmp_path / "cifar-10-batches-py" / "data_batch_1").open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(
        DataError, match=r"^[^\n]*cifar-10-batches-py: torchvision refuses it [^\n]*delete the directory[^\n]*$"
    ):
        cifar.load(str(tmp_path), download=False)
