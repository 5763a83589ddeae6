"""The official data sets, where $CNNLAB_DATA holds them."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from cnnlab.data import cifar, idx

ROOT = Path(os.environ.get("CNNLAB_DATA", "data"))

# md5 sums of the files' contents as their authors published them.
SUMS = {
    ("MNIST", "train-images-idx3-ubyte"): "6bbc9ace898e44ae57da46a324031adb",
    ("MNIST", "train-labels-idx1-ubyte"): "a25bea736e30d166cdddb491f175f624",
    ("MNIST", "t10k-images-idx3-ubyte"): "2646ac647ad5339dbf082846283269ea",
    ("MNIST", "t10k-labels-idx1-ubyte"): "27ae3e4e09519cfbb04c329615203637",
    ("FashionMNIST", "train-images-idx3-ubyte"): "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    ("FashionMNIST", "train-labels-idx1-ubyte"): "9018921c3c673c538a1fc5bad174d6f9",
    ("FashionMNIST", "t10k-images-idx3-ubyte"): "8181f5470baa50b63fa0f6fddb340f0a",
    ("FashionMNIST", "t10k-labels-idx1-ubyte"): "15d484375f8d13e6eb1aabb0c3f46965",
}


def needs(folder: str) -> None:
    if not (ROOT / folder).is_dir():
        pytest.skip(f"needs {folder} under CNNLAB_DATA, which is {ROOT}")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_the_official_idx_files_are_read_to_the_byte(name: str) -> None:
    needs(f"{name}/raw")
    source = idx.load(str(ROOT), download=False, name=name)
    for split, prefix in ((source.train, "train"), (source.test, "t10k")):
        images, labels = split.images.numpy(), split.labels.to(torch.uint8).numpy()
        # The header: magic number, count, height, width, each a big-endian 32-bit number.
        headers = [b"".join(n.to_bytes(4, "big") for n in (0x803, len(images), 28, 28)), (0x801).to_bytes(4, "big")]
        headers[1] += len(labels).to_bytes(4, "big")
        for array, header, kind in ((images, headers[0], "images-idx3"), (labels, headers[1], "labels-idx1")):
            digest = hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest()
            assert digest == SUMS[name, f"{prefix}-{kind}-ubyte"], f"{prefix} {kind}"


@pytest.mark.real_data
def test_cifar10_has_its_classes_and_channels() -> None:
    needs("cifar-10-batches-bin")
    source = cifar.load(str(ROOT), download=False)
    assert torch.bincount(source.train.labels).tolist() == [5000] * 10
    assert torch.bincount(source.test.labels).tolist() == [1000] * 10
    # The published channel means, of values / 255.
    means = source.train.images.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
