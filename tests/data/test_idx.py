import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_idx

from cnnlab.data import all_images, idx
from cnnlab.errors import DataError

HEADER_2X2 = b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" * 2
WHOLE = gzip.compress(HEADER_2X2 + bytes([1, 2, 3, 4]))


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
SPOILED_GZ = {
    "cut short": WHOLE[:-9],
    "a flipped byte": WHOLE[:12] + bytes([WHOLE[12] ^ 255]) + WHOLE[13:],
    "wrong checksum": WHOLE[:-8] + bytes(4) + WHOLE[-4:],
    "not compressed": HEADER_2X2 + bytes(4),
    "a web page": b"\n<html>\n",
} | {f"{name}, compressed": gzip.compress(content) for name, content in SPOILED.items()}


@pytest.mark.parametrize(
    ("name", "content"),
    [("spoiled", content) for content in SPOILED.values()] + [("spoiled.gz", content) for content in SPOILED_GZ.values()],
    ids=[*SPOILED, *SPOILED_GZ],
)
def test_read_names_a_spoiled_file_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"^[^\n]*/{name}: [^\n]*$"):
        idx.read(tmp_path / name)


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
    for split, prefix, count in ((source.train, "train", 300), (source.test, "t10k", 100)):
        images = all_images(split)
        assert (images.shape, images.dtype, split.labels.dtype) == ((count, 1, 28, 28), torch.uint8, torch.int64)
        assert split.labels.tolist() == [number % 10 for number in range(count)]
        stored = gzip.decompress(raw(data_root, f"{prefix}-images-idx3-ubyte", name).read_bytes())[16:]
        assert images.numpy().tobytes() == stored


@pytest.mark.parametrize(
    ("stem", "array", "says"),
    [
        ("train-labels-idx1-ubyte", np.zeros(299, np.uint8), "300 images and train-labels.* 299 labels"),
        ("train-labels-idx1-ubyte", np.full(300, 10, np.uint8), "train-labels.* label 10"),
        ("train-labels-idx1-ubyte", np.zeros((300, 1), np.uint8), r"train-labels.*\(300, 1\)"),
        ("train-labels-idx1-ubyte", np.zeros(0, np.uint8), " 0 labels"),
        ("t10k-images-idx3-ubyte", np.zeros((100, 784), np.uint8), r"t10k-images.*\(100, 784\)"),
        ("t10k-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8), "t10k-images"),
        (None, None, "MNIST/raw lacks train-images-idx3-ubyte, t10k-labels-idx1-ubyte "),
    ],
)
def test_load_refuses_files_that_do_not_belong_together(
    data_root: Path, stem: str | None, array: np.ndarray | None, says: str
) -> None:
    if stem is None or array is None:
        raw(data_root, "train-images-idx3-ubyte").unlink()
        raw(data_root, "t10k-labels-idx1-ubyte").unlink()
    else:
        write_idx(raw(data_root, stem), array)
    with pytest.raises(DataError, match=says):
        idx.load(str(data_root), download=False, name="MNIST")


def test_load_knows_two_sets(data_root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source\.name=KMNIST"):
        idx.load(str(data_root), download=False, name="KMNIST")


def test_a_file_that_stands_for_more_than_it_says_is_not_read_to_its_end(tmp_path: Path) -> None:
    bomb = gzip.compress(HEADER_2X2 + bytes(1 << 28), 1)  # a quarter of a GiB in 1 MiB
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write(HEADER_2X2)
        file.truncate(1 << 40)
    (tmp_path / "bomb.gz").write_bytes(bomb)
    tracemalloc.start()
    try:
        for path in (sparse, tmp_path / "bomb.gz"):
            with pytest.raises(DataError, match=path.name):
                idx.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
