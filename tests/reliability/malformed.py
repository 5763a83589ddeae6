"""What the files of row 5 share."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import original
from watch import ends_within, said, state


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    original("run")
    monkeypatch.chdir(tmp_path)
    with ends_within(60):
        yield tmp_path


def refuses(call, *arguments: object, names: str, kept: Path) -> None:
    """Check that the command prints one line that contains `names`, exits with 2, and leaves the folder `kept` unchanged."""
    before = state(kept, kept / ".lock", kept / ".manifest.lock")
    code, *output = call(*arguments)
    assert code == 2, output
    assert said(output).count("\n") == 1
    assert output[1].startswith("error: ")
    assert names in output[1], (names, output[1])
    assert state(kept, kept / ".lock", kept / ".manifest.lock") == before


def resume(run: Path) -> tuple[object, ...]:
    return "train", f"resume={run}", "trainer.epochs=3", "console=quiet"


def cut(path: Path, random_: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: random_.randrange(path.stat().st_size)])


def garbage(path: Path, random_: random.Random) -> None:
    path.write_bytes(random_.randbytes(random_.randrange(5000)))
