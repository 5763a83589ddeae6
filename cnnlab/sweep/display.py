"""What a person sees while a sweep runs: counts, each running job's epoch and score, time left; a line a job that ends."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cnnlab.sweep.manifest import STATES, Job, Manifest
from cnnlab.tracking import files
from cnnlab.tracking.console import Terminal, duration
from cnnlab.tracking.run import RunDirectory, epoch_metric


class Display:
    """A view on a sweep's manifest and its runs' metrics; live on a terminal, a line an ended job elsewhere.

    console: as the setting of that name. before, total: jobs that ended in earlier lots, and jobs in all.
    """

    def __init__(
        self, manifest: Manifest, names: Sequence[str], console: str, before: int = 0, total: int | None = None
    ) -> None:
        self.manifest, self.names = manifest, set(names)
        self.before, self.total = before, total or before + len(self.names)
        self.terminal = Terminal(highlight=False, emoji=False, quiet=console == "quiet")
        self.terminal.soft_wrap = not self.terminal.is_terminal
        live = console == "auto" and self.terminal.is_terminal
        self.live = Live(console=self.terminal, auto_refresh=False, transient=True) if live else None
        self.started, self.told, self.told_stop = time.monotonic(), set[str](), False
        self.trainers = dict[str, Mapping[str, Any]]()  # of the runs that have begun; they do not change

    def __enter__(self) -> "Display":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def look(self, stopping: bool) -> None:
        """Read how far the jobs have come, and show it; `stopping`: a signal has ended the sweep, and running jobs save."""
        if stopping and not self.told_stop:
            self.told_stop = True
            self.terminal.print("[yellow]stopping[/]: the running jobs save; Ctrl-C once more to leave at once")
        jobs = [job for job in self.manifest.jobs() if job.directory in self.names]
        for job in jobs:
            if job.state in ("done", "pruned", "failed", "interrupted") and job.directory not in self.told:
                self.told.add(job.directory)
                self.terminal.print(ended_line(job, self.before + len(self.told), self.total))
        if self.live is not None:
            self.live.update(self._table(jobs), refresh=True)

    def _table(self, jobs: Sequence[Job]) -> Table:
        running = [(job.directory, *self._progress(job.directory)) for job in jobs if job.state == "running"]
        states = Counter(job.state for job in jobs)
        counts = "  ".join(f"{states[state]} {state}" for state in STATES if states[state])
        left = time_left(time.monotonic() - self.started, len(self.told), [share for _, share, _ in running], states["pending"])
        table = Table.grid(padding=(0, 2))
        for name, _, text in running[: max(1, self.terminal.height - 4)]:
            table.add_row(f"  {escape(name)}", text)
        outer = Table.grid()
        outer.add_row(f"[bold]{counts}[/]" + (f"  about {duration(left)} left" if left is not None else ""))
        outer.add_row(table)
        return outer

    def _progress(self, name: str) -> tuple[float, str]:
        run = RunDirectory(self.manifest.directory / name)
        if name not in self.trainers:
            try:
                self.trainers[name] = yaml.safe_load(run.config.read_text())["trainer"]
            except (OSError, KeyError, TypeError, yaml.YAMLError):
                return 0.0, "starts"
        return progress(files.read_json_lines(run.metrics), self.trainers[name])


def ended_line(job: Job, number: int, total: int) -> str:
    """ "3/12  lenet-seed2  validation accuracy 0.8912  12.1 s"."""
    place = f"{number:>{len(str(total))}}/{total}  {escape(job.directory)}"
    took = f"  {duration(job.seconds)}" if job.seconds is not None else ""
    if job.state == "done":
        return f"{place}  {job.metric} {_number(job.score)}{took}"
    colour = "yellow" if job.state == "pruned" else "red"
    return f"{place}  [{colour}]{job.state}[/]: {escape(job.cause or '')}{took}"


def progress(lines: Sequence[Mapping[str, Any]], trainer: Mapping[str, Any]) -> tuple[float, str]:
    """How much of a run is done, 0 to 1, and its last epoch and score.

    Args:
        lines: of its metrics.jsonl. trainer: that section of its configuration.
    """
    if not lines:
        return 0.0, f"epoch 1 of {trainer['epochs']}"
    last = lines[-1]
    share = last["step"] / trainer["steps"] if trainer["steps"] else last["epoch"] / trainer["epochs"]
    of = "" if trainer["steps"] else f" of {trainer['epochs']}"
    metric = epoch_metric(last, "validation") or epoch_metric(last, "train")
    score = "" if metric is None else f"  {metric[0]} {_number(metric[1])}"
    return share, f"epoch {last['epoch']}{of}{score}"


def _number(value: float | None) -> str:
    return f"{math.nan if value is None else value:.4f}"


def time_left(elapsed: float, ended: int, shares: Sequence[float], pending: int) -> float | None:
    """Seconds until all jobs are done, if they go on as so far; None before anything can be said."""
    done = ended + sum(shares)
    return elapsed / done * (sum(1 - share for share in shares) + pending) if done > 0.05 else None
