"""hydra/sweeper=optuna: ask Optuna for trials, run them like any sweep's jobs, and report their validation scores.

Jobs know nothing about the study. What it is told is in the manifest and the runs before, so a kill at any moment loses
nothing: the same command resumes the search.
"""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.markup import escape

from cnnlab import config
from cnnlab.config.checking import check_targets
from cnnlab.errors import ConfigError
from cnnlab.status import Status
from cnnlab.sweep import running, study, telling
from cnnlab.sweep.compose import of_sweep
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.sweep.pruning import epoch_scores, higher_is_better
from cnnlab.sweep.space import Space, parse
from cnnlab.tracking.console import wide_console
from cnnlab.tracking.run import RunDirectory

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

ENOUGH_ALIKE = 3  # jobs; if so many or more have ended, and all with the same failure, the search ends


class Search(Protocol):
    """The sweeper's settings, and what Hydra passes to a plugin."""

    trials: int
    sampler: str
    seed: int
    batch: int | None
    context: HydraContext
    node: DictConfig
    jobs_launcher: Launcher


def search(given: Search, overrides: Sequence[Override]) -> list[Job]:
    """Run trials until the study has as many as requested; return the jobs of all its trials.

    Raises:
        ConfigError: the search is invalid; no job has run. FailedJobsError: some jobs are not done.
    """
    study.require_optuna()
    from optuna.trial import TrialState

    space = parse(overrides)
    searched, higher = _check(space, given)
    manifest = running.open_manifest(given.node)
    path = manifest.directory / study.NAME
    if manifest.jobs() and not path.exists():
        raise ConfigError(f"{manifest.directory}: holds a sweep that is not a search; choose another sweep.name")
    trials = study.open_study(path, searched, higher)
    before = trials.get_trials(deepcopy=False)
    given_up = {run for trial in before if trial.state == TrialState.FAIL for run in trial.user_attrs.get("runs", ())}
    waiting = study.unfinished(trials, space)
    missing = max(0, given.trials - sum(trial.state != TrialState.FAIL for trial in trials.get_trials(deepcopy=False)))
    if given.node.console != "quiet":
        _tell_begin(manifest, trials, space, missing)
    launched, expected = 0, (missing + len(waiting)) * len(space.seeds)
    at_a_time = given.batch or _batch(given, expected, len(space.seeds))
    launcher: Any = given.jobs_launcher
    if hasattr(launcher, "expected"):
        due = given_up | {run for trial in waiting for run in trial.user_attrs.get("runs", ())}
        launcher.before = sum(job.directory not in due for job in manifest.jobs())
        launcher.expected = launcher.before + expected
    try:
        while waiting or missing:
            batch, waiting = waiting[:at_a_time], waiting[at_a_time:]
            asked = min(missing, at_a_time - len(batch))
            batch += [study.ask(trials, space, given.sampler, given.seed) for _ in range(asked)]
            missing -= asked
            _run(batch, trials, space, given, manifest, launched)
            launched += len(batch) * len(space.seeds)
            ends = [(job.status, job.cause) for job in manifest.jobs()]
            if len(ends) >= ENOUGH_ALIKE and len(set(ends)) == 1 and ends[0][0] in (Status.FAILED, Status.DIVERGED):
                break  # and so would all the others
    finally:
        manifest.require_kept()
        jobs = [job for job in manifest.jobs() if job.directory not in given_up]
        complete = _complete(manifest, trials)
        telling.tell_end(manifest, jobs, complete)
        _tell_again(complete, trials)
    learnt = [job for job in jobs if job.status is not Status.DIVERGED]  # a trial that diverged has taught the search something
    running.require_all_done(learnt if any(job.status.is_scored for job in jobs) else jobs)
    return jobs


def _check(space: Space, given: Search) -> tuple[dict[str, str], bool]:
    """Check configurations at the ends of the space; return what the study searches and whether higher scores are better."""
    compose = of_sweep(given.context, given.node)
    cfgs = [compose(overrides) for params in space.probes() for overrides in space.jobs(params)]
    for cfg in cfgs:
        check_targets(cfg)
    for cfg in cfgs:
        if not cfg.data.validation:
            raise ConfigError(
                "data.validation=0: a search needs validation scores to choose by; set data.validation=5000, for example"
            )
    directions = {higher_is_better(cfg) for cfg in cfgs}
    if len(directions) > 1:
        raise ConfigError("task: a search compares a single metric, not both accuracy and mean absolute error")
    seeds = ",".join(str(seed) for seed in dict.fromkeys(cfg.seed for cfg in cfgs))
    return space.described() | {"seed": seeds, "the settings": config.recipe_hash(cfgs[0])}, directions.pop()


