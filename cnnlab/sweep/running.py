"""From the overrides of a sweep's jobs to finished runs: what is done already is left out, the rest launched, and told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.markup import escape

from cnnlab.errors import FailedJobsError
from cnnlab.overrides import quoted
from cnnlab.status import Status
from cnnlab.sweep.compose import Composer, job_key
from cnnlab.sweep.directory import SWEEPS
from cnnlab.sweep.display import count_by_status
from cnnlab.sweep.grid import job_names, unused
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking.console import duration, wide_console


def run_grid(asked: Sequence[Sequence[str]], context: HydraContext, node: DictConfig, launcher: Launcher) -> list[Job]:
    """Run those of the jobs that are not done; the entries of all that were asked for, in their order.

    Args:
        asked: the overrides of each job; a job that is asked for twice runs once.
        context, node: what Hydra gives a sweeper; the sweep's directory is `hydra.sweep.dir`.

    Raises:
        ConfigError: a configuration that cannot be used, before any job runs.
    """
    manifest = open_manifest(node)
    known = {job.key for job in manifest.jobs()}
    jobs = {job.key: job for job in register(manifest, asked, job_names(asked), context, node)}
    new = [job for key, job in jobs.items() if key not in known]
    if node.console != "quiet":
        _tell_begin(manifest, list(jobs.values()), len(asked), new if known else [], len(known - jobs.keys()))
    try:
        run(manifest, list(jobs.values()), launcher)
    finally:
        ended = [job for job in manifest.jobs() if job.key in jobs]
        tell_end(manifest, ended)
    return ended


def open_manifest(node: DictConfig) -> Manifest:
    """The manifest of the sweep's directory, which is created, and what a killed process left behind set right."""
    manifest = Manifest(Path(node.hydra.sweep.dir))
    manifest.directory.mkdir(parents=True, exist_ok=True)
    manifest.reconcile()
    return manifest


def register(
    manifest: Manifest, asked: Sequence[Sequence[str]], names: Sequence[str], context: HydraContext, node: DictConfig
) -> list[Job]:
    """The entry of each job that is asked for, under its name where it is new; asked for twice, it is one job.

    Raises:
        ConfigError: a configuration that cannot be used; then no job is entered.
    """
    known = {job.key: job for job in manifest.jobs()}
    taken = {job.directory for job in known.values()}
    jobs: dict[tuple[str, int], Job] = {}
    compose = Composer(context, node)
    keys = [job_key(compose(overrides)) for overrides in asked]
    for key, overrides, name in zip(keys, asked, names, strict=True):
        if key not in jobs:
            entered = known.get(key) or Job(unused(name, taken), [], *key)
            jobs[key] = replace(entered, overrides=list(overrides))  # as asked for now, whatever the file says
            taken.add(jobs[key].directory)
    manifest.add([job for key, job in jobs.items() if key not in known])
    return [jobs[key] for key in keys]


def run(manifest: Manifest, jobs: Sequence[Job], launcher: Launcher, first: int = 0) -> None:
    """Launch those of the jobs that have not come to their end; Hydra counts them from `first`."""
    todo = [job for job in jobs if not job.status.is_final]
    try:
        if todo:
            manifest.mark_pending({job.directory for job in todo})
            launcher.launch([[*job.overrides, f"hydra.sweep.subdir={quoted(job.directory)}"] for job in todo], first)
    finally:
        manifest.reconcile()


def require_all_done(jobs: Sequence[Job]) -> None:
    """Raise FailedJobsError, with the last one's exit code, if a job failed or was interrupted."""
    bad = [job for job in jobs if not job.status.is_final]
    if bad:
        raise FailedJobsError(f"{len(bad)} of {len(jobs)} jobs are not done", bad[-1].exit_code or 1)


def _tell_begin(manifest: Manifest, jobs: Sequence[Job], asked: int, added: Sequence[Job], others: int) -> None:
    terminal = wide_console()
    counts = ", ".join(count_by_status(jobs))
    terminal.print(f"[bold]sweep[/]  {manifest.directory}  {len(jobs)} job{'s' if len(jobs) > 1 else ''}: {counts}")
    if asked > len(jobs):
        terminal.print(f"       {asked - len(jobs)} asked for twice run once")
    if added:
        first = ", ".join(job.directory for job in added[:5])
        terminal.print(f"       {len(added)} new in this grid: {first}{', ...' if len(added) > 5 else ''}")
    if others:
        terminal.print(f"       {others} earlier jobs are not in this grid, and stay as they are")


def tell_end(manifest: Manifest, jobs: Sequence[Job]) -> None:
    """The jobs that are not done, together where the cause is the same; what to do next."""
    terminal = wide_console()
    scored = sum(job.status.is_scored for job in jobs)
    causes: dict[tuple[Status, str], list[str]] = {}
    for job in jobs:
        if job.status in (Status.DIVERGED, Status.FAILED, Status.INTERRUPTED):
            cause = (job.cause or "").replace(f"/{job.directory}", "/JOB")
            causes.setdefault((job.status, cause), []).append(job.directory)
    for (status, cause), names in causes.items():
        cause = cause if len(names) > 1 else cause.replace("/JOB", f"/{names[0]}")
        color = "yellow" if status is Status.INTERRUPTED else "red"
        terminal.print(f"\n[{color}]{status}[/]  {', '.join(names)}\n  {escape(cause)}")
    seconds = sum(job.seconds or 0.0 for job in jobs if job.status.is_final)
    pruned = sum(job.status is Status.PRUNED for job in jobs)
    told = f", {pruned} pruned" if pruned else ""
    terminal.print(f"\n{scored} of {len(jobs)} jobs finished{told}, {duration(seconds)} of training")
    place = manifest.directory
    if any(job.worth_repeating for job in jobs):
        named = f", with sweep.name={place.name}" if place.parent == SWEEPS else ""  # elsewhere: the command itself said where
        terminal.print(f"resume        the same command{named}")
    if scored:
        terminal.print(f"compare       python -m cnnlab.compare {place}")
