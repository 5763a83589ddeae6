"""Row 6: whatever bytes a file holds, its reader gives right data or a CnnlabError, does not hang, and takes little memory.

`python tests/reliability/test_6_fuzzing.py READER -runs=100000` looks for such bytes with atheris, led by coverage.
"""

import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import pytest
from conftest import WHOLE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watch import ends_within, small

if __name__ == "__main__":  # in the test below: cnnlab alone is watched, since all of torch takes minutes to prepare
    import atheris

    with atheris.instrument_imports(include=["cnnlab"]):
        from readers import EXPECTED, READERS

from readers import EXPECTED, READERS

from cnnlab.errors import CnnlabError

EXAMPLES = 200_000 if WHOLE else 2_000
GUIDED = 5_000  # runs of each reader
PIECES = [
    b"", b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b"[", b"]", b"{", b"}", b'"', b":", b",", b"\n", b" ",
    b"'", b"\\", b"null", b"true", b"-1", b"0", b"1e999", b"-0.0", b"NaN", b"9" * 30, b"1" * 400, b"&a ", b"*a", b"- ",
    b"? ", b"!!python/name:os.system", b"<<: ", b"${oc.env:HOME}", b"\x1b[31m", b"/", b"..", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"[" * 200, b"PK\3\4", b"\x1f\x8b",
]  # fmt: skip


SPANS = (0, 1, 1, 2, 4, 8, 40, 1 << 20)  # bytes that a change takes out


def content_of(program: bytes, valid: list[bytes]) -> bytes:
    """The rest of the bytes as they are, or one of the valid files with up to five changes, of six bytes each."""
    kind, rest = program[0], program[1:]
    if kind < 40:
        return rest
    content = valid[kind % len(valid)]
    for at in range(0, min(len(rest) - 5, 6 * (1 + kind % 5)), 6):
        change = rest[at : at + 6]
        start = int.from_bytes(change[:2], "big") * len(content) // 65_535
        end = min(len(content), start + SPANS[change[2] % len(SPANS)])
        which = change[3]
        piece = change[4:] if which >= 230 else content[start:end] * 2 if which >= 210 else PIECES[which % len(PIECES)]
        content = content[:start] + piece + content[end:]
    return content


def tried(name: str, content: bytes, folder: Path) -> None:
    """Let a reader read it, in a folder of its own."""
    reader, path = READERS[name], folder / READERS[name].name
    path.write_bytes(content)
    unpacked = 90 << 20 if name == "picture" else 0  # Pillow takes 89 megapixels for no bomb, 3 bytes each
    with ends_within(20), small(len(content) + unpacked), suppress(CnnlabError, *EXPECTED.get(name, ())):
        reader.read(path)


def prepared(name: str, folder: Path) -> list[bytes]:
    """The valid files of a reader, each read once: what a process imports and builds once is no part of what it then takes."""
    reader = READERS[name]
    valid = reader.valid()
    for content in valid:
        (folder / reader.name).write_bytes(content)
        with suppress(CnnlabError, *EXPECTED.get(name, ())):
            reader.read(folder / reader.name)
    return valid


@pytest.mark.parametrize("name", READERS)
def test_a_reader(name: str, tmp_path: Path) -> None:
    valid = prepared(name, tmp_path)

    @settings(
        max_examples=EXAMPLES // len(READERS),
        deadline=None,
        database=None,
        derandomize=not WHOLE,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=7, max_size=200))
    def check(program: bytes) -> None:
        tried(name, content_of(program, valid), tmp_path)

    check()


@pytest.mark.skipif(not WHOLE, reason="takes minutes; CNNLAB_TORTURE=1")
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install atheris, where it has a wheel")
@pytest.mark.parametrize("name", READERS)
def test_a_reader_led_by_coverage(name: str, tmp_path: Path) -> None:
    """libFuzzer keeps its process, so that each reader has one of its own."""
    place = os.pathsep.join([*(str(Path(__file__).parents[level]) for level in (0, 1, 2)), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__, name, f"-runs={GUIDED}", "-timeout=30", "-rss_limit_mb=4096", "-verbosity=0"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": place}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


if __name__ == "__main__":
    program, reader, *options = sys.argv  # before a training, which has its own there
    own = Path(mkdtemp())
    corpus = own / "corpus"
    corpus.mkdir()
    for number, one in enumerate(prepared(reader, own)):
        (corpus / str(number)).write_bytes(one)
    atheris.Setup([program, *options, str(corpus)], lambda content: tried(reader, content, own))
    atheris.Fuzz()