def _run(batch: "Sequence[FrozenTrial]", trials: "Study", space: Space, given: Search, manifest: Manifest, first: int) -> None:
    """Run the jobs of some trials, and report their results to the study."""
    from optuna.trial import TrialState

    entered: dict[int, list[Job]] = {}
    for trial in batch:
        names = [f"trial{trial.number:03}{f'-seed{seed}' if seed else ''}" for seed in space.seeds]
        try:
            asked = space.jobs(trial.params)
            entered[trial.number] = running.register(
                manifest, asked, names, given.context, given.node, drawn=[*space.distributions]
            )
        except ConfigError:
            trials.tell(trial.number, state=TrialState.FAIL)
            raise
        study.note_runs(trials, trial, [job.directory for job in entered[trial.number]])
    try:
        unique = {job.key: job for jobs in entered.values() for job in jobs}
        again = [job for job in unique.values() if job.status is not Status.DIVERGED]
        running.run(manifest, again, given.jobs_launcher, first)
    finally:
        manifest.require_kept()
        ended = {job.key: job for job in manifest.jobs()}
        for trial in batch:
            _tell(trials, trial, [ended[job.key] for job in entered[trial.number]], manifest)


def _tell(trials: "Study", trial: "FrozenTrial", jobs: Sequence[Job], manifest: Manifest) -> None:
    """Report a trial's result to the study: the mean over its seeds; a trial that was stopped is left to be resumed.

    A trial that diverged counts as pruned, so that the sampler learns to avoid its values; other failures teach nothing.
    """
    from optuna.trial import TrialState

    statuses = {job.status for job in jobs}
    if statuses & {Status.PENDING, Status.RUNNING, Status.INTERRUPTED}:
        return
    runs = [epoch_scores(RunDirectory(manifest.directory / job.directory)) for job in jobs]
    study.report(trials, trial, [None if None in scores else fmean(scores) for scores in zip(*runs, strict=False)])
    value = fmean(validation_score(job) for job in jobs) if all(status.is_scored for status in statuses) else math.nan
    if Status.FAILED in statuses:
        trials.tell(trial.number, state=TrialState.FAIL)
    elif math.isfinite(value):
        trials.tell(trial.number, value)
    else:
        trials.tell(trial.number, state=TrialState.PRUNED)


def validation_score(job: Job) -> float:
    """Return the score of a finished job that is reported to a search: always a validation score."""
    if job.split != "validation":
        raise ConfigError(f"{job.directory}: has no validation score; set a larger data.validation")
    return math.nan if job.score is None else job.score


def _batch(given: Search, jobs: int, seeds: int) -> int:
    """Return how many trials at a time keep the launcher busy; one if it does not say."""
    at_a_time = getattr(given.jobs_launcher, "at_a_time", None)
    return -(-at_a_time(max(1, jobs)) // seeds) if at_a_time else 1


def _tell_begin(manifest: Manifest, trials: "Study", space: Space, missing: int) -> None:
    states = Counter(trial.state.name.lower() for trial in trials.get_trials(deepcopy=False))
    names = {"complete": "finished", "pruned": "pruned", "fail": "failed", "running": "to resume"}
    counts = [f"{states[state]} {name}" for state, name in names.items() if states[state]]
    seeds = f", each with {len(space.seeds)} seeds" if len(space.seeds) > 1 else ""
    terminal = wide_console()
    terminal.print(f"[bold]search[/]  {manifest.directory}  trials: {', '.join([*counts, f'{missing} to come'])}{seeds}")
    terminal.print(f"        for the best validation score, over\n          {escape(', '.join(space.keys))}")


def _complete(manifest: Manifest, trials: "Study") -> list[Job]:
    """Return the jobs of the trials that have a value."""
    from optuna.trial import TrialState

    complete = trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    runs = {run for trial in complete for run in trial.user_attrs["runs"]}
    return [job for job in manifest.jobs() if job.directory in runs]


def _tell_again(complete: Sequence[Job], trials: "Study") -> None:
    """Print the command that trains the best trial again."""
    runs = trials.best_trial.user_attrs["runs"] if complete else ()
    jobs = [job for job in complete if job.directory in runs]
    if not jobs:
        return
    seed = max(job.seed for job in jobs) + 1
    overrides = [override.removeprefix("++") for override in jobs[0].overrides if not override.startswith("seed=")]
    command = shlex.join(["python", "-m", "cnnlab.train", "-m", *overrides])
    wide_console().print(
        f"train again   {escape(command)} 'seed=range({seed},{seed + 5})'\n"
        f"              (the best of {len(trials.trials)} was also lucky: new seeds show how good it is)"
    )
