"""Row 7: bombs, interpolations, links, pipes and devices in a run and in data: nothing is read or written elsewhere."""

import gzip
import itertools
import struct
import zlib
from pathlib import Path

import pytest
from hostile import COMMANDS, INSTEAD
from hostile import place as place
from made import (
    copied,
    edit_meta,
    edit_yaml,
    fifo,
    original,
    put,
)
from protocol import share
from watch import said, watched

BOMBS = {
    "laughs": "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "deep": "seed: " + "[" * 100_000,
    "mappings": "a:" + " {a:" * 5000,
    "recursive": "seed: &a [*a]\n",
    "merge": "x: &x {a: 1}\nseed: {<<: *x}\n",
    "sexagesimal": "seed: 1" + ":59" * 300_000,
    "keys": "5: 1\nnull: 1\n",
    "many": "seed: [" + "a," * 500_000 + "]",
    "tag python": "seed: !!python/object/apply:os.system ['rm canary']\n",
    "tag name": "seed: !!python/name:os.system\n",
    "tag module": "seed: !!python/module:canary_module\n",
    "tag object": "seed: !!python/object/new:subprocess.Popen [['rm', 'canary']]\n",
    "tag binary": "seed: !!binary aGVsbG8=\n",
    "tag set": "seed: !!set {a, b}\n",
    "tag own": "seed: !x 1\n",
    "timestamp": "seed: 2001-13-45\n",
    "large number": "seed: " + "9" * 300_000 + "\n",
    "wide number": "seed: " + "1" * 400 + "\n",
    "no end": "seed: 1e999999999\n",
    "nan": "seed: .nan\n",
    "directive": "%YAML 9.9\n---\nseed: 0\n",
    "documents": "seed: 0\n---\nseed: 1\n",
    "nul": "seed: \0\n",
    "not utf-8": b"seed: \xff\xfe\n",
    "utf-16": "seed: 0\n".encode("utf-16"),
    "large": "seed: 0 #" + " " * (1 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", share(BOMBS, 3))
def test_a_configuration_that_is_a_bomb(call, place: Path, name: str) -> None:
    run, text = copied("run", place), BOMBS[name]
    rest = (run / "config.yaml").read_bytes().replace(b"seed: 0\n", b"", 1)
    (run / "config.yaml").write_bytes(text + rest if isinstance(text, bytes) else text.encode() + rest)
    for command in ("evaluate", "resume"):
        with watched() as seen:
            code, *output = call(*COMMANDS[command](run))
        assert (code, seen) == (2, []), output
        assert said(output).count("\n") == 1
    copied("transfer", place)
    with watched() as seen:
        code, *output = call("compare", place)
    assert (code, seen) == (0, []), output
    assert "not counted: 1 run" in said(output)


INTERPOLATIONS = ["${oc.env:SECRET}", "${oc.env:HOME}", "${.seed}", "${hydra:run.dir}", "${now:%Y}", "${oc.decode:'1'}",
                  "$SECRET", "${eval:1}", "~", "$(rm canary)", "`rm canary`", "%(SECRET)s", "{SECRET}"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key"),
    share(itertools.product(INTERPOLATIONS, ("data.name", "data.root", "model.activation", "trainer.device")), 9),
)
def test_an_interpolation_is_these_characters(call, place: Path, text: str, key: str) -> None:
    run = copied("run", place)
    edit_yaml(run / "config.yaml", lambda cfg: put(cfg, key, text))
    if key == "model.activation":
        for name in ("last", "best"):
            edit_meta(run / f"{name}.safetensors", lambda meta: put(meta, f"network.{key}", text))
    for command in ("evaluate", "resume"):
        with watched(run) as seen:
            code, *output = call(*COMMANDS[command](run))
        assert seen == []
        assert "stolen" not in said(output)
        assert code in ((0, 2) if key.startswith("data") else (2,)), output
    with watched() as seen:
        call("compare", run, "--json", "--runs")
    assert seen == []
    assert "stolen" not in (run / "config.yaml").read_text()


# --- links, pipes, devices

FILES = ("config.yaml", "environment.json", "metrics.jsonl", "result.json", "last.safetensors", "best.safetensors",
         "predictions.safetensors", ".lock", "visuals", "output.log")  # fmt: skip


@pytest.mark.parametrize(("name", "instead"), share(itertools.product(FILES, INSTEAD), 11))
def test_something_else_in_the_place_of_a_file(call, place: Path, name: str, instead: str) -> None:
    run = copied("run", place)
    if name in ("result.json", ".lock", "metrics.jsonl"):
        (run / "result.json").unlink()  # so that it goes on
    INSTEAD[instead](run / name)
    for command in ("evaluate", "resume", "predict"):
        with watched(run) as seen:
            code, *output = call(*COMMANDS[command](run))
        assert seen == []
        assert code in (0, 2), output
        said(output)
    with watched(run, place) as seen:
        code, *output = call("compare", run, "--html", place / "report.html")
        assert code in (0, 2)
        said(output)
        if name == "visuals":
            assert call("visualize", run, "curves")[0] == 2
    assert seen == []


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes(1 << 20)) * 2
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_picture_that_is_a_bomb(call, place: Path) -> None:
    folder = place / "bombs"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(60_000, 60_000))
    (folder / "b.png").write_bytes(png(0x7FFFFFFF, 0x7FFFFFFF))
    (folder / "c.png").symlink_to("/dev/zero")
    (folder / "d.png").symlink_to("/dev/random")
    fifo(folder / "e.png")
    (folder / "loop").symlink_to(folder)
    (folder / "f.gif").write_bytes(b"GIF89a" + b"\xff" * 100)
    with watched() as seen:
        code, *output = call("predict", original("run"), folder)
    assert (code, seen) == (2, []), output
    assert said(output).count("cannot be read") == 1
    assert output[1].count("cannot read") == 6


def test_an_idx_file_that_is_a_bomb(call, place: Path) -> None:
    raw = place / "MNIST/raw"
    raw.mkdir(parents=True)
    header = b"\0\0\x08\x03" + struct.pack(">III", 2**21, 28, 28)
    for stem in ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1"):
        (raw / f"{stem}-ubyte.gz").write_bytes(gzip.compress(header + bytes(1 << 24)))
    run = copied("run", place)
    edit_yaml(run / "config.yaml", lambda cfg: cfg["data"].update(
        source={"_target_": "cnnlab.data.idx.load", "name": "MNIST"}, root=str(place)))  # fmt: skip
    with watched() as seen:
        code, *output = call("evaluate", run)
    assert (code, seen) == (2, []), output
    assert said(output).count("\n") == 1
