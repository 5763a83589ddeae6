"""Sweeps with real processes: what one trusts with a night."""

import json
import os
import shlex
import shutil
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
from cnnlab.sweep import running
from cnnlab.sweep.manifest import Manifest
from cnnlab.tracking import files

QUICK = ("data=digits", "data.limit=1200", "data.validation=200", "console=plain")
LONG = (*QUICK, "model=lenet", "trainer.epochs=14", "checkpoint.every_s=0.2")
NIGHT = Path("outputs/sweeps/night")
Call = Callable[..., tuple[int, str, str]]


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cnnlab.train", "-m", *arguments, "sweep.name=night"]
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sweep(call: Call) -> Call:
    """sweep("seed=0,1", ...) runs the sweep in this process, its jobs in workers."""
    return lambda *settings: call("train", "-m", *settings, "sweep.name=night")


def alone(*settings: str) -> Path:
    """Train one run alone, with one thread."""
    assert cli.run("train", [*settings, "trainer.threads=1", "hydra.run.dir=alone"]) == 0
    return Path("alone")


def test_the_others_finish_and_the_same_command_runs_what_failed(sweep: Call) -> None:
    settings = (*QUICK, "trainer.steps=20")
    code, _, err = sweep(*settings, "optimizer.lr=0.1,-1,0.01")
    assert (code, err.count("\n")) == (2, 1)
    assert states() == {"lr0.1": "finished", "lr-1": "failed", "lr0.01": "finished"}
    (left_out,) = [run for run in read_runs([str(NIGHT)]) if isinstance(run, LeftOut)]
    assert (left_out.status, left_out.cause) == ("failed", Manifest(NIGHT).jobs()[1].cause)
    assert_same_run(NIGHT / "lr0.01", alone(*settings, "optimizer.lr=0.01"))
    finished = (NIGHT / "lr0.01" / "result.json").stat().st_mtime_ns

    assert sweep(*settings, "optimizer.lr=0.1,-1,0.01,0.02")[0] == 2  # one more in the grid
    assert states() == {"lr0.1": "finished", "lr-1": "failed", "lr0.01": "finished", "lr0.02": "finished"}
    assert sweep(*settings, "optimizer.lr=0.1,0.01")[0] == 0
    assert (NIGHT / "lr0.01" / "result.json").stat().st_mtime_ns == finished


@pytest.mark.parametrize("launcher", ["parallel", "basic"])
def test_a_directory_that_goes_while_the_sweep_runs(launcher: str, sweep: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = running.run

    def gone(manifest: Manifest, *rest: object) -> None:
        manifest.directory.rename("elsewhere")
        begin(manifest, *rest)

    monkeypatch.setattr(running, "run", gone)
    code, out, err = sweep(*QUICK, "trainer.steps=2", "seed=0,1", f"hydra/launcher={launcher}")
    assert code == 2
    assert "manifest.json" in err.splitlines()[-1]
    assert "0 of 0" not in out
    assert not NIGHT.exists()


def test_a_network_too_large_for_the_images_is_told_before_any_job_begins(sweep: Call) -> None:
    code, _, err = sweep(*QUICK, "model=mlp,cats-dogs")
    assert code == 2
    assert "model=cats-dogs" in err
    assert "46 x 46" in err
    assert not NIGHT.exists() or not list(NIGHT.glob("*/config.yaml"))


def test_after_kill_9_of_the_sweep_no_worker_lives_and_it_goes_on_bit_for_bit(sweep: Call) -> None:
    process = start(*LONG, "seed=0,1")
    wait_for(lambda: list(NIGHT.glob("*/last.safetensors")))
    process.kill()
    process.communicate()
    wait_for(lambda: not workers(NIGHT), 3)
    code, _, err = sweep(*LONG, "seed=0,1")
    assert (code, err) == (0, "")
    assert_same_run(NIGHT / "seed1", alone(*LONG, "seed=1"))


def test_a_killed_worker_ends_its_own_job_alone() -> None:
    process = start(*LONG, "seed=0,1")
    wait_for(lambda: (NIGHT / "seed0/last.safetensors").exists())
    for worker in workers(NIGHT / "seed0"):
        os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, states()) == (137, {"seed0": "interrupted", "seed1": "finished"})
    assert "SIGKILL" in out
    assert "Traceback" not in out + err


