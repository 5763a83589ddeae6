"""Reading the files of a run or sweep, perhaps somebody else's: as data, bounded in size, depth and numbers. Loads no torch.

Everything that reads such a file does it here. Only regular files are opened, and no link is followed: one could lead out of
the directory, or to a device that never ends.
"""

import errno
import json
import math
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
MAX_VALUES, BYTES_A_VALUE = 500_000, 32  # of JSON: so many, and one more each so many bytes (in Python up to 92 bytes each)
LARGEST_INTEGER = (1 << 64) - 1
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")  # 1:59:59, a number to YAML, slow where it is long


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        CheckpointError: a link, a device, a pipe or a folder, or it cannot be read. FileNotFoundError: there is none.
        OSError: the disk fails, or too many files are open.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(as_known(error), ResourceError):  # the disk, or too many open files
            raise
        cause = "a link, and none is followed here" if error.errno == errno.ELOOP else error.strerror
        raise CheckpointError(f"{path}: cannot be read ({cause})") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CheckpointError(f"{path}: expected a regular file, and it is none")
    return os.fdopen(handle, "rb")


def require_regular(path: Path, at_most: int | None = None) -> None:
    """Raise what `open_regular` raises, for files that a library opens by their names; also where it is larger than `at_most`
    bytes, which are read whole."""
    with open_regular(path) as file:
        if at_most is not None and os.fstat(file.fileno()).st_size > at_most:
            raise _too_large(path, at_most)


def read_bytes(path: Path, at_most: int) -> bytes:
    """The content of a file.

    Raises:
        CheckpointError: larger than `at_most` bytes, or as `open_regular`. FileNotFoundError: there is none.
    """
    with open_regular(path) as file:
        try:
            content = file.read(at_most + 1)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > at_most:
        raise _too_large(path, at_most)
    return content


def _too_large(path: Path, at_most: int) -> CheckpointError:
    return CheckpointError(f"{path}: larger than {at_most // MIB:,} MiB, and nothing here writes that much")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no file.

    Raises:
        CheckpointError: cannot be read, or not an object of ordinary numbers and depth.
    """
    try:
        return parse_json(read_bytes(path, MAX_RECORD))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from error


def parse_json(text: bytes) -> dict[str, Any]:
    """The object in the text of a JSON file, or of what stands for one in another file.

    Raises:
        ValueError: not JSON, or not an object of ordinary numbers, depth and size.
    """
    return _object(_countable(text))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines but for a last one that a kill or a power cut left incomplete; none without the file.

    Raises:
        CheckpointError: another line is damaged.
    """
    try:
        lines = _countable(read_bytes(path, MAX_RECORD)).split(b"\n")
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    found, ended = [], lines.pop()  # after the last line's end: nothing, or what is incomplete
    for number, line in enumerate(lines, 1):
        try:
            found.append(_object(line))
        except ValueError as error:
            if number == len(lines) and not ended:
                break  # its end was written before what precedes it
            raise CheckpointError(
                f"{path}: line {number} is damaged ({error}); restore the file, or remove that line"
            ) from error
    return found


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file of a run.

    Raises:
        CheckpointError: cannot be read, not YAML, or not a mapping. FileNotFoundError: there is none.
    """
    return parse_yaml(read_bytes(path, MAX_CONFIG), path)


def parse_yaml(content: bytes, path: Path) -> dict[Any, Any]:
    """The mapping in the text of the YAML file `path`; an interpolation such as `${oc.env:HOME}` is these characters.

    Aliases, tags, deep nesting, keys that are no text, integers of more than 64 bits and sexagesimal ones, which nothing here
    writes, are refused: a few lines of aliases can stand for a terabyte.

    Raises:
        CheckpointError: not YAML, or not a mapping.
    """
    loader, depth = getattr(yaml, "CSafeLoader", yaml.SafeLoader), 0
    try:
        for number, event in enumerate(yaml.parse(content, loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            said = f"*{event.anchor}" if isinstance(event, yaml.AliasEvent) else getattr(event, "tag", None)
            if said:
                raise ValueError(f"{said}: aliases (*name) and tags (!name) are not read")
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and SEXAGESIMAL.fullmatch(event.value):
                raise ValueError(f"{event.value:.20} is no number that is written here; as text it needs quotes")
            if depth > MAX_DEPTH or number > MAX_NODES:
                raise ValueError(f"it nests deeper than {MAX_DEPTH}, or holds more than {MAX_NODES:,} values")
        node = yaml.load(content, loader)
        for level in _levels(node):
            for value in level:
                if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                    raise ValueError("it holds an integer of more than 64 bits")
                if isinstance(value, dict) and (odd := [key for key in value if not isinstance(key, str)]):
                    raise ValueError(f"the key {odd[0]} is no text")
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as a configuration: {error}") from error
    if not isinstance(node, dict):
        raise CheckpointError(f"{path}: not a configuration of cnnlab")
    return node


def _object(text: bytes) -> dict[str, Any]:
    """
    Raises:
        ValueError: not JSON, not an object, nested too deeply, or with a number or text that is none.
    """
    try:
        content = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_integer)
    except RecursionError:
        raise ValueError(f"it nests deeper than {MAX_DEPTH}") from None
    if not isinstance(content, dict):
        raise ValueError("expected an object")
    if sum(1 for _ in _levels(content)) > MAX_DEPTH:
        raise ValueError(f"it nests deeper than {MAX_DEPTH}")
    if b"\\u" in text and not is_utf8(json.dumps(content, ensure_ascii=False)):
        raise ValueError("it holds half a character, such as \\ud800")
    return content


def _levels(content: Any) -> Iterator[list[Any]]:
    """What lists and mappings hold, a level of nesting after the other."""
    level: list[Any] = [content]
    while level:
        yield level
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for values in inner for each in values]


def _countable(text: bytes) -> bytes:
    """`text`, unless it is JSON of more values than memory was meant for: 64 MiB of `[],` are 2 GB in Python.

    Raises:
        ValueError: it is.
    """
    if sum(map(text.count, (b",", b"[", b"{", b"\n"))) > MAX_VALUES + len(text) // BYTES_A_VALUE:
        raise ValueError("it holds more values than anything that is written here")
    return text


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is no number that is written here")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) < 20 else 1 << 64
    if abs(number) >= 1 << 63:
        raise ValueError(f"{text:.20} is larger than any number that is written here")
    return number
