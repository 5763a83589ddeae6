"""Running the jobs of a sweep from their overrides: those that are already done are skipped, the rest launched."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from cnnlab.composing.overrides import quoted
from cnnlab.config.checking import check_targets
from cnnlab.config.schema import Config
from cnnlab.errors import ConfigError, FailedJobsError, GeometryError, as_known
from cnnlab.sweep import telling
from cnnlab.sweep.compose import job_key, of_sweep
from cnnlab.sweep.grid import job_names, unused
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking import files
from cnnlab.tracking.console import counted


def run_grid(asked: Sequence[Sequence[str]], context: HydraContext, node: DictConfig, launcher: Any) -> list[Job]:
    """Run the requested jobs that are not done; return the entries of all requested jobs, in order.

    Args:
        asked: the overrides of each job; a job that is requested twice runs once.
        context, node: what Hydra passes to a sweeper; the sweep's directory is `hydra.sweep.dir`.
        launcher: one of Hydra's, or cnnlab's, which shows counts.

    Raises:
        ConfigError: a configuration is invalid; no job has run. CheckpointError: the manifest has disappeared meanwhile.
    """
    manifest = open_manifest(node)
    known = {job.key for job in manifest.jobs()}
    jobs = {job.key: job for job in register(manifest, asked, job_names(asked), context, node, sizes=True)}
    new = [job for key, job in jobs.items() if key not in known]
    if node.console != "quiet":
        telling.tell_begin(manifest, list(jobs.values()), len(asked), new if known else [], len(known - jobs.keys()))
    done = sum(job.status.is_final for job in jobs.values())
    if done and hasattr(launcher, "expected"):
        launcher.before, launcher.expected = done, len(jobs)
    try:
        run(manifest, list(jobs.values()), launcher)
    finally:
        manifest.require_kept()
        ended = [job for job in manifest.jobs() if job.key in jobs]
        telling.tell_end(manifest, ended)
    return ended


def open_manifest(node: DictConfig) -> Manifest:
    """Open the manifest of the sweep's directory, which is created, and correct what a killed process left behind."""
    manifest = Manifest(Path(node.hydra.sweep.dir))
    files.make_directory(manifest.directory)
    manifest.reconcile()
    return manifest


def register(
    manifest: Manifest,
    asked: Sequence[Sequence[str]],
    names: Sequence[str],
    context: HydraContext,
    node: DictConfig,
    sizes: bool = False,
    drawn: Sequence[str] = (),
) -> list[Job]:
    """Return the entry of each requested job, entering new ones under their names; a job requested twice has one entry.

    sizes: check them (see `check_sizes`); in a search, a network that does not fit is a failed trial.
    drawn: as in Job.

    Raises:
        ConfigError: a configuration is invalid; then no job is entered.
    """
    known = {job.key: job for job in manifest.jobs()}
    taken = {job.directory for job in known.values()}
    jobs: dict[tuple[str, int], Job] = {}
    compose = of_sweep(context, node)
    composed = [compose(overrides) for overrides in asked]
    for cfg in composed:
        check_targets(cfg)
    if sizes:
        check_sizes(asked, composed)
    keys = [job_key(cfg) for cfg in composed]
    for key, overrides, name in zip(keys, asked, names, strict=True):
        if key not in jobs:
            entered = known.get(key) or Job(unused(name, taken), [], *key, drawn=list(drawn))
            manifest.require_own(entered.directory)
            jobs[key] = replace(entered, overrides=list(overrides))  # as requested now, whatever the file says
            taken.add(jobs[key].directory)
    manifest.add([job for key, job in jobs.items() if key not in known])
    return [jobs[key] for key in keys]


def check_sizes(asked: Sequence[Sequence[str]], composed: Sequence[Config]) -> None:
    """Build each requested network, without memory for its weights, to check that the images are large enough for it.

    Other errors in building are left to the job: its data may not exist yet.

    Raises:
        ConfigError: they are too small; the message names the job.
    """
    import torch

    from cnnlab.data import describe
    from cnnlab.models import build_model
    from cnnlab.training.task import build_task

    seen = set[str]()
    for overrides, cfg in zip(asked, composed, strict=True):
        network = repr((cfg.model, cfg.task, cfg.data))
        if network in seen:
            continue
        seen.add(network)
        try:
            shape, numbers = describe(cfg.data)
            with torch.device("meta"):
                build_model(cfg.model, shape, build_task(cfg.task, numbers).num_outputs, cfg.seed)
        except GeometryError as error:
            raise ConfigError(f"the job {shlex.join(overrides)}: {error}; no job has begun") from error
        except Exception:
            continue


def run(manifest: Manifest, jobs: Sequence[Job], launcher: Launcher, first: int = 0) -> None:
    """Launch the jobs that are not done; Hydra numbers them from `first`."""
    todo = [job for job in jobs if not job.status.is_final]
    try:
        if todo:
            manifest.mark_pending({job.directory for job in todo})
            launcher.launch([[*job.overrides, f"hydra.sweep.subdir={quoted(job.directory)}"] for job in todo], first)
    except Exception as error:
        package = type(launcher).__module__.removeprefix("hydra_plugins.").partition(".")[0]
        if not package.startswith("hydra_") or as_known(error):
            raise
        said = " ".join(str(error).split())  # not a job's error, which is its cause, but a cluster's or a dead process's
        raise FailedJobsError(f"{package}: {said}; run the same command again for the rest", 1) from error
    finally:
        manifest.reconcile()


def require_all_done(jobs: Sequence[Job]) -> None:
    """Raise FailedJobsError, with the last one's exit code, if a job failed or was interrupted."""
    bad = [job for job in jobs if not job.status.is_final]
    if bad:
        verb = "is" if len(bad) == 1 else "are"
        raise FailedJobsError(f"{len(bad)} of {counted(len(jobs), 'job')} {verb} not done", bad[-1].exit_code or 1)
