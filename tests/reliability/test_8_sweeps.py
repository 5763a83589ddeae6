"""Row 8: Ctrl-C, SIGTERM, SIGHUP and pairs at random moments of a sweep and a search: no child left, the same bits after."""

import random
import time
from pathlib import Path

import pytest
from conftest import WHOLE, assert_same_run
from protocol import LONG, ended, send, share, start, users_of
from small_runs import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run", *LONG)


def wait_for_none(folder: Path) -> None:
    """Wait until no process uses the folder: a second signal ends the sweep at once, and its workers notice within seconds."""
    end = time.monotonic() + 3
    while list(users_of(folder)):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.05)


def signalled(call, log: Path, line: tuple[str, ...], sweep: Path, seed: int) -> None:
    """Send signals to a sweep, which is to leave no worker; the same command then ends it well."""
    process = start(log, *line)
    while not log.exists():
        time.sleep(0.01)
    codes = send(process.pid or 0, random.Random(seed), 0.1, 6)
    assert ended(process) in codes, log.read_text()
    assert "Traceback" not in log.read_text()
    wait_for_none(sweep)
    assert call("train", *line)[0] == 0


@pytest.mark.parametrize("seed", share(range(20), 20))
def test_while_a_sweep_runs(call, whole: Path, tmp_path: Path, seed: int) -> None:
    sweep = tmp_path / "sweep"
    signalled(
        call, tmp_path / "log", ("-m", *LONG, f"seed=range({3 if WHOLE else 2})", f"hydra.sweep.dir={sweep}"), sweep, seed
    )
    assert_same_run(sweep / "seed0", whole)


@pytest.mark.parametrize("seed", share(range(10), 10))
def test_while_a_search_prunes(call, tmp_path: Path, seed: int) -> None:
    sweep = tmp_path / "search"
    line = ("-m", *LONG, "hydra/sweeper=optuna", f"hydra.sweeper.trials={6 if WHOLE else 3}", "optimizer.lr=interval(0.001,1)",
            f"hydra.sweep.dir={sweep}", "hydra.launcher.jobs=2")  # fmt: skip
    signalled(call, tmp_path / "log", line, sweep, seed)
