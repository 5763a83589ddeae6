"""Pictures in class folders: layouts, kinds of files, the cache, and what is broken."""

import errno
import fcntl
import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab.data import MemoryMapped, Source, all_images, cache, folder, pictures
from cnnlab.errors import CnnlabError, ConfigError, DataError, ResourceError

RED, BLUE = (250, 10, 10), (10, 10, 250)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/cnnlab/pictures"


def paint(path: Path, color: Any = RED, size: tuple[int, int] = (20, 16), mode: str = "RGB", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten red pictures of class a, ten blue ones of class b, without splits."""
    for index in range(10):
        paint(tmp_path / f"photos/a/{index}.png", RED)
        paint(tmp_path / f"photos/b/{index}.png", BLUE)
    return tmp_path / "photos"


def read(root: Path, **options: Any) -> Source:
    return folder.load(str(root), **({"size": 8} | options))


def test_without_split_folders_a_fifth_of_each_class_is_held_out(photos: Path) -> None:
    source = read(photos)
    assert source.classes == folder.load.describe(str(photos)).classes == ("a", "b")
    for split, count in ((source.train, 8), (source.test, 2)):
        assert torch.bincount(split.labels).tolist() == [count, count]
        assert (all_images(split)[:, 0] > 128).all((1, 2)).tolist() == (split.labels == 0).tolist()  # red is class a


def test_split_folders_by_any_of_their_names(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = photos.parent / "whole"
    for name in ("Train", "val", "test"):
        for path in photos.glob("*/*.png"):
            paint(whole / name / path.parent.name / path.name, RED)
    (whole / "test/b/0.png").unlink()
    source = read(whole)
    assert [len(split) for split in (source.train, source.validation, source.test) if split] == [20, 20, 19]
    assert "used as the validation" in capsys.readouterr().err


def test_classes_that_are_called_like_a_split(photos: Path) -> None:
    (photos / "a").rename(photos / "train")
    assert read(photos).classes == ("b", "train")


def test_numbered_classes_stand_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        paint(tmp_path / f"x/{number}/1.png")
    assert folder.describe(str(tmp_path / "x")).classes == ("1", "9", "10")


@pytest.mark.parametrize(("mode", "color", "expected", "name"), [
    ("L", 100, (100, 100, 100), "gray.png"),
    ("1", 1, (255, 255, 255), "bit.bmp"),
    ("RGBA", (0, 0, 0, 0), (255, 255, 255), "clear.webp"),
    ("LA", (0, 128), (127, 127, 127), "half.png"),
    ("I;16", 100 * 257, (100, 100, 100), "deep.png"),
    ("CMYK", (0, 255, 255, 0), (255, 0, 0), "print.jpg"),
    ("P", 0, (0, 0, 0), "palette.gif"),
    ("CMYK", (0, 255, 255, 0), (255, 0, 0), "print.tiff"),
    ("I;16", 100 * 257, (100, 100, 100), "deep.tif"),
])  # fmt: skip
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str, color: Any, expected: Any, name: str) -> None:
    path = paint(tmp_path / name, color, mode=mode, **({"lossless": True} if name.endswith("webp") else {}))
    found = pictures.decode(path, (3, 4, 4), "crop")
    assert isinstance(found, np.ndarray)
    assert np.abs(found.astype(int).max((1, 2)) - expected).max() <= 3
    assert np.abs(found.astype(int).min((1, 2)) - expected).max() <= 3


def test_pixels_without_a_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "floats.tif")
    assert isinstance(pictures.decode(tmp_path / "floats.tif", (1, 4, 4), "crop"), pictures.Unreadable)


def test_an_animation_gives_its_first_frame_and_exif_turns(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert pictures.decode(tmp_path / "two.gif", (3, 1, 1), "crop")[0, 0, 0] > 200
    array = np.zeros((16, 16), np.uint8)
    array[:8] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is above in the file is on the right
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    found = pictures.decode(tmp_path / "turned.png", (1, 2, 2), "stretch")[0]
    assert found[:, 0].max() < 60
    assert found[:, 1].min() > 200


@pytest.mark.parametrize(("resize", "expected"), [("crop", [255] * 4), ("pad", [0, 136, 136, 0]), ("stretch", [136] * 4)])
def test_ways_of_resizing(tmp_path: Path, resize: Any, expected: list[int]) -> None:
    array = np.zeros((8, 16), np.uint8)  # twice as wide as high; the middle half is white, at its ends black
    array[:, 4:12] = 255
    Image.fromarray(array).save(tmp_path / "wide.png")
    found = pictures.decode(tmp_path / "wide.png", (1, 4, 4), resize)[0]
    rows = found.mean(1).tolist()
    assert rows == pytest.approx(expected, abs=20)
    assert pictures.decode(paint(tmp_path / "line.png", size=(1, 3000)), (3, 8, 8), resize).shape == (3, 8, 8)


def test_shrinking_is_antialiased_and_drafts_do_not_change_the_picture(tmp_path: Path) -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    assert np.abs(pictures.decode(tmp_path / "checks.png", (1, 8, 8), "crop").astype(int) - 127).max() < 20
    ramp = np.tile(np.linspace(0, 255, 800), (800, 1)).astype(np.uint8)
    for name in ("ramp.png", "ramp.jpg"):
        Image.fromarray(ramp).save(tmp_path / name)
    png, jpg = (pictures.decode(tmp_path / name, (1, 20, 20), "crop").astype(int) for name in ("ramp.png", "ramp.jpg"))
    assert np.abs(png - jpg).max() <= 3


def bomb(path: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def test_broken_files_are_refused_or_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb(photos / "a/bomb.png")
    (photos / "a/text.jpg").write_text("not a picture")
    (photos / "b/empty.png").touch()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)).save(photos / "b/cut.jpg")
    os.truncate(photos / "b/cut.jpg", 900)
    with pytest.raises(DataError, match="4 of 24"):
        read(photos)
    listed = capsys.readouterr().err
    assert all(name in listed for name in ("bomb.png", "text.jpg", "empty.png", "cut.jpg"))
    for memory_gb in (1.0, 0.0):
        source = read(photos, on_error="skip", memory_gb=memory_gb)
        assert len(source.train) + len(source.test) == 20
        assert (all_images(source.train)[:, 0] > 128).all((1, 2)).tolist() == (source.train.labels == 0).tolist()


def test_a_folder_that_cannot_be_listed_is_not_passed_over(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(photos / "a/more/1.png")
    scan = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="more"):
        read(photos)


def test_what_is_no_picture_is_ignored(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "a/notes.txt").write_text("notes")
    os.mkfifo(photos / "a/pipe.png")
    for hidden in (".DS_Store", "._0.png"):
        (photos / "a" / hidden).touch()
    (photos / ".cache").mkdir()
    (photos / "b/again").symlink_to(photos / "b")
    (photos / "b/gone.png").symlink_to(photos / "nowhere")
    source = read(photos, on_error="skip")
    assert len(source.train) + len(source.test) == 20
    err = capsys.readouterr().err
    assert ("ignored 2" in err, "b/gone.png: No such file" in err, "20 of 21 pictures decoded" in err) == (True, True, True)


@pytest.mark.parametrize(("change", "word"), [
    ("rm a/* b/*", "no pictures"), ("rm -r a", "two or more"), ("rm -r a b", "two or more"),
    ("cp -r a A", "differ only in case"),
    ("mkdir train && mv a b train && mkdir -p test/c", "c has no training"), ("mkdir c && cp a/0.png c", "c holds one"),
    ("mkdir test && mv a b test", "no train"),
    ("mkdir train val valid && cp -r a b val && cp -r a b valid && mv a b train", "both"),
    ("mkdir c", "c: holds no pictures"),
])  # fmt: skip
def test_folders_that_make_no_data_set(photos: Path, change: str, word: str) -> None:
    assert os.system(f"cd {photos} && {change}") == 0
    with pytest.raises(DataError, match=word):
        read(photos)


def test_a_missing_folder_and_sizes_that_contradict_each_other(photos: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root"):
        read(photos / "none")
    for options in ({"shape": [3, 9, 9]}, {"shape": [2, 8, 8]}):
        with pytest.raises(ConfigError):
            read(photos, **options)
    assert read(photos, size=None, shape=[1, 8, 12]).train.shape == (1, 8, 12)


def test_a_second_start_reads_the_cache(photos: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(photos)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "decode_all", None)
        again, mapped = read(photos), read(photos, memory_gb=0.0)
    assert torch.equal(all_images(before.train), all_images(again.train))
    assert isinstance(mapped.train, MemoryMapped)
    assert torch.equal(all_images(before.test), all_images(mapped.test))
    paint(photos / "a/0.png", BLUE, size=(9, 9))  # a file that changed
    read(photos)
    assert len(list(cache_home.iterdir())) == 2


@pytest.mark.parametrize("kept", [0, 100, 1000, -1])
def test_a_cut_off_cache_is_made_again(photos: Path, cache_home: Path, kept: int) -> None:
    before = read(photos)
    (path,) = cache_home.iterdir()
    os.truncate(path, kept if kept >= 0 else path.stat().st_size - 1)
    assert torch.equal(all_images(read(photos).train), all_images(before.train))
    assert path.read_bytes().endswith(b"{}}")


def retail(path: Path, failed: dict[str, Any]) -> None:
    """Let a cache say that other pictures cannot be read."""
    images, _, said = path.read_bytes().rpartition(b'{"sha256"')
    path.write_bytes(images + json.dumps(json.loads(b'{"sha256"' + said) | {"failed": failed}).encode())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SAID = {"cause": "x", "passing": False}


@pytest.mark.parametrize(
    "spoil",
    [damage, pipe]
    + [partial(retail, failed=failed) for failed in ({"20": SAID}, {"-1": SAID}, {"0": SAID | {"cause": 5}}, {"0": [1]})],
)
def test_a_cache_that_is_not_what_was_written_is_made_again(
    photos: Path, cache_home: Path, spoil: Callable[[Path], None]
) -> None:
    before = read(photos)
    (path,) = cache_home.iterdir()
    written = path.read_bytes()
    spoil(path)
    assert torch.equal(all_images(read(photos).train), all_images(before.train))
    assert path.read_bytes() == written


def test_a_class_whose_name_is_no_text(photos: Path) -> None:
    os.rename(photos / "a", os.fsencode(photos) + b"/a\xff")
    with pytest.raises(DataError, match="UTF-8"):
        read(photos)


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(photos: Path, cache_home: Path) -> None:
    cache_home.mkdir(parents=True)
    for name in (".of_a_killed_one", ".of_a_live_one", ".new"):
        (cache_home / name).write_bytes(b"pixels")
    for name in (".of_a_killed_one", ".of_a_live_one"):
        os.utime(cache_home / name, (0, 0))
    with (cache_home / ".of_a_live_one").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        read(photos)
    assert {path.name for path in cache_home.iterdir() if path.suffix != ".npy"} == {".of_a_live_one", ".new"}


def test_a_full_disk_leaves_nothing_behind(photos: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cnnlab.data.cache.os.fsync", full)
    with pytest.raises(ResourceError, match="XDG_CACHE_HOME"):
        read(photos)
    assert list(cache_home.iterdir()) == []


def test_a_file_that_vanishes_or_may_not_be_read_is_tried_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(files: Any, *rest: Any) -> Any:
        files[0].rename(files[0].with_suffix(".away"))
        return pictures.decode_all(files, *rest)

    monkeypatch.setattr(cache, "decode_all", vanish)
    with pytest.raises(DataError, match="1 of 20"):
        read(photos)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))
    assert not any((photos.parent / "cache/cnnlab/pictures").iterdir())


def test_training_and_scoring_other_pictures(photos: Path, tmp_path: Path, call: Any) -> None:
    run = tmp_path / "run"
    small = ("data=folder", f"data.root={photos}", "data.size=8", "model=mlp", "model.hidden=[4]", "trainer.epochs=1",
             "console=quiet", "data.validation=2")  # fmt: skip
    code, _, err = call("train", *small, f"hydra.run.dir={run}")
    assert (code, json.loads((run / "environment.json").read_text())["data"]["classes"]) == (0, ["a", "b"]), err
    assert call("evaluate", run)[0] == 0
    assert call("summary", *small)[0] == 0
    assert call("train", "data=digits", "data.size=8")[0] == 2
    assert call("train", *small, "data.resize=cut")[0] == 2


def test_errors_are_one_line(photos: Path) -> None:
    (photos / "a/0.png").write_text("")
    with pytest.raises(CnnlabError) as caught:
        read(photos)
    assert "\n" not in str(caught.value)
