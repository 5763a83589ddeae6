"""Row 5: data sets and pictures that are malformed: one line that names the thing, exit 2, nothing lost."""

import gzip
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import write_idx
from made import original, picture
from malformed import cut, garbage, refuses
from malformed import place as place
from PIL import Image
from protocol import share
from small_runs import SMALL
from watch import said, state

STEMS = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def magic(path: Path, random_: random.Random) -> None:
    path.write_bytes(random_.choice([b"", b"\0\0\x08", b"\0\0\x09\x03", b"\x1f\x8b\x08\0", b"PK\3\4"]) + path.read_bytes()[4:])


def shape(path: Path, random_: random.Random) -> None:
    """A header of other sides, of none, or of more than there is."""
    sides = random_.choice([(), (0,), (20, 28), (2**32 - 1,) * 3, (2**31, 1, 1), (20, 28, 27), (21, 28, 28), (1,) * 4])
    path.write_bytes(bytes([0, 0, 8, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + path.read_bytes()[16:])


def longer(path: Path, _: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def packed(path: Path, random_: random.Random) -> None:
    """Compressed, and then cut or flipped where the sum is."""
    content = gzip.compress(path.read_bytes())
    broken = content[: random_.randrange(len(content) - 9)] if random_.random() < 0.5 else content[:-8] + b"\0" * 8
    path.with_suffix(".gz").write_bytes(broken)
    path.unlink()


def labels(path: Path, _: random.Random) -> None:
    """Labels or images that are not as many, or not of the classes."""
    write_idx(path, np.full(21, 200, np.uint8) if "labels" in path.name else np.zeros((21, 28, 28), np.uint8))


@pytest.mark.parametrize("seed", share(range(42), 6))
def test_an_idx_file(call, place: Path, seed: int) -> None:
    raw = place / "data/MNIST/raw"
    for stem in STEMS:
        images = np.zeros((20, 28, 28), np.uint8) if "images" in stem else (np.arange(20) % 10).astype(np.uint8)
        write_idx(raw / stem, images)
    stem = STEMS[seed % len(STEMS)]
    breaks = (cut, garbage, magic, shape, longer, packed, labels)
    breaks[seed % len(breaks)](raw / stem, random.Random(seed))
    command = ("evaluate", original("run"), "data=mnist", f"data.root={place / 'data'}")
    refuses(call, *command, names=stem.partition("-")[0], kept=place)


@pytest.mark.parametrize("seed", share(range(8), 6))
def test_a_cifar_file(call, place: Path, seed: int) -> None:
    folder = place / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(bytes([0, 3073, 30_730_001][seed % 3]))
    if seed % 2:
        (folder / "test_batch.bin").unlink()
    if seed > 5:
        (folder / "test_batch.bin").unlink(missing_ok=True)
        (folder / "test_batch.bin").mkdir()
    command = ("train", *SMALL[3:], "data=cifar10", "data.download=false", f"data.root={place}", "hydra.run.dir=new")
    refuses(call, *command, names="cifar-10-batches-bin", kept=place)


FOLDERS: list[tuple[str, ...]] = [
    (), ("a/1.png",), ("a/1.png", "b/x.txt"), ("a/", "b/"), ("a/1.png", "A/1.png"), ("1.png", "2.png"),
    ("train/a/1.png", "train/b/1.png", "test/c/1.png"), ("test/a/1.png", "test/b/1.png"), (".a/1.png", "b/1.png"),
    ("train/a/1.png", "train/b/1.png", "training/a/1.png", "training/b/1.png"), ("a/1.png", "b/1.png"), ("a/b/c/1.png",),
]  # fmt: skip


@pytest.mark.parametrize("files", share(FOLDERS, 6))
def test_a_folder_of_pictures(call, place: Path, files: tuple[str, ...]) -> None:
    root = place / "pictures"
    root.mkdir()
    for name in files:
        (root / name).mkdir(parents=True) if name.endswith("/") else picture(root / name)
    command = ("train", *SMALL[3:], "data=folder", f"data.root={root}", "data.size=8", "hydra.run.dir=new")
    refuses(call, *command, names="pictures", kept=place)


KINDS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


@pytest.mark.parametrize("seed", share(range(50), 6))
def test_a_picture(call, place: Path, seed: int) -> None:
    random_, kind = random.Random(seed), KINDS[seed % len(KINDS)]
    good, bad = picture(place / "good.png"), place / f"bad.{kind.lower()}"
    Image.effect_noise((64, 64), 80).save(bad, kind)
    size = bad.stat().st_size
    content = [
        lambda: bad.read_bytes()[: random_.randrange(size // 2)],
        lambda: random_.randbytes(200),
        lambda: bytes(200),
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        lambda: bad.read_bytes()[8:],
    ][seed // len(KINDS) % 6]()
    bad.write_bytes(content)
    before = state(place)
    code, *output = call("predict", original("run"), bad, good)
    assert code == 2, output
    assert [line for line in said(output).splitlines() if line.startswith(f"cannot read {bad}")]
    assert "good.png" in output[0]
    assert state(place) == before
