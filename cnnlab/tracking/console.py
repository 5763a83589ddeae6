"""What a person sees while a run trains: a header, a live bar an epoch, a line an epoch that stays, a closing block."""

import os
import sys
from importlib.util import find_spec

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from cnnlab import machine, trust
from cnnlab.status import Status
from cnnlab.tracking.records import Epoch, EpochProgress, Result, RunInfo
from cnnlab.tracking.run import RunDirectory


class Terminal(RichConsole):
    """Where a person reads. When the reader goes away (`| head`), training goes on in silence."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """console=auto: live on a terminal, plain lines elsewhere. plain: no bar. quiet: the last line only."""

    def __init__(self, info: RunInfo, run: RunDirectory) -> None:
        self.info, self.run = info, run
        self.quiet = info.cfg.console == "quiet"
        plain = False if info.cfg.console == "plain" else None  # None: rich finds out
        self.terminal = Terminal(highlight=False, emoji=False, quiet=self.quiet, force_terminal=plain)
        self.terminal.soft_wrap = not self.terminal.is_terminal  # a file has no width
        notebook = self.terminal.is_jupyter and find_spec("ipywidgets") is not None  # which rich draws with there
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
        score = f"loss {now.score.loss:.4f}  {self.info.metric} {now.score.metric:.4f}"
        text = f"{now.steps:,}/{self.epoch_steps:,}{speed}  {score}  {duration(left)} left"
        self.bar.update(self.bar.task_ids[0], completed=now.steps, text=text, refresh=True)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        self.stop()
        scores = [f"{name} loss {score.loss:.4f} {epoch.metric} {score.metric:.4f}" for name, score in epoch.scores.items()]
        speed = f"{epoch.train_s:.1f} s  {epoch.images_per_s:,.0f} images/s"
        self.terminal.print("  ".join([self._epoch_name(epoch.epoch), *scores, speed, *(["[green]best[/]"] if best else [])]))

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def closing(self, result: Result) -> None:
        test, name = result.scores["test"], self.run.name
        shown, trusting = escape(self.run.quoted), escape(trust.argument(self.info.cfg))
        weights = "best weights by validation" if result.weights == "best" else "last weights"
        how = ", stopped early" if result.status is Status.EARLY_STOPPED else ""
        score = f"{result.metric} {test.metric:.4f}  loss {test.loss:.4f}"
        if self.quiet:
            self.terminal.quiet = False
            self.terminal.print(f"{shown}  test {score}  {epochs(result.epochs)}  {result.seconds:.1f} s")
            return
        self.terminal.print(
            f"\n[bold]test {score}[/]  ({weights}, {result.steps:,} steps in {duration(result.seconds)}{how})\n\n"
            f"see it        tensorboard --logdir {'outputs' if name.startswith('outputs/') else shown}\n"
            f"evaluate      python -m cnnlab.evaluate {shown}{trusting}"
        )
        if result.status is Status.FINISHED and self.info.can_be_lengthened:
            self.terminal.print(f"train longer  python -m cnnlab.train resume={shown}{trusting} {self._longer()}")

    def _header(self) -> None:
        info, cfg = self.info, self.info.cfg
        channels, height, width = info.shape
        counts = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
        augment = f", augmented by {', '.join(cfg.augment)}" if cfg.augment else ""
        network = self.run.recorded("choices").get("model", "network")
        kind = str(cfg.model["_target_"]).rpartition(".")[2]
        optimizer = f"{str(cfg.optimizer['_target_']).rpartition('.')[2]}, lr {cfg.optimizer.get('lr', 'of its own')}"
        device = f"{cfg.trainer.device}: {self.run.read_environment().get('device', '')}"
        threads = f"{cfg.trainer.threads} thread{'' if cfg.trainer.threads == 1 else 's'}"
        beside = (
            "; beside other work trainer.threads=1 may be faster"
            if cfg.trainer.device == "cpu" and cfg.trainer.threads != 1 and machine.is_busy()
            else ""
        )
        rows = {
            "network": f"{network} ({kind}), {info.num_parameters:,} parameters",
            "data": f"{info.data}, {height} x {width} x {channels}, {info.num_classes} classes: {counts}{augment}",
            "training": f"{optimizer}, batches of {cfg.trainer.batch_size}, {info.steps:,} steps, "
            f"{info.steps_per_epoch:,} an epoch, seed {cfg.seed}",
            "device": f"{device}, {threads}, {cfg.trainer.precision}{beside}",
            "run": self.run.name + (f", continued after step {info.first_step:,}" if info.first_step else ""),
        }
        for key, value in rows.items():
            self.terminal.print(f"[bold]{key:<9}[/]{escape(value)}")
        self.terminal.print()

    def _epoch_name(self, epoch: int) -> str:
        total = -(-self.info.steps // self.info.steps_per_epoch)
        return f"epoch {epoch:>{len(str(total))}}/{total}"

    def _longer(self) -> str:
        trainer = self.info.cfg.trainer
        return f"trainer.steps={trainer.steps * 2}" if trainer.steps else f"trainer.epochs={trainer.epochs * 2}"


def wide_console() -> Terminal:
    """For tables: never narrower than they are, so that no cell is cut off; a narrow terminal wraps the lines."""
    terminal = Terminal(highlight=False, soft_wrap=True)
    terminal.width = max(terminal.width, 160)
    return terminal


def duration(seconds: float) -> str:
    """ "8.2 s", "3:05" (minutes), "2:03:05" (hours)."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def epochs(count: int) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{count} epoch{'' if count == 1 else 's'}"
