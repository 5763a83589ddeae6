import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from conftest import write_cifar

from cnnlab.data import all_images, cifar
from cnnlab.errors import DataError

RECORDS = 12


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert cifar.RECORDS_PER_FILE * cifar.RECORD_BYTES == 30_730_000  # an official file
    monkeypatch.setattr(cifar, "RECORDS_PER_FILE", RECORDS)
    write_cifar(tmp_path, RECORDS)
    return tmp_path


def binary(root: Path, name: str) -> Path:
    return root / "cifar-10-batches-bin" / name


def test_load_reads_the_six_files_in_their_order(root: Path) -> None:
    source = cifar.load(str(root), download=False)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for split, files in ((source.train, names), (source.test, ["test_batch.bin"])):
        images = all_images(split)
        assert images.shape == (len(files) * RECORDS, 3, 32, 32)
        assert (images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        content = b"".join(binary(root, name).read_bytes() for name in files)
        assert b"".join(bytes([y]) + x.numpy().tobytes() for x, y in zip(images, split.labels.tolist(), strict=True)) == content


def test_a_record_is_its_label_then_red_green_and_blue_rows(root: Path) -> None:
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[0, 0, 1], pixels[1, 31, 0], pixels[2, 2, 3] = 11, 22, 33
    path = binary(root, "test_batch.bin")
    path.write_bytes(bytes([7]) + pixels.tobytes() + path.read_bytes()[3073:])
    test = cifar.load(str(root), download=False).test
    assert test.labels[0] == 7
    image = test.gather(torch.tensor([0]))[0]
    assert {tuple(place.tolist()): int(image[tuple(place)]) for place in image.nonzero()} == {
        (0, 0, 1): 11, (1, 31, 0): 22, (2, 2, 3): 33,
    }  # fmt: skip


SPOILED: dict[str, tuple[bytes | None, str]] = {
    "cut short": (bytes(RECORDS * 3073 - 1), "36,875 bytes, expected 36,876"),
    "too long": (bytes(RECORDS * 3073 + 1), "too many bytes, expected 36,876"),
    "empty": (b"", " 0 bytes"),
    "label beyond nine": (bytes(4 * 3073) + bytes([10]) + bytes(RECORDS * 3073 - 4 * 3073 - 1), "record 4 has the label 10"),
    "missing": (None, "download=false"),
}


@pytest.mark.parametrize(("content", "says"), SPOILED.values(), ids=SPOILED)
def test_load_names_a_spoiled_or_missing_file_in_one_line(root: Path, content: bytes | None, says: str) -> None:
    binary(root, "data_batch_3.bin").unlink()
    if content is not None:
        binary(root, "data_batch_3.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"^[^\n]*data_batch_3\.bin[^\n]*{says}[^\n]*$"):
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


def test_load_reads_the_python_version_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python_version(tmp_path, monkeypatch)
    source = cifar.load(str(tmp_path), download=False)
    assert len(source.train) == 20
    stored = pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert all_images(source.test).numpy().tobytes() == stored["data"].tobytes()
    assert source.test.labels.tolist() == stored["labels"]
    monkeypatch.setattr(cifar, "RECORDS_PER_FILE", RECORDS)
    write_cifar(tmp_path, RECORDS)
    assert len(cifar.load(str(tmp_path), download=False).train) == 5 * RECORDS


def test_a_spoiled_python_version_is_named_and_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python_version(tmp_path, monkeypatch)
    with (tmp_path / "cifar-10-batches-py" / "data_batch_1").open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(DataError, match=r"^[^\n]*cifar-10-batches-py: [^\n]*$"):
        cifar.load(str(tmp_path), download=False)
