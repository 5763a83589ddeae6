"""Sweeps with real processes: what one trusts with a night."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import assert_same_run

from cnnlab import cli
from cnnlab.comparison.runs import LeftOut, read_runs
from cnnlab.sweep.manifest import Manifest
from cnnlab.tracking import files

QUICK = ("data=digits", "data.limit=1200", "data.validation=200", "console=plain")
LONG = (*QUICK, "model=lenet", "trainer.epochs=14", "checkpoint.every_s=0.2")
NIGHT = Path("outputs/sweeps/night")


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cnnlab.train", "-m", *arguments, "sweep.name=night"]
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def sweep(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def states() -> dict[str, str]:
    return {job.directory: job.status for job in Manifest(NIGHT).jobs()}


def workers(run: Path) -> list[int]:
    """Processes that have a file of this run open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(f"{run.resolve()}/") for link in links):
            found.append(int(process.name))
    return found


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """In an empty directory: train one run alone, with one thread."""
    monkeypatch.chdir(tmp_path)

    def train(*settings: str) -> Path:
        run = tmp_path / "alone"
        assert cli.run("train", [*settings, "trainer.threads=1", f"hydra.run.dir={run}"]) == 0
        return run

    return train


@pytest.mark.usefixtures("alone")
def test_the_others_finish_and_the_same_command_runs_what_failed(alone: Callable[..., Path]) -> None:
    settings = (*QUICK, "trainer.steps=20")
    code, out, err = sweep(*settings, "model=mlp,cats-dogs,lenet")
    assert (code, states()) == (2, {"mlp": "finished", "cats-dogs": "failed", "lenet": "finished"})
    assert err == "error: 1 of 3 jobs are not done\n"
    assert out.count("does not fit") == 2  # when it fails, and at the end
    (left_out,) = [run for run in read_runs([str(NIGHT)]) if isinstance(run, LeftOut)]
    assert (left_out.status, "does not fit" in left_out.cause) == ("failed", True)
    assert_same_run(NIGHT / "lenet", alone(*settings, "model=lenet"))
    finished = (NIGHT / "lenet" / "result.json").stat().st_mtime_ns

    code, out, _ = sweep(*settings, "model=mlp,cats-dogs,lenet,chollet")
    assert code == 2
    assert "4 jobs: 2 finished, 1 pending, 1 failed" in out
    assert "1 new in this grid: chollet" in out
    assert states() == {"mlp": "finished", "cats-dogs": "failed", "lenet": "finished", "chollet": "finished"}
    assert (NIGHT / "lenet" / "result.json").stat().st_mtime_ns == finished

    code, out, _ = sweep(*settings, "model=mlp,lenet")
    assert code == 0
    assert "2 jobs: 2 finished" in out
    assert "2 earlier jobs are not in this grid" in out


def test_after_kill_9_of_the_sweep_no_worker_lives_and_it_goes_on_bit_for_bit(alone: Callable[..., Path]) -> None:
    process = start(*LONG, "seed=0,1")
    wait_for(lambda: list(NIGHT.glob("*/last.safetensors")))
    process.kill()
    process.communicate()
    wait_for(lambda: not workers(NIGHT), 3)
    code, _, err = sweep(*LONG, "seed=0,1")
    assert (code, err) == (0, "")
    assert_same_run(NIGHT / "seed1", alone(*LONG, "seed=1"))


@pytest.mark.usefixtures("alone")
def test_a_killed_worker_ends_its_own_job_alone() -> None:
    process = start(*LONG, "seed=0,1")
    wait_for(lambda: (NIGHT / "seed0/last.safetensors").exists())
    for worker in workers(NIGHT / "seed0"):
        os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, states()) == (137, {"seed0": "interrupted", "seed1": "finished"})
    assert "SIGKILL" in out
    assert "Traceback" not in out + err


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_jobs_that_run_and_begins_no_other(number: signal.Signals, code: int) -> None:
    process = start(*LONG, "seed=range(9)")
    wait_for(lambda: list(NIGHT.glob("*/metrics.jsonl")))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in out + err
    assert "sweep.name=night" in out
    assert set(states().values()) == {"interrupted", "pending"}
    assert not workers(NIGHT)
    saved = json.loads(next(NIGHT.glob("*/result.json")).read_text())
    assert saved["status"] == "interrupted"


@pytest.mark.usefixtures("alone")
def test_two_sweeps_never_share_a_directory(call: Callable[..., tuple[int, str, str]]) -> None:
    process = start(*LONG, "seed=0,1")
    wait_for(lambda: NIGHT.exists() and (NIGHT / "manifest.json").exists())
    code, _, err = call("train", "-m", *QUICK, "seed=0,1", "sweep.name=night")
    process.terminate()
    process.communicate()
    assert code == 5
    assert err.startswith("error: outputs/sweeps/night: another sweep is running in it")


@pytest.mark.usefixtures("alone")
def test_a_sweep_that_is_refused_leaves_the_others_directory(call: Callable[..., tuple[int, str, str]]) -> None:
    NIGHT.mkdir(parents=True)
    with files.exclusive(NIGHT / ".lock"):  # the other one is still composing
        assert call("train", "-m", *QUICK, "seed=0,1", "sweep.name=night")[0] == 5
        assert (NIGHT / ".lock").exists()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_hydras_other_launchers_run_the_same_sweep(launcher: str) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    settings = (*QUICK, "trainer.steps=2", "model=mlp", "seed=0,1", f"hydra/launcher={launcher}")
    code, out, _ = sweep(*settings)
    assert (code, states()) == (0, {"seed0": "finished", "seed1": "finished"})
    code, out, _ = sweep(*settings)
    assert "2 jobs: 2 finished" in out


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sweep.nam=a", "Did you mean sweep.name"),
        ("sweep.name=a/b", "letters, digits"),
        ("sweep.name=a hydra.sweep.dir=b", "keep one of them"),
        ("hydra.sweep.dir=/proc/nope", "check the path"),
        ("--cfg=job", "leave -m"),
        ("seed=range(0)", "no value"),
        ("sweep.zip=seed", "two or more keys"),
        ("sweep.zip=[seed,seed]", "twice"),
        ("hydra.sweep.subdir=a", "names its jobs"),
        ("sweep.zip=[seed,model]", "model has not several values"),
        ("trainer.epochs=0,1", "expected 1 or more"),
        ("hydra.launcher.jobs=0", "expected a number of 1 or more"),
        ("model=lenet,mpl", "Did you mean mlp"),
        ("augment=none,[crop,rotatin]", "Did you mean rotation"),
    ],
)
def test_a_bad_sweep_is_told_in_one_line_and_leaves_nothing(
    call: Callable[..., tuple[int, str, str]], change: str, says: str
) -> None:
    code, _, err = call("train", "-m", *QUICK, "seed=0,1", *change.split(" "))
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not list(Path().glob("outputs/sweeps/*"))
