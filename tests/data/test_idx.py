import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_idx

from cnnlab.data import idx
from cnnlab.errors import DataError

HEADER_2X2 = b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" * 2


def header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def raw(root: Path, stem: str, name: str = "MNIST") -> Path:
    return root / name / "raw" / f"{stem}.gz"


def test_read_follows_the_format_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "two-by-two"
    path.write_bytes(HEADER_2X2 + bytes([1, 2, 3, 255]))
    assert idx.read(path).tolist() == [[1, 2], [3, 255]]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (5, 28, 28), (2, 3, 4, 5), (300, 1, 1)])
def test_read_returns_what_was_written(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_idx(tmp_path / f"file{suffix}", array)
    result = idx.read(tmp_path / f"file{suffix}")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, array)


SPOILED = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html>\n<html>Moved</html>",
    "of floats": b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00",
    "header cut short": HEADER_2X2[:7],
    "data cut short": HEADER_2X2 + b"\x01\x02\x03",
    "bytes too many": HEADER_2X2 + b"\x01\x02\x03\x04\x05",
    "size beyond 64 bits": header(2**31, 2**31, 4),
    "more dimensions than arrays have": header(*[1] * 70) + b"\x01",
}


@pytest.mark.parametrize("content", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_read_refuses_spoiled_files(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"spoiled-file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError, match=r"^[^\n]*spoiled-file[^\n]*$"):
        idx.read(path)


WHOLE = gzip.compress(HEADER_2X2 + bytes([1, 2, 3, 4]))


@pytest.mark.parametrize(
    "content",
    [
        WHOLE[:-9],
        WHOLE[:12] + bytes([WHOLE[12] ^ 255]) + WHOLE[13:],
        WHOLE[:-8] + bytes(4) + WHOLE[-4:],
        HEADER_2X2 + bytes(4),
        b"\n<html>\n",
    ],
    ids=["cut short", "a flipped byte", "wrong checksum", "not compressed", "a web page"],
)
def test_read_refuses_spoiled_compression(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spoiled-file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^[^\n]*spoiled-file\.gz: [^\n]*$"):
        idx.read(path)


def test_read_tells_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(header(60_000, 28, 28) + bytes(1234))
    with pytest.raises(DataError, match=r"holds 1,234 bytes.*says 47,040,000"):
        idx.read(path)


def test_find_prefers_the_plain_file(tmp_path: Path) -> None:
    assert idx.find(tmp_path, "stem") is None
    (tmp_path / "stem.gz").touch()
    assert idx.find(tmp_path, "stem") == tmp_path / "stem.gz"
    (tmp_path / "stem").touch()
    assert idx.find(tmp_path, "stem") == tmp_path / "stem"


@pytest.mark.parametrize(("name", "last_class"), [("MNIST", "9"), ("FashionMNIST", "Ankle boot")])
def test_load_keeps_pixels_labels_and_order(data_root: Path, name: str, last_class: str) -> None:
    source = idx.load(str(data_root), download=False, name=name)
    assert len(source.classes) == 10
    assert source.classes[9] == last_class
    for part, prefix, count in ((source.train, "train", 300), (source.test, "t10k", 100)):
        assert part.images.shape == (count, 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.labels.tolist() == [number % 10 for number in range(count)]
        stored = gzip.decompress(raw(data_root, f"{prefix}-images-idx3-ubyte", name).read_bytes())[16:]
        assert part.images.numpy().tobytes() == stored


ZEROS = np.zeros


@pytest.mark.parametrize(
    ("stem", "array", "message"),
    [
        ("train-labels-idx1-ubyte", ZEROS(299, np.uint8), "holds 300 images and train-labels.* 299 labels"),
        ("train-labels-idx1-ubyte", np.full(300, 10, np.uint8), "train-labels.*holds the label 10, expected 0 to 9"),
        ("train-labels-idx1-ubyte", ZEROS((300, 1), np.uint8), r"train-labels.*shape \(300, 1\), expected labels"),
        ("train-labels-idx1-ubyte", ZEROS(0, np.uint8), "300 images and train-labels.* 0 labels"),
        ("t10k-images-idx3-ubyte", ZEROS((100, 784), np.uint8), r"t10k-images.*shape \(100, 784\), expected images"),
        ("t10k-images-idx3-ubyte", ZEROS((0, 28, 28), np.uint8), "t10k-images.*expected images"),
        ("t10k-images-idx3-ubyte", ZEROS((100, 32, 30), np.uint8), "training images are 28 x 28, the test images 32 x 30"),
    ],
)
def test_load_refuses_files_that_do_not_belong_together(data_root: Path, stem: str, array: np.ndarray, message: str) -> None:
    write_idx(raw(data_root, stem), array)
    with pytest.raises(DataError, match=message):
        idx.load(str(data_root), download=False, name="MNIST")


def test_load_names_every_missing_file(data_root: Path) -> None:
    raw(data_root, "train-images-idx3-ubyte").unlink()
    raw(data_root, "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"MNIST/raw lacks train-images-idx3-ubyte, t10k-labels-idx1-ubyte \(.*download=false"):
        idx.load(str(data_root), download=False, name="MNIST")


def test_load_knows_two_sets(data_root: Path) -> None:
    with pytest.raises(DataError, match="KMNIST: expected one of MNIST, FashionMNIST"):
        idx.load(str(data_root), download=False, name="KMNIST")
