"""hydra/launcher=parallel: run the jobs of a sweep in worker processes, with one live display."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import Any, Protocol

import hydra
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from cnnlab.errors import CnnlabError, as_known, note
from cnnlab.machine import num_cores
from cnnlab.status import Status, Stop, StoppedError
from cnnlab.sweep.display import Display
from cnnlab.sweep.manifest import KILLED, Manifest
from cnnlab.sweep.pool import Outcome, run_all
from cnnlab.tracking import files
from cnnlab.training.interrupt import signals_exit

SHARED_DATA = "CNNLAB_SWEEP_DATA"  # the environment variable that cnnlab.sweep.preload reads
LOG = "output.log"  # what a job prints, inside its directory


class Settings(Protocol):
    """The launcher's settings, and what Hydra passes to a plugin."""

    jobs: int | None
    jobs_per_gpu: int
    before: int
    began: float
    expected: int | None
    context: HydraContext
    task_function: TaskFunction
    config: DictConfig


def launch(given: Settings, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Run the jobs; return what each returned, in order.

    Raises:
        StoppedError: a signal stopped the sweep; running jobs have saved. CheckpointError: its manifest has disappeared.
    """
    setup_globals()
    node = given.config
    places = slots(given, len(job_overrides))
    on_cpu = not _uses_gpu(str(node.trainer.device))
    more = ["trainer.threads=1"] if on_cpu and OmegaConf.select(node, "trainer.threads") is None else []
    manifest = Manifest(Path(node.hydra.sweep.dir))
    names = [_directory(overrides) for overrides in job_overrides]
    jobs = [
        (given.context, given.task_function, node, [*more, *overrides], first + number)
        for number, overrides in enumerate(job_overrides)
    ]
    outcomes: dict[int, Outcome] = {}

    def ended(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if outcome.exit_code:
            _record_death(manifest, names[number], outcome.exit_code)

    os.environ[SHARED_DATA] = json.dumps(OmegaConf.to_container(node.data, resolve=True))
    shown = Display(manifest, names, str(node.console), done=given.before, lots=first, total=given.expected, began=given.began)
    kept = manifest.path.exists()  # not every sweeper keeps one

    def look(stopping: bool) -> None:
        if kept:
            manifest.require_kept()
        display.look(stopping)

    with shown as display:
        stopped = run_all(_run, jobs, places, ended, look)
    if stopped is not None:
        raise StoppedError(Stop(Status.INTERRUPTED, "interrupted; running jobs have been saved", stopped))
    return [_returned(overrides, outcomes[number]) for number, overrides in enumerate(job_overrides)]


def slots(given: Settings, jobs: int) -> list[Mapping[str, str]]:
    """Return the environment variables of each slot for a concurrent job; neighbors get different GPUs."""
    import torch

    device = str(given.config.trainer.device)
    if not _uses_gpu(device):
        return [{} for _ in range(min(jobs, given.jobs or num_cores()))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(number) for number in range(torch.cuda.device_count()))
    gpus: list[Mapping[str, str]] = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in visible.split(",")]
    if ":" in device:  # trainer.device=cuda:1 names the GPU itself
        gpus = [{}]
    return (gpus * given.jobs_per_gpu)[: min(jobs, given.jobs or jobs)]


def _uses_gpu(device: str) -> bool:
    import torch

    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _directory(overrides: Sequence[str]) -> str:
    """Return the name of a job's directory, which the sweeper chose."""
    prefix = "hydra.sweep.subdir="
    return next((override.removeprefix(prefix).strip("'") for override in overrides if override.startswith(prefix)), "")


def _run(context: HydraContext, task_function: TaskFunction, node: DictConfig, overrides: Sequence[str], number: int) -> Any:
    """Run one job in a worker, as Hydra's own launchers do; what it prints goes to a file in its directory."""
    hydra.version.setbase("1.3")
    setup_globals()
    composed = context.config_loader.load_sweep_config(node, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    directory = Path(composed.hydra.sweep.dir, _directory(overrides))
    try:
        directory.mkdir(exist_ok=True)  # the sweep's exists, unless somebody moved it
        files.sync_directory(directory.parent)
        log = files.open_to_append(directory / LOG)
    except OSError as error:
        known = as_known(error)
        if known is None:
            raise
        note(f"error: {known}")
        sys.exit(known.exit_code)
    for stream in (1, 2):
        os.dup2(log, stream)
    with signals_exit():
        done = run_job(task_function, composed, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    return done.return_value if done.status == JobStatus.COMPLETED else None


def _record_death(manifest: Manifest, directory: str, exit_code: int) -> None:
    """Record why a process ended that could not do so itself."""
    stopped = exit_code in (-SIGTERM, -SIGHUP, 128 + SIGINT, 128 + SIGTERM, 128 + SIGHUP)
    cause = "stopped by a signal" if stopped else f"its process ended with exit code {exit_code}"
    if exit_code < 0 and not stopped:
        cause = f"{KILLED}: {Signals(-exit_code).name}"
    for job in manifest.jobs():
        if job.directory == directory and job.status in (Status.RUNNING, Status.PENDING):
            code = exit_code if exit_code > 0 else 128 - exit_code
            manifest.update(directory, status=Status.INTERRUPTED, cause=cause, exit_code=code)


def _returned(overrides: Sequence[str], outcome: Outcome) -> JobReturn:
    failed = outcome.value is None
    value = CnnlabError("the job failed; its cause is in the manifest") if failed else outcome.value
    status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    return JobReturn(overrides=list(overrides), status=status, _return_value=value)
