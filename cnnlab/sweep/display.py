"""Console output of a sweep: counts, each running job's epoch and score, time left; and a line for each job that ends."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cnnlab.errors import CheckpointError
from cnnlab.reading import read_yaml
from cnnlab.status import Status
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking.console import Terminal, duration
from cnnlab.tracking.records import Epoch
from cnnlab.tracking.run import RunDirectory

MIN_DRAWN = 12  # columns; in fewer, drawn values are unreadable


class Display:
    """A view of a sweep's manifest and its runs' metrics: live on a terminal, elsewhere a line for each job that has ended.

    console: as the setting of that name. done: jobs that were done when the command began. lots: jobs that the command has
    already run in earlier lots. total: jobs in all. began: when the command began, by time.monotonic().
    """

    def __init__(
        self,
        manifest: Manifest,
        names: Sequence[str],
        console: str,
        *,
        done: int = 0,
        lots: int = 0,
        total: int | None = None,
        began: float | None = None,
    ) -> None:
        self.manifest, self.names, self.lots = manifest, set(names), lots
        self.before, self.total = done + lots, total or done + lots + len(self.names)
        self.began = time.monotonic() if began is None else began
        self.terminal = Terminal(highlight=False, emoji=False, quiet=console == "quiet")
        self.terminal.soft_wrap = not self.terminal.is_terminal
        live = console == "auto" and self.terminal.is_terminal
        self.live = Live(console=self.terminal, auto_refresh=False, transient=True) if live else None
        self.told, self.told_stop = set[str](), False
        self.higher_is_better: bool | None = None
        self.trainers = dict[str, Mapping[str, Any]]()  # of the runs that have begun; they do not change

    def __enter__(self) -> "Display":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def look(self, stopping: bool) -> None:
        """Read and show how far the jobs are. stopping: a signal has stopped the sweep, and running jobs are saving."""
        if stopping and not self.told_stop:
            self.told_stop = True
            self.terminal.print("[yellow]stopping[/]: the running jobs are saving; Ctrl-C again to leave at once")
        jobs = [job for job in self.manifest.jobs() if job.directory in self.names]
        for job in jobs:
            if job.status not in (Status.RUNNING, Status.PENDING) and job.directory not in self.told:
                self.told.add(job.directory)
                width = self.terminal.width if self.terminal.is_terminal else None
                self.terminal.print(ended_line(job, self.before + len(self.told), self.total, width))
        if self.live is not None:
            self.live.update(self._table(jobs), refresh=True)

    def _table(self, jobs: Sequence[Job]) -> Table:
        running = [(job.directory, *self._progress(job.directory)) for job in jobs if job.status is Status.RUNNING]
        ended, elapsed = self.before + len(self.told), time.monotonic() - self.began
        pending = max(0, self.total - ended - len(running))
        left = time_left(elapsed, self.lots + len(self.told), [share for _, share, _ in running], pending)
        table = Table.grid(padding=(0, 2))
        for name, _, text in running[: max(1, self.terminal.height - 6)]:
            table.add_row(f"  {escape(name)}", text)
        bar = Table.grid(padding=(0, 2))
        times = duration(elapsed) + (f", about {duration(left)} left" if left is not None else "")
        bar.add_row(f"[bold]{ended}/{self.total}[/]", ProgressBar(self.total, ended, width=24), times)
        outer = Table.grid()
        outer.add_row(bar)
        counts = count_by_status([job for job in jobs if not job.status.is_scored and job.status is not Status.PENDING])
        outer.add_row("  ".join([*counts, *([f"{pending} pending"] if pending else [])]))
        if best := self._best():
            outer.add_row(escape(f"best so far  {best.directory}  {best.split} {best.metric} {_number(best.score)}"))
        outer.add_row(table)
        return outer

    def _best(self) -> Job | None:
        """Return the job with the best validation score of the whole sweep."""
        scored = [job for job in self.manifest.jobs() if job.split == "validation" and math.isfinite(job.score or math.nan)]
        if not scored:
            return None
        if self.higher_is_better is None:
            self.higher_is_better = self.manifest.higher_is_better(scored[0])
        return (max if self.higher_is_better else min)(scored, key=lambda job: job.score or 0.0)

    def _progress(self, name: str) -> tuple[float, str]:
        run = RunDirectory(self.manifest.directory / name)
        if name not in self.trainers:
            try:
                self.trainers[name] = read_yaml(run.config)["trainer"]
            except (FileNotFoundError, KeyError, CheckpointError):
                return 0.0, "starting"
        return progress(run.read_epochs(), self.trainers[name])


def count_by_status(jobs: Sequence[Job]) -> list[str]:
    """Count jobs by status, without zeros, in the order of Status: "3 finished", "1 running"."""
    counts = Counter(job.status for job in jobs)
    return [f"{counts[status]} {status}" for status in Status if counts[status]]


def ended_line(job: Job, number: int, total: int, width: int | None = None) -> str:
    """Return "3/12  lenet-seed2  validation accuracy 0.8912  12.1 s", in a search with the values drawn, cut to `width`."""
    place = f"{number:>{len(str(total))}}/{total}  {escape(job.directory)}"
    took = f"  {duration(job.seconds)}" if job.seconds is not None else ""
    if job.status.is_scored:
        told = f"{place}  {job.split} {job.metric} {_number(job.score)}{took}"
    else:
        color = "yellow" if job.status is Status.PRUNED else "red"
        told = f"{place}  [{color}]{job.status}[/]: {escape(job.cause or '')}{took}"
    if not job.drawn:
        return told
    used, drawn = Text.from_markup(told).cell_len + 2, "  ".join(drawn_values(job, short=width is not None))
    if width is not None and used + cell_len(drawn) > width:
        drawn = f"{set_cell_size(drawn, width - used - 1).rstrip()}…" if used + MIN_DRAWN <= width else ""
    return f"{told}  {escape(drawn)}" if drawn else told


def drawn_values(job: Job, short: bool = False) -> list[str]:
    """Return the values that a search drew for a trial, as in "optimizer.lr=0.01"; short: as in "lr=0.01"."""
    values = job.values
    names = [key.rpartition(".")[2] if short else key for key in job.drawn]
    return [f"{name}={_short(values.get(key, ''))}" for name, key in zip(names, job.drawn, strict=True)]


def _short(value: str) -> str:
    try:
        return value if value.isdigit() else f"{float(value):.4g}"
    except ValueError:
        return value


def progress(epochs: Sequence[Epoch], trainer: Mapping[str, Any]) -> tuple[float, str]:
    """Return how much of a run is done, from 0 to 1, and a text with its last epoch and score.

    Args:
        epochs: the finished ones. trainer: that section of its configuration.
    """
    of = "" if trainer["steps"] else f" of {trainer['epochs']}"
    if not epochs:
        return 0.0, f"epoch 1{of}"
    last = epochs[-1]
    share = last.step / trainer["steps"] if trainer["steps"] else last.epoch / trainer["epochs"]
    split = "validation" if "validation" in last.scores else "train"
    return share, f"epoch {last.epoch}{of}  {split} {last.metric} {_number(last.scores[split].value)}"


def _number(value: float | None) -> str:
    return f"{math.nan if value is None else value:.4f}"


def time_left(elapsed: float, ended: int, shares: Sequence[float], pending: int) -> float | None:
    """Estimate the seconds until all jobs are done from their speed so far; None if it is too early to tell."""
    done = ended + sum(shares)
    return elapsed / done * (sum(1 - share for share in shares) + pending) if done > 0.05 else None
