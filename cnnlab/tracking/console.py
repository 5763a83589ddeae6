"""Console output of a run: a header, a live progress bar and then a line for each epoch, and a closing block."""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import Segment

from cnnlab import machine
from cnnlab.config import trust
from cnnlab.errors import printable
from cnnlab.status import Status
from cnnlab.tracking.records import Epoch, EpochProgress, Result, RunInfo
from cnnlab.tracking.run import RunDirectory


class Terminal(RichConsole):
    """A console that goes silent if its reader closes the pipe (`| head`), so that training continues, and that replaces the
    control characters in names and in the content of files."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            safe = "\n".join(map(printable, segment.text.split("\n")))
            yield segment if segment.control else segment._replace(text=safe)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """Output of a run. console=auto: live on a terminal, plain lines elsewhere. plain: no bar. quiet: only the last line."""

    def __init__(self, info: RunInfo, run: RunDirectory) -> None:
        self.info, self.run = info, run
        self.quiet = info.cfg.console == "quiet"
        plain = False if info.cfg.console == "plain" else None  # None: rich decides
        self.terminal = Terminal(highlight=False, emoji=False, quiet=self.quiet, force_terminal=plain)
        self.terminal.soft_wrap = not self.terminal.is_terminal  # a file has no width
        notebook = self.terminal.is_jupyter and find_spec("ipywidgets") is not None  # which rich needs there
        self.live = info.cfg.console == "auto" and (self.terminal.is_terminal or notebook)
        self.bar: Progress | None = None
        self.epoch_steps = 0
        self._header()

    def begin_epoch(self, epoch: int, done: int, steps: int) -> None:
        self.epoch_steps = steps
        if self.live:
            columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"))
            self.bar = Progress(*columns, console=self.terminal, auto_refresh=False, transient=True)
            self.bar.start()
            self.bar.add_task(self._epoch_name(epoch), total=steps, completed=done, text="")
            self.bar.refresh()

    def progress(self, now: EpochProgress) -> None:
        if self.bar is None:
            return
        left = now.train_s / now.steps * (self.epoch_steps - now.steps)
        speed = f"  {now.images_per_s:,.0f} images/s" if self.terminal.width >= 100 else ""
        score = f"loss {now.score.loss:.4f}  {self.info.metric} {now.score.value:.4f}"
        text = f"{now.steps:,}/{self.epoch_steps:,}{speed}  {score}  {duration(left)} left"
        self.bar.update(self.bar.task_ids[0], completed=now.steps, text=text, refresh=True)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        self.stop()
        width = self.terminal.width if self.terminal.is_terminal else None
        line = epoch_line(self._epoch_name(epoch.epoch), epoch, best, width)
        self.terminal.print(f"{line.removesuffix('best')}[green]best[/]" if best else line)

    def stop(self) -> None:
        """Remove the progress bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def closing(self, result: Result) -> None:
        test, name = result.scores["test"], self.run.name
        shown, trusting = escape(self.run.quoted), escape(trust.argument(self.info.cfg))
        weights = "best weights by validation" if result.weights == "best" else "last weights"
        how = ", stopped early" if result.status is Status.EARLY_STOPPED else ""
        score = f"{result.metric} {test.value:.4f}  loss {test.loss:.4f}"
        self.terminal.soft_wrap = True  # a command that rich breaks into lines cannot be copied
        if self.quiet:
            self.terminal.quiet = False
            self.terminal.print(f"{shown}  test {score}  {counted(result.epochs, 'epoch')}  {result.seconds:.1f} s")
            return
        steps = counted(result.steps, "step")
        self.terminal.print(
            f"\n[bold]test {score}[/]  ({weights}, {steps} in {duration(result.seconds)}{how})\n\n{activating()}"
            f"see it        tensorboard --logdir {'outputs' if name.startswith('outputs/') else shown}\n"
            f"evaluate      python -m cnnlab.evaluate {shown}{trusting}"
        )
        if result.status is Status.FINISHED and self.info.can_be_lengthened:
            self.terminal.print(f"train longer  python -m cnnlab.train resume={shown}{trusting} {self._longer()}")

    def _header(self) -> None:
        info, cfg = self.info, self.info.cfg
        channels, *sides = info.shape
        shape = " x ".join(map(str, (*sides, channels)))
        counts = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
        augment = f", augmented by {', '.join(cfg.augment)}" if cfg.augment else ""
        network = self.run.recorded("choices").get("model", "network")
        kind = str(cfg.model["_target_"]).rpartition(".")[2]
        optimizer = f"{str(cfg.optimizer['_target_']).rpartition('.')[2]}, lr {cfg.optimizer.get('lr', 'at its default')}"
        phases = f", phases of {' + '.join(str(phase.epochs) for phase in cfg.phases)} epochs" if cfg.phases else ""
        device = f"{cfg.trainer.device}: {self.run.read_environment().get('device', '')}"
        threads = counted(cfg.trainer.threads or 0, "thread")
        beside = (
            "; other programs are busy, trainer.threads=1 may be faster"
            if cfg.trainer.device == "cpu" and cfg.trainer.threads != 1 and machine.is_busy()
            else ""
        )
        rows = {
            "network": f"{network} ({kind}), {info.num_parameters:,} parameters",
            "data": f"{info.data}, {shape}, {info.num_classes} classes: {counts}{augment}",
            "training": f"{optimizer}, batches of {cfg.trainer.batch_size}, {counted(info.steps, 'step')}, "
            f"{info.steps_per_epoch:,} an epoch, seed {cfg.seed}{phases}",
            "device": f"{device}, {threads}, {cfg.trainer.precision}{beside}",
            "run": self.run.name + (f", continued after step {info.first_step:,}" if info.first_step else ""),
        }
        for key, value in rows.items():
            self.terminal.print(f"[bold]{key:<9}[/]{escape(self._folded(value))}", soft_wrap=True)
        self.terminal.print()

    def _epoch_name(self, epoch: int) -> str:
        total = -(-self.info.steps // self.info.steps_per_epoch)
        phase = self.info.phase(epoch)
        return f"epoch {epoch:>{len(str(total))}}/{total}" + (f" phase {phase}" if phase else "")

    def _folded(self, value: str) -> str:
        """Wrap a row of the header between words, with an indent, if it is longer than the terminal is wide."""
        if not self.terminal.is_terminal:
            return value
        lines = textwrap.wrap(value, max(self.terminal.width - 9, 20), break_long_words=False, break_on_hyphens=False)
        return f"\n{' ' * 9}".join(lines)

    def _longer(self) -> str:
        trainer = self.info.cfg.trainer
        return f"trainer.steps={trainer.steps * 2}" if trainer.steps else f"trainer.epochs={trainer.epochs * 2}"


def epoch_line(name: str, epoch: Epoch, best: bool, width: int | None) -> str:
    """Return the console line of a finished epoch, in the longest form that fits into `width` columns (None: no limit).

    name: "epoch  1/10".
    """
    seconds, end = f"{epoch.train_s:.1f} s", ["best"] if best else []
    metric = "acc" if epoch.metric == "accuracy" else epoch.metric
    short = {"validation": "val"}
    scores = epoch.scores.items()
    forms = [
        [f"{split} loss {score.loss:.4f} {epoch.metric} {score.value:.4f}" for split, score in scores]
        + [seconds, f"{epoch.images_per_s:,.0f} images/s"],
        [f"{short.get(split, split)} loss {score.loss:.4f} {metric} {score.value:.4f}" for split, score in scores] + [seconds],
        [f"{short.get(split, split)} {metric} {score.value:.4f}" for split, score in scores] + [seconds],
    ]
    fitting = (form for form in forms if width is None or len("  ".join([name, *form, "best"])) <= width)
    return "  ".join([name, *next(fitting, forms[-1]), *end])


def activating() -> str:
    """Return a line that activates this environment, or "" if the commands printed below it work without that."""
    bin, shell = Path(sys.prefix, "bin"), shutil.which("python")
    if sys.prefix == sys.base_prefix or (shell and Path(shell).parent.resolve() == bin.resolve()):
        return ""
    if bin.is_relative_to(Path.cwd()):
        bin = bin.relative_to(Path.cwd())
    return f"first         source {shlex.quote(str(bin / 'activate'))}\n"


def wide_console() -> Terminal:
    """Return a console for tables, wide enough that no cell is cut off; a narrow terminal wraps the lines."""
    terminal = Terminal(highlight=False, soft_wrap=True)
    terminal.width = max(terminal.width, 160)
    return terminal


def folding_console() -> Terminal:
    """Return a console for a table whose cells fold in a narrow terminal; a file has no width."""
    return Terminal(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def duration(seconds: float) -> str:
    """Format a duration: "8.2 s", "3:05" (minutes), "2:03:05" (hours)."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: "1 epoch", "2,000 epochs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
