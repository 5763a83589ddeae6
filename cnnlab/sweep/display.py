"""What a person sees while a sweep runs: counts, each running job's epoch and score, time left; a line a job that ends."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from cnnlab.status import Status
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.tracking.console import Terminal, duration
from cnnlab.tracking.records import Epoch
from cnnlab.tracking.run import RunDirectory


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
        """Read how far the jobs have come, and show it; `stopping`: a signal has ended the sweep, and running jobs save."""
        if stopping and not self.told_stop:
            self.told_stop = True
            self.terminal.print("[yellow]stopping[/]: the running jobs save; Ctrl-C once more to leave at once")
        jobs = [job for job in self.manifest.jobs() if job.directory in self.names]
        for job in jobs:
            if job.status not in (Status.RUNNING, Status.PENDING) and job.directory not in self.told:
                self.told.add(job.directory)
                drawn = drawn_values(job, self.manifest) if job.directory.startswith("trial") else ""
                self.terminal.print(ended_line(job, self.before + len(self.told), self.total, drawn))
        if self.live is not None:
            self.live.update(self._table(jobs), refresh=True)

    def _table(self, jobs: Sequence[Job]) -> Table:
        running = [(job.directory, *self._progress(job.directory)) for job in jobs if job.status is Status.RUNNING]
        pending = sum(job.status is Status.PENDING for job in jobs)
        left = time_left(time.monotonic() - self.started, len(self.told), [share for _, share, _ in running], pending)
        table = Table.grid(padding=(0, 2))
        for name, _, text in running[: max(1, self.terminal.height - 6)]:
            table.add_row(f"  {escape(name)}", text)
        ended, elapsed = self.before + len(self.told), duration(time.monotonic() - self.started)
        bar = Table.grid(padding=(0, 2))
        times = elapsed + (f", about {duration(left)} left" if left is not None else "")
        bar.add_row(f"[bold]{ended}/{self.total}[/]", ProgressBar(self.total, ended, width=24), times)
        outer = Table.grid()
        outer.add_row(bar)
        outer.add_row("  ".join(count_by_status(jobs)))
        if best := self._best():
            outer.add_row(escape(f"best so far  {best.directory}  {best.split} {best.metric} {_number(best.score)}"))
        outer.add_row(table)
        return outer

    def _best(self) -> Job | None:
        """The job of the best validation score, of the whole sweep."""
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
                self.trainers[name] = yaml.safe_load(run.config.read_text())["trainer"]
            except (OSError, KeyError, TypeError, yaml.YAMLError):
                return 0.0, "starts"
        return progress(run.read_epochs(), self.trainers[name])


def count_by_status(jobs: Sequence[Job]) -> list[str]:
    """ "3 finished", "1 running", in the order of Status; those that there are."""
    counts = Counter(job.status for job in jobs)
    return [f"{counts[status]} {status}" for status in Status if counts[status]]


def drawn_values(job: Job, manifest: Manifest) -> str:
    """The values of a search's trial: "optimizer.lr=0.01  model.dropout=0.2", the settings in which the jobs differ so far."""
    own = dict(text.lstrip("+~").partition("=")[::2] for text in job.overrides)
    differing = [key for key in manifest.varied(job.directory, searching=False) if key in own and key != "seed"]
    return "  ".join(f"{key}={_short(own[key])}" for key in differing)


def _short(value: str) -> str:
    try:
        return value if value.isdigit() else f"{float(value):.4g}"
    except ValueError:
        return value


def ended_line(job: Job, number: int, total: int, drawn: str = "") -> str:
    """ "3/12  lenet-seed2  validation accuracy 0.8912  12.1 s"; `drawn`: the values of a trial."""
    place = f"{number:>{len(str(total))}}/{total}  {escape(job.directory)}" + (f"  {escape(drawn)}" if drawn else "")
    took = f"  {duration(job.seconds)}" if job.seconds is not None else ""
    if job.status.is_scored:
        return f"{place}  {job.split} {job.metric} {_number(job.score)}{took}"
    color = "yellow" if job.status is Status.PRUNED else "red"
    return f"{place}  [{color}]{job.status}[/]: {escape(job.cause or '')}{took}"


def progress(epochs: Sequence[Epoch], trainer: Mapping[str, Any]) -> tuple[float, str]:
    """How much of a run is done, 0 to 1, and its last epoch and score.

    Args:
        epochs: that have ended. trainer: that section of its configuration.
    """
    if not epochs:
        return 0.0, f"epoch 1 of {trainer['epochs']}"
    last = epochs[-1]
    share = last.step / trainer["steps"] if trainer["steps"] else last.epoch / trainer["epochs"]
    of = "" if trainer["steps"] else f" of {trainer['epochs']}"
    split = "validation" if "validation" in last.scores else "train"
    return share, f"epoch {last.epoch}{of}  {split} {last.metric} {_number(last.scores[split].metric)}"


def _number(value: float | None) -> str:
    return f"{math.nan if value is None else value:.4f}"


def time_left(elapsed: float, ended: int, shares: Sequence[float], pending: int) -> float | None:
    """Seconds until all jobs are done, if they go on as so far; None before anything can be said."""
    done = ended + sum(shares)
    return elapsed / done * (sum(1 - share for share in shares) + pending) if done > 0.05 else None
