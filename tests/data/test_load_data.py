import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnlab import data
from cnnlab.config.schema import SOURCE_SETTINGS, DataConfig
from cnnlab.data import DataSet, Declared, InMemory, MemoryMapped, Source, Split, all_images, declares, idx, loading, take
from cnnlab.errors import ConfigError, DataError

MNIST = {"_target_": "cnnlab.data.idx.load", "name": "MNIST"}


def section(root: Path | str, **changes: Any) -> DataConfig:
    values = {"name": "mnist", "source": MNIST, "root": str(root), "download": False, "validation": 0, "normalize": False}
    return DataConfig(**values | dict.fromkeys(("shape", "num_classes", "limit", "classes", *SOURCE_SETTINGS)) | changes)


def load(root: Path | str = "", seed: int = 0, **changes: Any) -> DataSet:
    return data.load_data(section(root, **changes), seed)


def colored(root: str = "", constant: int | None = None, kind: str = "plain") -> Source:
    """40 + 20 random color images of 4 x 3 in three classes; a channel of one value; in memory or not."""
    images = torch.randint(0, 256, (60, 3, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    if constant is not None:
        images[:, 1] = constant
    if kind == "strided":
        images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    labels = torch.arange(60) % 3
    if kind == "mapped":
        images.numpy().tofile(f"{root}/images")
        mapped = np.memmap(f"{root}/images", np.uint8, "r", shape=(60, 3, 4, 3))
        return Source(MemoryMapped(mapped[:40], labels[:40]), MemoryMapped(mapped[40:], labels[40:]), tuple("rgb"))
    if kind == "views":
        whole = InMemory(images, labels)
        return Source(take(whole, torch.arange(40)), take(whole, torch.arange(40, 60)), tuple("rgb"))
    if kind == "float":
        images = images.float()
    if kind == "unlike":
        return Source(InMemory(images[:40], labels[:40]), InMemory(images[40:, :, 1:], labels[40:]), tuple("rgb"))
    return Source(InMemory(images[:40], labels[:40]), InMemory(images[40:], labels[40:]), tuple("rgb"))


def reading_colored(**changes: Any) -> dict[str, Any]:
    return {"name": "colored", "source": {"_target_": f"{__name__}.colored", **changes}}


@declares(lambda size: Declared((1, size, size), ("a", "b")))
def squares(size: int, really: int = 8) -> Source:
    """Two images of `really` pixels a side, whatever is declared."""
    split = InMemory(torch.zeros(2, 1, really, really, dtype=torch.uint8), torch.tensor([0, 1]))
    return Source(split, split, ("a", "b"))


def rows(split: Split | None) -> list[tuple[bytes, int]]:
    assert split is not None
    return [(image.numpy().tobytes(), label) for image, label in zip(all_images(split), split.labels.tolist(), strict=True)]


def test_everything_is_kept_as_it_is_in_the_files(data_root: Path) -> None:
    loaded, source = load(data_root), idx.load(str(data_root), False, "MNIST")
    assert (rows(loaded.train), rows(loaded.test)) == (rows(source.train), rows(source.test))
    assert list(loaded.splits()) == ["train", "test"]
    assert (loaded.name, loaded.shape, loaded.classes) == ("mnist", (1, 28, 28), source.classes)
    assert loaded.numbers == tuple(range(10))
    assert (loaded.mean.tolist(), loaded.std.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize(("validation", "count"), [(50, 50), (0.1, 30)])
def test_validation_images_come_from_the_training_images_alone(data_root: Path, validation: float, count: int) -> None:
    whole, loaded, other = load(data_root), load(data_root, validation=validation), load(data_root, 1, validation=validation)
    assert loaded.validation is not None
    assert list(loaded.splits()) == ["train", "validation", "test"]
    assert torch.bincount(loaded.validation.labels).tolist() == [count // 10] * 10
    assert sorted(rows(loaded.train) + rows(loaded.validation)) == sorted(rows(whole.train))
    assert rows(loaded.test) == rows(whole.test)
    assert rows(loaded.validation) != rows(other.validation)  # the seed draws it


def test_limit_shortens_what_is_left_of_the_training_set_and_nothing_else(data_root: Path) -> None:
    free, limited = load(data_root, validation=50), load(data_root, validation=50, limit=20)
    assert len(limited.train) == 20
    assert set(rows(limited.train)) < set(rows(free.train))
    assert rows(limited.validation) == rows(free.validation)
    assert rows(limited.test) == rows(free.test)
    assert rows(load(data_root, 1, limit=20).train) != rows(load(data_root, limit=20).train)
    assert len(load(data_root, validation=50, limit=250).train) == 250
    with pytest.raises(ConfigError, match=r"data\.limit=251"):
        load(data_root, validation=50, limit=251)


@pytest.mark.parametrize("classes", [[3, 5], [5, 3], [9, 0, 4]])
def test_classes_are_relabelled_in_the_order_chosen(data_root: Path, classes: list[int]) -> None:
    whole, chosen = load(data_root), load(data_root, classes=classes)
    assert chosen.classes == tuple(str(number) for number in classes)
    assert chosen.numbers == tuple(classes)
    for before, after in ((whole.train, chosen.train), (whole.test, chosen.test)):
        assert rows(after) == [(image, classes.index(label)) for image, label in rows(before) if label in classes]


WRONG: list[tuple[dict[str, Any], str]] = [
    *[({"classes": classes}, r"data\.classes=\[") for classes in ([], [3], [3, 3], [3, 10], [-1, 3])],
    *[({"shape": shape}, r"data\.shape=.* has \[1, 28, 28\]") for shape in ([1, 32, 32], [3, 28, 28])],
    ({"num_classes": 11}, r"data\.num_classes=11.* has 10"),
    ({"validation": 300}, r"data\.validation=300.*300 of 300"),
    ({"validation": 60, "classes": [1, 2]}, r"data\.validation=60.*60 of 60"),
    ({"source": {"_target_": "cnnlab.data.idx.loads"}}, r"data\.source\._target_.* Did you mean load"),
    ({"source": MNIST | {"nmae": "MNIST"}}, r"data\.source\.nmae.* Did you mean data\.source\.name"),
    ({"source": {"_target_": "cnnlab.data.idx.load"}}, r"data\.source\.name: .* needs a value"),
    (reading_colored(kind="float") | {"normalize": True}, r"data\.normalize=true"),
]


@pytest.mark.parametrize(("changes", "says"), WRONG, ids=str)
def test_what_the_set_cannot_give_is_told_by_its_key(data_root: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{says}[^\n]*$"):
        load(data_root, **changes)


def test_a_source_says_its_shape_and_classes_unread(tmp_path: Path) -> None:
    assert data.describe(section(tmp_path)) == ((1, 28, 28), tuple(range(10)))  # there are no files
    assert data.describe(section(tmp_path, classes=[3, 5])) == ((1, 28, 28), (3, 5))
    assert data.describe(section(tmp_path, shape=[3, 150, 150], num_classes=2)) == ((3, 150, 150), (0, 1))
    own = {"_target_": f"{__name__}.squares", "size": 8}
    assert data.describe(section(tmp_path, source=own)) == ((1, 8, 8), (0, 1))
    assert load(source=own).shape == (1, 8, 8)
    with pytest.raises(DataError, match=r"^data\.source: [^\n]*declares \(1, 8, 8\)"):
        load(source=own | {"really": 9})
    with pytest.raises(ConfigError, match=r"^data\.shape: [^\n]*add data\.shape="):
        data.describe(section("", **reading_colored()))
    with pytest.raises(ConfigError, match=r"^data\.num_classes: [^\n]*add data\.num_classes="):
        data.describe(section("", **reading_colored(), shape=[3, 4, 3]))
    with pytest.raises(DataError, match=r"^data\.source: train images of \(3, 4, 3\), test images of \(3, 3, 3\)$"):
        load(**reading_colored(kind="unlike"))


@pytest.mark.parametrize("kind", ["plain", "mapped"])
def test_normalize_uses_the_channels_of_the_training_images_kept(kind: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, **reading_colored(kind=kind, constant=51), validation=10, limit=25, normalize=True)
    pixels = all_images(loaded.train).double() / 255
    assert len(pixels) == 25
    torch.testing.assert_close(loaded.mean, pixels.mean((0, 2, 3)).float(), rtol=1e-7, atol=0)
    expected = pixels.std((0, 2, 3), correction=0).float()
    expected[1] = 1  # a channel of one value is not divided by zero
    torch.testing.assert_close(loaded.std, expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("kind", ["plain", "strided", "views", "mapped", "float"])
def test_digests_are_of_the_images_then_the_labels_wherever_they_lie(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnlab.data.content.CHUNK_BYTES", 36 * 7)  # chunks of 7 images
    loaded, plain = load(tmp_path, **reading_colored(kind=kind)), colored()
    for found, split in ((loaded.train_digest, plain.train), (loaded.test_digest, plain.test)):
        pixels = all_images(split).numpy().astype(np.float32 if kind == "float" else np.uint8)
        assert found == hashlib.blake2b(pixels.tobytes() + split.labels.numpy().tobytes(), digest_size=8).hexdigest()


def test_digests_do_not_depend_on_the_seed_and_the_split() -> None:
    def digests(seed: int = 0, constant: int | None = None, **settings: Any) -> tuple[str, str]:
        loaded = load("", seed, **reading_colored(constant=constant) | settings)
        return loaded.train_digest, loaded.test_digest

    plain = digests()
    for same in ({"validation": 10}, {"limit": 30}, {"normalize": True}, {"classes": [0, 1, 2]}, {"seed": 1, "validation": 10}):
        assert digests(**same) == plain, same
    others = [plain, digests(constant=7), digests(classes=[1, 0, 2]), digests(classes=[0, 2])]
    assert len({train for train, _ in others}) == len({test for _, test in others}) == 4


def test_the_training_images_are_on_the_device_once() -> None:
    loaded = data.load_data(section("", **reading_colored(), validation=10, limit=20), 0, torch.device("meta"))
    assert loaded.train.base is loaded.validation.base  # type: ignore[attr-defined, union-attr]
    assert loaded.train.gather(torch.arange(3, device="meta")).shape == (3, 3, 4, 3)
    assert {split.device.type for split in loaded.splits().values()} == {"meta"}
    assert {split.labels.device.type for split in loaded.splits().values()} == {"cpu"}


def test_a_shared_source_is_not_read_again(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = load(data_root, seed=3, validation=50)
    monkeypatch.setattr(loading, "SHARED", {})
    data.share(section(data_root))
    (data_root / "MNIST/raw/train-images-idx3-ubyte.gz").unlink()
    shared = load(data_root, seed=3, validation=50)
    assert (rows(shared.train), shared.test_digest) == (rows(alone.train), alone.test_digest)
    assert len(load(data_root, source=MNIST | {"name": "FashionMNIST"}).train) == 300  # another source is read


def raising() -> Declared:
    raise RuntimeError("not today")


@declares(lambda: ((1, 8, 8), ("a", "b")))  # type: ignore[arg-type, return-value]
def plain_tuple() -> Source:
    return squares(8)


@declares(raising)
def refusing() -> Source:
    return squares(8)


@pytest.mark.parametrize("source", ["plain_tuple", "refusing"])
def test_what_declares_wrongly_is_told(source: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.source\._target_=[^\n]*$"):
        data.describe(section("", source={"_target_": f"{__name__}.{source}"}))
