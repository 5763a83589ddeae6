"""Read the files of a run or sweep, perhaps somebody else's, with limits on size, depth and numbers. Does not import torch.

Every such file is read here. Only regular files are opened, and no link is followed: it could lead out of the directory, or to
a device that never ends.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from cnnlab.errors import CheckpointError, ResourceError, as_known, is_utf8

MIB = 1 << 20
MAX_CONFIG, MAX_RECORD, MAX_EVENTS = MIB, 64 * MIB, 4096 * MIB  # bytes: config.yaml; JSON and its lines; event files
MAX_DEPTH = 50  # of lists and mappings in a file
MAX_NODES = 100_000  # scalars, lists and mappings of config.yaml
MAX_VALUES, BYTES_A_VALUE = 500_000, 32  # of JSON: at most this many, plus one per 32 bytes of the file
LARGEST_INTEGER, LARGEST_NUMBER = (1 << 64) - 1, 1e150  # larger ones overflow when they are summed or squared
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")  # 1:59:59 is a number in YAML, and slow if it is long


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        CheckpointError: a link, a device, a pipe or a folder, or it cannot be read. FileNotFoundError: no such file.
        OSError: the disk fails, or too many files are open.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(as_known(error), ResourceError):  # the disk, or too many open files
            raise
        cause = "a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise CheckpointError(f"{path}: cannot be read ({cause})") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CheckpointError(f"{path}: not a regular file")
    return os.fdopen(handle, "rb")


def require_regular(path: Path) -> None:
    """Raise what `open_regular` raises, for a file that a library will open."""
    open_regular(path).close()


def read_bytes(path: Path, at_most: int) -> bytes:
    """Return the content of a file.

    Raises:
        CheckpointError: larger than `at_most` bytes, or as `open_regular`. FileNotFoundError: no such file.
    """
    with open_regular(path) as file:
        try:
            content = file.read(at_most + 1)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > at_most:
        raise CheckpointError(f"{path}: larger than {at_most // MIB:,} MiB, more than cnnlab ever writes")
    return content


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None without the file.

    Raises:
        CheckpointError: it cannot be read, or is not an object within the limits.
    """
    try:
        return parse_json(read_bytes(path, MAX_RECORD))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from error


def parse_json(text: bytes) -> dict[str, Any]:
    """Parse the object in a JSON text, such as the content of a file.

    Raises:
        ValueError: not JSON, or not an object within the limits.
    """
    return _object(_countable(text))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a JSON lines file, except a last one cut off by a kill or power cut; [] without the file.

    Raises:
        CheckpointError: any other line is damaged.
    """
    try:
        lines = _countable(read_bytes(path, MAX_RECORD)).split(b"\n")
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    found, ended = [], lines.pop()  # after the last line's end: nothing, or an incomplete line
    for number, line in enumerate(lines, 1):
        try:
            found.append(_object(line))
        except ValueError as error:
            if number == len(lines) and not ended:
                break  # its end reached the disk before its beginning
            raise CheckpointError(
                f"{path}: line {number} is damaged ({error}); restore the file, or remove that line"
            ) from error
    return found


def read_yaml(path: Path) -> dict[Any, Any]:
    """Return the mapping in a YAML file of a run.

    Raises:
        CheckpointError: cannot be read, not YAML, or not a mapping. FileNotFoundError: no such file.
    """
    return parse_yaml(read_bytes(path, MAX_CONFIG), path)


def parse_yaml(content: bytes, path: Path) -> dict[Any, Any]:
    """Parse the mapping in the text of the YAML file `path`; interpolations such as `${oc.env:HOME}` stay plain text.

    Aliases, tags, deep nesting, keys that are not text, sexagesimal numbers and integers of more than 64 bits, which cnnlab
    never writes, are refused: a few lines of aliases can stand for a terabyte.

    Raises:
        CheckpointError: not YAML, or not a mapping.
    """
    loader, depth = getattr(yaml, "CSafeLoader", yaml.SafeLoader), 0
    try:
        for number, event in enumerate(yaml.parse(content, loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            said = f"*{event.anchor}" if isinstance(event, yaml.AliasEvent) else getattr(event, "tag", None)
            if said:
                raise ValueError(f"{said}: aliases (*name) and tags (!name) are not allowed")
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and SEXAGESIMAL.fullmatch(event.value):
                raise ValueError(f"{event.value:.20} is not a number that cnnlab writes; quote it if it is text")
            if depth > MAX_DEPTH or number > MAX_NODES:
                raise ValueError(f"it nests deeper than {MAX_DEPTH}, or holds more than {MAX_NODES:,} values")
        node = yaml.load(content, loader)
        for level in _levels(node):
            for value in level:
                if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                    raise ValueError("it holds an integer of more than 64 bits")
                if isinstance(value, dict) and (odd := [key for key in value if not isinstance(key, str)]):
                    raise ValueError(f"the key {odd[0]} is not text")
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as a configuration: {error}") from error
    if not isinstance(node, dict):
        raise CheckpointError(f"{path}: not a configuration of cnnlab")
    return node


def _object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object; raise ValueError if it is none, nests too deeply, or holds an invalid number or text."""
    try:
        content = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_integer)
    except RecursionError:
        raise ValueError(f"it nests deeper than {MAX_DEPTH}") from None
    if not isinstance(content, dict):
        raise ValueError("expected an object")
    if sum(1 for _ in _levels(content)) > MAX_DEPTH:
        raise ValueError(f"it nests deeper than {MAX_DEPTH}")
    if b"\\u" in text and not is_utf8(json.dumps(content, ensure_ascii=False)):
        raise ValueError("it holds a lone surrogate, such as \\ud800")
    return content


def _levels(content: Any) -> Iterator[list[Any]]:
    """Yield the values in lists and mappings, one level of nesting after another."""
    level: list[Any] = [content]
    while level:
        yield level
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for values in inner for each in values]


def _countable(text: bytes) -> bytes:
    """Return `text`, unless it is JSON with too many values for the memory: 64 MiB of `[],` take 2 GB in Python.

    Raises:
        ValueError: it has too many.
    """
    if sum(map(text.count, (b",", b"[", b"{", b"\n"))) > MAX_VALUES + len(text) // BYTES_A_VALUE:
        raise ValueError("it holds more values than cnnlab ever writes")
    return text


def _number(text: str) -> float:
    number = float(text)
    if not abs(number) <= LARGEST_NUMBER:
        raise ValueError(f"{text:.20} is not a number that cnnlab writes")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) < 20 else 1 << 64
    if abs(number) >= 1 << 63:
        raise ValueError(f"{text:.20} is larger than any number that cnnlab writes")
    return number