def test_a_signal_saves_the_jobs_that_run_and_begins_no_other(call: Call) -> None:
    process = start(*LONG, "seed=range(9)")
    wait_for(lambda: list(NIGHT.glob("*/metrics.jsonl")))
    assert call("train", "-m", *LONG, "seed=range(9)", "sweep.name=night")[0] == 5  # two never share a directory
    for worker in workers(next(NIGHT.glob("*/metrics.jsonl")).parent):
        os.kill(worker, signal.SIGSTOP)
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "Traceback" not in out + err
    assert set(states().values()) - {"finished"} == {"interrupted", "pending"}
    assert not workers(NIGHT)
    (told,) = [line for line in out.splitlines() if line.startswith("resume ")]
    assert shlex.split(told)[1:] == ["python", "-m", "cnnlab.train", "-m", *LONG, "seed=range(9)", "sweep.name=night"]
    stopped = [NIGHT / name / "result.json" for name, status in states().items() if status == "interrupted"]
    assert {json.loads(path.read_text())["status"] for path in stopped} == {"interrupted"}


def test_a_sweep_that_is_refused_leaves_the_others_directory(sweep: Call) -> None:
    NIGHT.mkdir(parents=True)
    with files.exclusive(NIGHT / ".lock"):  # the other one is still composing
        assert sweep(*QUICK, "seed=0,1")[0] == 5
        assert (NIGHT / ".lock").exists()


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_hydras_other_launchers_run_the_same_sweep(launcher: str, sweep: Call) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    settings = [*QUICK, "trainer.steps=2", "model=mlp", "seed=0,1", f"hydra/launcher={launcher}"]
    if launcher == "submitit_local":  # submitit starts a job, and then makes a folder of the job's number for its logs
        settings.append("hydra.launcher.submitit_folder=outputs/submitit")
    assert (sweep(*settings)[0], states()) == (0, {"seed0": "finished", "seed1": "finished"})
    manifest = (NIGHT / "manifest.json").read_bytes()
    assert (sweep(*settings)[0], (NIGHT / "manifest.json").read_bytes()) == (0, manifest)


@pytest.mark.skipif(shutil.which("srun") is not None, reason="a cluster")
def test_what_a_launcher_says_is_told_in_one_line(sweep: Call) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    code, _, err = sweep(*QUICK, "model=mlp", "hydra/launcher=submitit_slurm")
    assert (code, "srun" in err, err.count("\n"), list(states().values())) == (1, True, 1, ["pending"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("sweep.nam=a", "sweep.name"),
        ("sweep.name=a/b", "sweep.name=a/b"),
        ("sweep.name=a hydra.sweep.dir=b", "hydra.sweep.dir=b"),
        ("hydra.sweep.dir=/proc/nope", "/proc/nope"),
        ("--cfg=job", "--cfg"),
        ("seed=range(0)", "seed"),
        ("sweep.zip=seed", "sweep.zip=seed"),
        ("sweep.zip=[seed,seed]", "seed, seed"),
        ("hydra.sweep.subdir=a", "hydra.sweep.subdir"),
        ("sweep.zip=[seed,model]", "model"),
        ("sweep.zip=[seed,trainer.epochs] trainer.epochs=1,2,3", "trainer.epochs 3"),
        ("sweep.zip=[seed,trainer.epoch] trainer.epochs=1,2", "trainer.epochs?"),
        ("optimizer.lr=interval(0.1,1)", "optimizer.lr"),
        ("trainer.epochs=0,1", "trainer.epochs"),
        ("hydra.launcher.jobs=0", "hydra.launcher.jobs"),
        ("model=lenet,mpl", "mlp"),
        ("++model.hiden=3", "model.hiden"),
        ("augment=none,[crop,rotatin]", "rotation"),
    ],
)
def test_a_bad_sweep_is_told_in_one_line_and_leaves_nothing(call: Call, change: str, key: str) -> None:
    code, _, err = call("train", "-m", *QUICK, "seed=0,1", *change.split(" "))
    assert (code, err.count("\n"), key in err) == (2, 1, True)
    assert not list(Path().glob("outputs/sweeps/*"))
