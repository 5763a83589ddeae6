"""Files of a run, perhaps somebody else's, are data: regular, bounded, and damage is told by its place."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cnnlab import reading
from cnnlab.errors import CheckpointError
from cnnlab.tracking import files

READERS = [reading.read_json, reading.read_json_lines, reading.read_yaml]


def made(kind: str, path: Path) -> Path:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link":
        path.with_name("elsewhere").write_text('{"seed": 0}\n')
        path.symlink_to(path.with_name("elsewhere"))
    elif kind == "a link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "a sparse terabyte":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    return path


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link", "a link to a device", "a sparse terabyte"])
def test_what_is_no_file_of_a_run_is_refused_at_once(kind: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="record"):
            read(made(kind, tmp_path / "record"))
        assert tracemalloc.get_traced_memory()[1] < 3 * reading.MAX_RECORD
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a": 1e400}', '{"a": 1.7e308}', '{"a": NaN}', '{"a": -Infinity}', f'{{"a": {"9" * 5000}}}',
     '{"a": 9223372036854775808}',
     '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", '{"a": ' + '{"b":' * 60 + "1" + "}" * 61, "\ud800",
     '{"a": ["\\ud800"]}', '{"\\uDFFF": 1}'],
)  # fmt: skip
def test_json_is_an_object_of_ordinary_numbers_and_depth(text: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"result\.json"):
        reading.read_json(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1" + ":59" * 300_000,
        "a: 1" + ":59" * 200 + ".5",
        "a: -1:0",
        "1: 2",
        "a: {5: 1}",
        "a: [{null: 1}]",
        "true: 1",
        "2.5: 1",
    ],
)
def test_yaml_holds_no_key_and_no_number_that_is_written_nowhere(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        reading.read_yaml(tmp_path / "config.yaml")


def test_yaml_comes_back_as_it_was_written(tmp_path: Path) -> None:
    content = {"a": "1:59", "b": "1:99", "c": "10:20:30.5", "d": "http://x:80/1:2", "1": "é", "null": [0.5, {"true": None}]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    assert reading.read_yaml(tmp_path / "config.yaml") == content


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    content = {"a": [1, -2, 0.1, 1e-300, None, True, "x"], "b": {"c": {"d": 2**62}}}
    files.write_json(tmp_path / "one", content)
    assert reading.read_json(tmp_path / "one") == content
    assert reading.read_json(tmp_path / "none") is None


@pytest.mark.parametrize(
    "tail",
    [b'{"step": 3, "lo', b"12", b"\0\0\0\0", b"[1]\n", b"\xff\xfe\x80\n"],
    ids=["cut", "number", "zeros", "list", "bytes"],
)
def test_a_last_line_that_is_incomplete_is_passed_over(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + tail)
    assert reading.read_json_lines(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("damage", [b"x", b"\0", b'{"step": \n', b"\n"])
def test_damage_anywhere_else_is_told_by_its_line(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for place, number in ((0, 1), (12, 2)):
        whole = b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'
        path.write_bytes(whole[:place] + damage + whole[place:])
        with pytest.raises(CheckpointError, match=f"line {number}"):
            reading.read_json_lines(path)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    link = tmp_path / "metrics.jsonl"
    link.symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        files.append_json_line(link, {"step": 1})
    with pytest.raises(OSError, match="link"), files.exclusive(link):
        pass
    files.write_json(link, {"a": 1})  # replaces the link
    assert (outside.read_text(), json.loads(link.read_text())) == ("kept", {"a": 1})
