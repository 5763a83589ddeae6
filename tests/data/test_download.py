import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision

from cnnlab.data import cifar, download, idx
from cnnlab.errors import DataError

CONTENT = bytes(range(256))
NEED = "data/set lacks a-file"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(url: str, path: Path) -> str:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.fetch(["http://mirror/a-file"], tmp_path / "to" / "a-file", md5(CONTENT), NEED)
    assert list((tmp_path / "to").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "to").write_text("a file where the directory should be")
    with pytest.raises(DataError, match=rf"^{NEED}[^\n]*CNNLAB_DATA[^\n]*$"):
        download.fetch(["file:///never"], tmp_path / "to" / "a-file", md5(CONTENT), NEED)


@pytest.mark.parametrize(
    "fetch",
    [
        lambda folder: download.fetch_idx(folder, "MNIST", ["train-images-idx3-ubyte"], download=False),
        lambda folder: download.fetch_cifar10(folder, ["test_batch.bin"], download=False),
    ],
)
def test_nothing_is_fetched_when_that_is_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(DataError, match=r"^[^\n]*data\.download=false[^\n]*$"):
        fetch(tmp_path)


def test_idx_load_fetches_only_what_is_missing(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, stem = data_root / "MNIST" / "raw", "train-labels-idx1-ubyte"
    mirror = data_root / "mirror"
    mirror.mkdir()
    (folder / f"{stem}.gz").rename(mirror / f"{stem}.gz")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///no-such-mirror/", f"{mirror.as_uri()}/"])
    sums = [(f"{stem}.gz", md5((mirror / f"{stem}.gz").read_bytes()))]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    assert len(idx.load(str(data_root), download=True, name="MNIST").train) == 300
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != f"{stem}.gz"} == before


def test_torchvision_still_lists_the_four_files_of_both_sets() -> None:
    stems = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for name in idx.CLASSES:
        source = getattr(torchvision.datasets, name)
        assert {f"{stem}.gz" for stem in stems} <= set(dict(source.resources))
        assert all(mirror.endswith("/") for mirror in source.mirrors)


def test_cifar_load_unpacks_the_missing_files_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS_PER_FILE", 2)
    archive = tmp_path / "server" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for number, name in enumerate((*cifar.TRAIN_FILES, *cifar.TEST_FILES, "readme.html")):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 2 * 3073
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", (archive.parent / "cifar-10-python.tar.gz").as_uri())
    monkeypatch.setattr(download, "CIFAR10_ARCHIVE", (archive.name, md5(archive.read_bytes())))
    folder = tmp_path / "root" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "data_batch_2.bin").write_bytes(bytes([9]) * 2 * 3073)  # there already: kept
    source = cifar.load(str(tmp_path / "root"), download=True)
    assert source.train.labels.tolist() == [0, 0, 9, 9, 2, 2, 3, 3, 4, 4]
    assert source.test.labels.tolist() == [5, 5]
    assert sorted(path.name for path in folder.parent.rglob("*") if path.is_file()) == sorted(
        cifar.TRAIN_FILES + cifar.TEST_FILES
    )
