"""Row 1: kill -9 at every file operation and at random times, started again until the run is done: the same bits."""

import random
import time
from pathlib import Path

import pytest
from conftest import WHOLE, assert_same_run
from disk import MOST, Failing, Killed, watch
from protocol import TWO_EPOCHS, ended, goes_on, share, start
from small_runs import SMALL, train

LONGER = (*SMALL, "data.limit=2000", "trainer.epochs=6", "checkpoint.every_s=0", "model.hidden_dropout=0.1", "augment=[flip]")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run", *TWO_EPOCHS)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("longer") / "run", *LONGER)


@pytest.mark.parametrize("at", share(range(1, MOST), 5))
def test_at_a_file_operation(call, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    run, kill = tmp_path / "run", Failing(at, Killed())
    with monkeypatch.context() as patch:
        watch(run, patch, kill.before, lambda *_: None)
        try:
            train(run, *TWO_EPOCHS)
        except Killed:
            pass
        else:
            pytest.skip(f"a run has {kill.count} file operations")
    goes_on(call, run)
    assert_same_run(run, whole)
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize("seed", share(range(250), 125))
def test_at_random_times(longer: Path, tmp_path: Path, seed: int) -> None:
    run, log, times = tmp_path / "run", tmp_path / "log", random.Random(seed)
    code, kills = -9, 0
    while code != 0:
        begun = (run / "config.yaml").exists()
        process = start(log, f"resume={run}") if begun else start(log, *LONGER, f"hydra.run.dir={run}")
        if kills < (5 if WHOLE else 3):
            time.sleep(times.uniform(0.05, 1.2))
            process.kill()
            kills += 1
        code = ended(process)
        assert code in (0, -9), log.read_text()
    assert_same_run(run, longer)
    assert not list(run.glob(".*.tmp"))
