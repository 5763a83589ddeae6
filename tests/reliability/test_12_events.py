"""Row 12: the event file cut, full of nonsense, unwritable, a folder, gone: training goes on, one warning, no step twice."""

import errno
import itertools
import re
from pathlib import Path

import pytest
from small_runs import resume, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.io.gfile import GFile

TEN = ("data.limit=95", "trainer.batch_size=10", "trainer.log_every=3")  # 10 steps an epoch


def steps(run: Path, tag: str) -> list[int]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return [event.step for event in events.Scalars(tag)]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\xff" * 40)


def nonsense(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\x08" + bytes(11) + b"nonsense" + bytes(4))


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def gone(file: Path) -> None:
    file.unlink()


def double(file: Path) -> None:
    file.with_name(file.name + ".copy").write_bytes(file.read_bytes())


@pytest.mark.parametrize("spoil", [cut, empty, lengthen, nonsense, folder, link, gone, double])
def test_what_happened_to_it_stops_no_resumed_run(tmp_path: Path, spoil, capfd: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "run", *TEN, "trainer.epochs=1")
    (written,) = run.glob("events*")
    file = written.rename(written.with_name(re.sub(r"\d{10}", lambda at: str(int(at[0]) - 60), written.name)))  # a minute ago
    spoil(file)
    resume(run, "trainer.epochs=2")
    err = capfd.readouterr().err
    assert err.count("Traceback") == 0
    assert err.count("warning") <= 1
    if file.is_dir() or file.is_symlink():
        return  # what TensorBoard cannot read
    assert steps(run, "score/loss/validation") == ([10, 20] if spoil in (cut, lengthen, nonsense, double) else [20])
    assert steps(run, "score end/loss test") == [20]


@pytest.mark.parametrize("writes", [0, 1, 5, 12])
def test_an_event_file_that_cannot_be_written_stops_no_run(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    original, done = GFile.write, itertools.count()

    def write(self: GFile, content: bytes) -> None:
        if next(done) >= writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, content)

    monkeypatch.setattr(GFile, "write", write)
    run = train(tmp_path / "run", *TEN, "trainer.steps=18")
    err = capfd.readouterr().err
    assert (run / "result.json").exists()
    assert (err.count("warning"), err.count("Traceback")) == (1, 0)
