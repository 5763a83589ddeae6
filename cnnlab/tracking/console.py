"""What a person sees while a run trains: a header, a live bar an epoch, a line an epoch that stays, a closing block."""

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from cnnlab import config, trust
from cnnlab.tracking.run import RunDirectory

if TYPE_CHECKING:
    from cnnlab.training.session import Session


class Terminal(RichConsole):
    """Where a person reads. When the reader goes away (`| head`), training goes on in silence."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """console=auto: live on a terminal, plain lines elsewhere. plain: no bar. quiet: the last line only."""

    def __init__(self, session: "Session", run: RunDirectory, first_step: int) -> None:
        self.session, self.run = session, run
        self.metric = session.task.metric
        self.quiet = session.cfg.console == "quiet"
        plain = False if session.cfg.console == "plain" else None  # None: rich finds out
        self.terminal = Terminal(highlight=False, emoji=False, quiet=self.quiet, force_terminal=plain)
        self.terminal.soft_wrap = not self.terminal.is_terminal  # a file has no width
        notebook = self.terminal.is_jupyter and find_spec("ipywidgets") is not None  # which rich draws with there
        self.live = session.cfg.console == "auto" and (self.terminal.is_terminal or notebook)
        self.bar: Progress | None = None
        self.epoch_number = self.epoch_steps = 0
        self._header(first_step)

    def begin_epoch(self, epoch: int, done: int, steps: int) -> None:
        self.epoch_number, self.epoch_steps = epoch + 1, steps
        if self.live:
            columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"))
            self.bar = Progress(*columns, console=self.terminal, auto_refresh=False, transient=True)
            self.bar.start()
            self.bar.add_task(self._epoch_name(), total=steps, completed=done, text="")
            self.bar.refresh()

    def progress(self, done: int, images_per_s: float, loss: float, score: float, train_s: float) -> None:
        if self.bar is None:
            return
        left = train_s / done * (self.epoch_steps - done)
        speed = f"  {images_per_s:,.0f} images/s" if self.terminal.width >= 100 else ""
        text = f"{done:,}/{self.epoch_steps:,}{speed}  loss {loss:.4f}  {self.metric} {score:.4f}  {duration(left)} left"
        self.bar.update(self.bar.task_ids[0], completed=done, text=text, refresh=True)

    def epoch(self, line: dict[str, Any], best: bool) -> None:
        self.stop()
        parts = [
            f"{part} loss {line[f'{part}_loss']:.4f} {self.metric} {line[f'{part}_{self.metric}']:.4f}"
            for part in ("train", "validation", "test")
            if f"{part}_loss" in line
        ]
        speed = f"{line['train_s']:.1f} s  {line['images_per_s']:,.0f} images/s"
        self.terminal.print("  ".join([self._epoch_name(), *parts, speed, *(["[green]best[/]"] if best else [])]))

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def closing(self, result: dict[str, Any]) -> None:
        test, name = result["test"], self.run.name
        shown, trusting = escape(self.run.quoted), escape(trust.argument(config.flat(self.session.cfg)))
        weights = "best weights by validation" if result["weights"] == "best" else "last weights"
        how = {"early_stopped": ", stopped early"}.get(result["status"], "")
        score = f"{self.metric} {test[self.metric]:.4f}  loss {test['loss']:.4f}"
        if self.quiet:
            self.terminal.quiet = False
            self.terminal.print(f"{shown}  test {score}  {epochs(result['epochs'])}  {result['seconds']:.1f} s")
            return
        self.terminal.print(
            f"\n[bold]test {score}[/]  ({weights}, {result['steps']:,} steps in {duration(result['seconds'])}{how})\n\n"
            f"see it        tensorboard --logdir {'outputs' if name.startswith('outputs/') else shown}\n"
            f"take it apart python -m cnnlab.evaluate {shown}{trusting}"
        )
        if result["status"] == "finished" and self.session.can_be_lengthened:
            self.terminal.print(f"train longer  python -m cnnlab.train resume={shown}{trusting} {self._longer()}")

    def _header(self, first_step: int) -> None:
        session, cfg, data = self.session, self.session.cfg, self.session.data
        channels, height, width = data.shape
        counts = ", ".join(f"{len(part):,} {name}" for name, part in data.parts().items())
        augment = f", augmented by {', '.join(cfg.augment)}" if cfg.augment else ""
        steps = f"{session.total_steps:,} steps, {session.steps_per_epoch:,} an epoch"
        network = self.run.recorded("choices").get("model", "network")
        kind = str(cfg.model["_target_"]).rpartition(".")[2]
        optimizer = f"{str(cfg.optimizer['_target_']).rpartition('.')[2]}, lr {cfg.optimizer.get('lr', 'of its own')}"
        device = self.run.read_environment().get("device", "")
        rows = {
            "network": f"{network} ({kind}), {session.num_parameters:,} parameters",
            "data": f"{data.name}, {height} x {width} x {channels}, {len(data.classes)} classes: {counts}{augment}",
            "training": f"{optimizer}, batches of {cfg.trainer.batch_size}, {steps}, seed {cfg.seed}",
            "device": f"{session.runtime.device}: {device}, {session.runtime.threads} threads, {session.runtime.precision}",
            "run": self.run.name + (f", continued after step {first_step:,}" if first_step else ""),
        }
        for key, value in rows.items():
            self.terminal.print(f"[bold]{key:<9}[/]{escape(value)}")
        self.terminal.print()

    def _epoch_name(self) -> str:
        total = -(-self.session.total_steps // self.session.steps_per_epoch)
        return f"epoch {self.epoch_number:>{len(str(total))}}/{total}"

    def _longer(self) -> str:
        trainer = self.session.cfg.trainer
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
