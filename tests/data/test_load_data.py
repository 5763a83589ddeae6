from pathlib import Path
from typing import Any

import pytest
import torch

from cnnlab import data
from cnnlab.data import DataSet, Images, Source, idx
from cnnlab.errors import ConfigError, DataError
from cnnlab.schema import DataConfig

MNIST = {"_target_": "cnnlab.data.idx.load", "name": "MNIST"}


def section(root: Path | str, **changes: Any) -> DataConfig:
    values: dict[str, Any] = {
        "name": "mnist",
        "shape": [1, 28, 28],
        "num_classes": 10,
        "source": MNIST,
        "root": str(root),
        "download": False,
        "validation": 0,
        "limit": None,
        "classes": None,
        "normalize": False,
    }
    return DataConfig(**(values | changes))


def load(root: Path | str = "", seed: int = 0, **changes: Any) -> DataSet:
    return data.load_data(section(root, **changes), seed)


def coloured(constant: int | None = None, strided: bool = False) -> Source:
    """40 + 20 random colour images of 4 x 3 in three classes; a channel of one value; stored as N x H x W x C."""
    images = torch.randint(0, 256, (60, 3, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    if constant is not None:
        images[:, 1] = constant
    if strided:
        images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    labels = torch.arange(60) % 3
    return Source(Images(images[:40], labels[:40]), Images(images[40:], labels[40:]), ("red", "green", "blue"))


COLOURED = {"name": "coloured", "shape": [3, 4, 3], "num_classes": 3, "source": {"_target_": f"{__name__}.coloured"}}


def rows(part: Images) -> list[tuple[bytes, int]]:
    return [(image.numpy().tobytes(), label) for image, label in zip(part.images, part.labels.tolist(), strict=True)]


def test_everything_is_kept_as_it_is_in_the_files(data_root: Path) -> None:
    loaded, source = load(data_root), idx.load(str(data_root), False, "MNIST")
    assert rows(loaded.train) == rows(source.train)
    assert rows(loaded.test) == rows(source.test)
    assert loaded.validation is None
    assert list(loaded.parts()) == ["train", "test"]
    assert (loaded.name, loaded.shape, loaded.classes) == ("mnist", (1, 28, 28), source.classes)
    assert loaded.numbers == tuple(range(10))
    assert (loaded.mean.tolist(), loaded.std.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize(("validation", "count"), [(50, 50), (0.1, 30)])
def test_validation_images_come_from_the_training_images_alone(data_root: Path, validation: float, count: int) -> None:
    whole, loaded = load(data_root), load(data_root, validation=validation)
    assert loaded.validation is not None
    assert list(loaded.parts()) == ["train", "validation", "test"]
    assert torch.bincount(loaded.validation.labels).tolist() == [count // 10] * 10
    assert sorted(rows(loaded.train) + rows(loaded.validation)) == sorted(rows(whole.train))
    assert rows(loaded.test) == rows(whole.test)


def test_limit_shortens_the_training_set_and_nothing_else(data_root: Path) -> None:
    free, limited = load(data_root, validation=50), load(data_root, validation=50, limit=20)
    assert free.validation is not None
    assert limited.validation is not None
    assert len(limited.train) == 20
    assert set(rows(limited.train)) < set(rows(free.train))
    assert rows(limited.validation) == rows(free.validation)
    assert rows(limited.test) == rows(free.test)


def test_limit_counts_what_is_left_after_the_split(data_root: Path) -> None:
    assert len(load(data_root, validation=50, limit=250).train) == 250
    with pytest.raises(ConfigError, match=r"data\.limit=251: expected at most 250"):
        load(data_root, validation=50, limit=251)


def test_the_seed_draws_split_and_limit(data_root: Path) -> None:
    first, other = (load(data_root, seed, validation=50, limit=100) for seed in (0, 1))
    assert rows(first.train) != rows(other.train)
    assert rows(first.validation or first.test) != rows(other.validation or other.test)


@pytest.mark.parametrize("classes", [[3, 5], [5, 3], [9, 0, 4]])
def test_classes_are_relabelled_in_the_order_chosen(data_root: Path, classes: list[int]) -> None:
    whole, chosen = load(data_root), load(data_root, classes=classes)
    assert chosen.classes == tuple(str(number) for number in classes)
    assert chosen.numbers == tuple(classes)
    for before, after in ((whole.train, chosen.train), (whole.test, chosen.test)):
        expected = [(image, classes.index(label)) for image, label in rows(before) if label in classes]
        assert rows(after) == expected


@pytest.mark.parametrize("classes", [[], [3], [3, 3], [3, 10], [-1, 3]])
def test_classes_must_be_two_or_more_different_ones(data_root: Path, classes: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes=\[.*two or more different ones of 0, 1, "):
        load(data_root, classes=classes)


@pytest.mark.parametrize("change", [{"shape": [1, 32, 32]}, {"shape": [3, 28, 28]}, {"num_classes": 11}])
def test_shape_and_classes_must_be_those_of_the_files(data_root: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.shape=.*mnist has images of \[1, 28, 28\] and 10 classes"):
        load(data_root, **change)


def test_validation_must_leave_training_images(data_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation=300: holds out 300 of 300"):
        load(data_root, validation=300)
    with pytest.raises(ConfigError, match=r"data\.validation=60: holds out 60 of 60"):
        load(data_root, validation=60, classes=[1, 2])


def test_normalize_uses_the_channels_of_the_training_part() -> None:
    loaded = load(**COLOURED, validation=10, limit=25, normalize=True)
    pixels = loaded.train.images.double() / 255
    assert len(pixels) == 25
    torch.testing.assert_close(loaded.mean, pixels.mean((0, 2, 3)).float(), rtol=1e-7, atol=0)
    torch.testing.assert_close(loaded.std, pixels.std((0, 2, 3), correction=0).float(), rtol=1e-7, atol=0)
    assert (loaded.mean.dtype, loaded.std.dtype) == (torch.float32, torch.float32)


def test_a_channel_of_one_value_is_not_divided_by_zero() -> None:
    source = COLOURED["source"] | {"constant": 51}
    loaded = load(**COLOURED | {"source": source}, normalize=True)
    assert loaded.mean[1].item() == pytest.approx(0.2)
    assert loaded.std[1] == 1


def digests(seed: int = 0, **settings: Any) -> tuple[str, str]:
    loaded = load(None, seed, **COLOURED | settings)
    return loaded.train_digest, loaded.test_digest


def test_digests_are_of_the_images_whatever_the_seed_and_the_split() -> None:
    plain = digests()
    for same in ({"validation": 10}, {"limit": 30}, {"normalize": True}, {"classes": [0, 1, 2]}, {"seed": 1, "validation": 10}):
        assert digests(**same) == plain, same
    others = [plain, digests(source=COLOURED["source"] | {"constant": 7}), digests(classes=[1, 0, 2]), digests(classes=[0, 2])]
    assert len({train for train, _ in others}) == len({test for _, test in others}) == 4


def test_a_source_may_store_its_images_with_channels_last() -> None:
    source = COLOURED["source"] | {"strided": True}
    loaded = load(**COLOURED | {"source": source})
    assert rows(loaded.train) == rows(load(**COLOURED).train)
    assert loaded.train_digest == load(**COLOURED).train_digest


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ({"_target_": "cnnlab.data.idx.loads"}, ConfigError, r"data\.source\._target_.* Did you mean load"),
        (MNIST | {"nmae": "MNIST"}, ConfigError, r"data\.source\.nmae: no such key.* Did you mean data\.source\.name"),
        ({"_target_": "cnnlab.data.idx.load"}, ConfigError, r"data\.source\.name: .* needs a value"),
        (MNIST, DataError, "lacks train-images"),
    ],
)
def test_a_source_that_cannot_be_read(tmp_path: Path, source: dict[str, str], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        load(tmp_path, source=source)


def test_a_shared_source_is_read_once(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = load(data_root, seed=3, validation=50)
    reads: list[str] = []
    original = idx.load

    def counted(root: str, download: bool, name: str) -> Source:
        reads.append(root)
        return original(root, download, name)

    monkeypatch.setattr(idx, "load", counted)
    monkeypatch.setattr(data, "SHARED", {})
    data.share(section(data_root))
    assert rows(load(data_root, seed=3, validation=50).train) == rows(alone.train)
    assert load(data_root, seed=3).test_digest == alone.test_digest
    assert reads == [str(data_root)]
    assert len(load(data_root, source=MNIST | {"name": "FashionMNIST"}).train) == 300  # another source is read
    assert len(reads) == 2
