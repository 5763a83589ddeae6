"""What is printed before and after a sweep: its jobs, the best of them, causes of failure, and commands to go on with."""

import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.markup import escape

from cnnlab.status import Status
from cnnlab.sweep.directory import SWEEPS
from cnnlab.sweep.display import count_by_status, drawn_values
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking.console import Terminal, activating, counted, duration, wide_console
from cnnlab.tracking.run import COMMAND


def tell_begin(manifest: Manifest, jobs: Sequence[Job], asked: int, added: Sequence[Job], others: int) -> None:
    """Print the number of jobs and their status. asked: their number with repetitions. added: those that are new in an earlier
    grid. others: how many other jobs that grid has."""
    terminal = wide_console()
    counts = ", ".join(count_by_status(jobs))
    terminal.print(f"[bold]sweep[/]  {manifest.directory}  {counted(len(jobs), 'job')}: {counts}")
    if asked > len(jobs):
        terminal.print(f"       {counted(asked - len(jobs), 'job')} requested more than once: each runs once")
    if added:
        first = ", ".join(job.directory for job in added[:5])
        terminal.print(f"       {len(added)} new in this grid: {first}{', ...' if len(added) > 5 else ''}")
    if others:
        terminal.print(f"       {counted(others, 'earlier job')} not in this grid: kept as they are")


@dataclass(frozen=True)
class Ranked:
    """A configuration of a sweep: the mean of its jobs' scores, and those jobs, one per seed."""

    score: float
    jobs: list[Job]


def ranking(manifest: Manifest, jobs: Sequence[Job]) -> list[Ranked]:
    """Rank the configurations that have a scored job, the best by validation first; empty if nothing is held out, or if the
    metrics differ."""
    by_recipe: dict[str, list[Job]] = {}
    for job in jobs:
        if job.status.is_scored and job.split == "validation" and job.score is not None and math.isfinite(job.score):
            by_recipe.setdefault(job.recipe, []).append(job)
    if len({of_one[0].metric for of_one in by_recipe.values()}) != 1:  # none, or scores that are not comparable
        return []
    higher_is_better = manifest.higher_is_better(next(iter(by_recipe.values()))[0])
    rows = [Ranked(fmean(job.score or 0.0 for job in of_one), of_one) for of_one in by_recipe.values()]
    return sorted(rows, key=lambda row: row.score, reverse=higher_is_better)


def _tell_best(manifest: Manifest, jobs: Sequence[Job], terminal: Terminal) -> None:
    """Print the best configuration, with its directory and the values that a search drew, and the next three."""
    rows = ranking(manifest, jobs)
    if len(rows) < 2:
        return
    for number, row in enumerate(rows[:4]):
        first = row.jobs[0]
        others = len(row.jobs) - 1
        what = f"validation {first.metric} {row.score:.4f}{' (mean)' if others else ''}"
        if number == 0:
            place = escape(shlex.quote(str(manifest.directory / first.directory)))
            more = [f"and {counted(others, 'other seed')}"] if others else []
            terminal.print("\n".join([f"\n[bold]best          {what}[/]", *(f"{'':<14}{text}" for text in (
                place, *more, *map(escape, drawn_values(first))))]))  # fmt: skip
        else:
            name = escape(first.directory) + (f" +{others}" if others else "")
            line = f"{'then' if number == 1 else '':<14}{what}  {name}"
            fits = not terminal.is_terminal or len(line) <= shutil.get_terminal_size().columns
            terminal.print(line if fits else line.removesuffix(f"  {name}") + f"\n{'':<14}{name}")


def tell_end(manifest: Manifest, jobs: Sequence[Job], ranked: Sequence[Job] | None = None) -> None:
    """Print the jobs that are not done, grouped by cause, the best configurations, and what to do next.

    ranked: the jobs from which the best are chosen; None: all.
    """
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
    terminal.print(f"\n{scored} of {counted(len(jobs), 'job')} finished{told}, {duration(seconds)} of training")
    _tell_best(manifest, jobs if ranked is None else ranked, terminal)
    place, shown = manifest.directory, shlex.quote(str(manifest.directory))
    terminal.print()
    if any(job.worth_repeating for job in jobs):
        _, *asked = shlex.split(os.environ.get(COMMAND) or shlex.join(sys.argv))
        named = [f"sweep.name={place.name}"] if place.parent == SWEEPS else []  # elsewhere: named in the command
        command = shlex.join(["python", "-m", "cnnlab.train", *dict.fromkeys([*asked, *named])])
        terminal.print(f"resume        {escape(command)}")
    if scored:
        terminal.print(activating(), end="")
        terminal.print(f"compare       python -m cnnlab.compare {escape(shown)}")
        terminal.print(f"see it        tensorboard --logdir {escape(shown)}")
