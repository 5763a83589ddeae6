"""`python -m cnnlab.evaluate RUN [KEY=VALUE ...]`: the test score of a run, class by class."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnnlab import cli, composing
from cnnlab.composing.overrides import prepare
from cnnlab.config import targets, trust
from cnnlab.config.schema import Config, DataConfig
from cnnlab.errors import ConfigError, note, short
from cnnlab.tracking.confusion import confusion_counts
from cnnlab.tracking.console import wide_console
from cnnlab.tracking.run import open_run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnnlab import OpenedRun

HELP = """Score a run on the test images: loss, accuracy, a table of classes, confusion matrix, calibration error.

  python -m cnnlab.evaluate RUN                RUN: a run's directory, or last
  python -m cnnlab.evaluate RUN data=mnist     other images of the same shape
  python -m cnnlab.evaluate RUN data.size=40   other sizes, if accepted
  python -m cnnlab.evaluate RUN evaluation.weights=best    by validation score
  python -m cnnlab.evaluate RUN data.root=DIR trainer.device=cpu
  python -m cnnlab.evaluate RUN trust=mine     a run that uses mine.py

Nothing is written, and nothing is downloaded unless data.download=true is given. The network, its preprocessing and the
data set are those that the run recorded.
"""
KEYS = ("data", "data.root", "data.size", "data.download", "data.classes", "data.source", "evaluation.weights",
        "evaluation.batch_size", "trainer.device", "trainer.threads", "trainer.precision")  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h"))
    if line.options:
        cli.print_help(HELP)
        return 0
    trusted, overrides = trust.split(line.overrides)
    cli.tell_loading("torch and the run")
    run, recorded = open_run(cli.only_one_run(line, "evaluate"), trusted)
    for override in overrides:
        key = override.partition("=")[0]
        if key not in KEYS and not key.startswith("data.source."):
            raise ConfigError(f"{override}: has no effect on the test score; evaluate takes {', '.join(KEYS)}")
    cfg = _with_overrides(recorded, overrides)
    chosen = any(override.startswith("evaluation.weights=") for override in overrides)
    from cnnlab import load

    report(load(run.path, cfg.evaluation.weights if chosen else None, trust=trusted), cfg)
    return 0


def report(opened: "OpenedRun", cfg: Config) -> None:
    """Score an opened run on the data of `cfg`, perhaps not those of its training, and print the tables."""
    from cnnlab.data import load_data
    from cnnlab.opening import require_classes
    from cnnlab.training.runtime import configure
    from cnnlab.training.scoring import calibration_error, outputs_of, require_finite, score
    from cnnlab.training.task import build_task

    runtime = configure(cfg.trainer)
    section, model = _of_size(opened, cfg.data)
    data = load_data(section, cfg.seed, runtime.device)
    recorded = dataclasses.replace(opened.config.data, root=cfg.data.root, download=cfg.data.download)
    if recorded == cfg.data and opened.directory.recorded("data").get("test_digest", data.test_digest) != data.test_digest:
        note("the test images are not those that the run was scored on: pixels or labels changed")
    require_classes(opened, data)
    if opened.classes != (names := tuple(map(str, data.classes))):
        ours, theirs = ((", ".join(few[:3]) + (", ..." if len(few) > 3 else "")) for few in (opened.classes, names))
        note(f"the run's classes are {ours}, the data's {theirs}: they are matched in this order")
    task, model = build_task(cfg.task, data.numbers), model.to(runtime.device)
    cli.tell_waiting("scoring the test images")
    outputs = require_finite(outputs_of(model, data.test, runtime, cfg.evaluation.batch_size, cfg.seed).cpu())
    scored = score(task, outputs, task.targets(data.test.labels))
    predicted, probability = task.predict(outputs)

    console = wide_console()
    name, size = escape(opened.directory.name), f" at {cfg.data.size} x {cfg.data.size}" if cfg.data.size else ""
    console.print(f"{name}\n{opened.weights} weights, on {len(data.test):,} test images of {escape(data.name)}{size}\n")
    console.print(f"[bold]test {task.metric} {scored.value:.4f}  loss {scored.loss:.4f}[/]")
    if probability is None:
        gap = predicted - task.targets(data.test.labels)
        console.print(f"root mean squared error {gap.square().mean().sqrt().item():.4f}, bias {gap.mean().item():+.4f}\n")
        console.print(_error_table(data.test.labels, gap, [str(number) for number in data.numbers]))
        return
    correct = predicted == data.test.labels
    console.print(f"expected calibration error {calibration_error(probability, correct):.4f} (15 bins)\n")
    _print_classes(console, data.test.labels, predicted, data.classes)


def _of_size(opened: "OpenedRun", data: DataConfig) -> "tuple[DataConfig, nn.Module]":
    """Return the data section and the network for images of `data.size`. Image files are decoded to that size; other images are
    resized (bilinear, antialiased) in front of the network.

    Raises:
        GeometryError: the network does not take this size. ConfigError: it does not take images.
    """
    from torch import nn

    channels, *sides = opened.description.input_shape
    if data.size is None:
        return dataclasses.replace(data, shape=[channels, *sides]), opened.model
    if len(sides) != 2:
        shape = " x ".join(map(str, (*sides, channels)))
        raise ConfigError(f"data.size={data.size}: applies to images (height x width x channels); this network takes {shape}")
    opened.require_size(data.size, data.size)
    if "size" in targets.parameters_of(data.source, "data.source"):
        return dataclasses.replace(data, shape=[channels, data.size, data.size]), opened.model
    from torchvision.transforms.v2 import Resize

    resized = nn.Sequential(Resize([data.size, data.size], antialias=True), opened.model)
    return dataclasses.replace(data, shape=[channels, *sides], size=None), resized


def _with_overrides(recorded: Config, overrides: Sequence[str]) -> Config:
    """Return the recorded configuration with overrides; `data=NAME` uses that choice's section with the run's classes."""
    prepare(overrides, composing.groups())
    chosen = [override for override in overrides if override.startswith("data=")]
    section = recorded.data
    if chosen:
        section = composing.typed(composing.compose(chosen)).data
        section = dataclasses.replace(section, classes=recorded.data.classes, validation=0)
    base = dataclasses.replace(recorded, data=dataclasses.replace(section, download=False))
    return composing.with_overrides(base, [override for override in overrides if override not in chosen], to_train=False)


def _print_classes(console: Console, labels: "Tensor", predicted: "Tensor", classes: Sequence[str]) -> None:
    counts = confusion_counts(labels.numpy(), predicted.numpy(), len(classes))
    table = Table("class", box=None, header_style="bold", pad_edge=False)
    for name in ("images", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for index, name in enumerate(classes):
        hits, truly, guessed = (int(n) for n in (counts[index, index], counts[index].sum(), counts[:, index].sum()))
        ratios = [(hits, guessed), (hits, truly), (2 * hits, truly + guessed)]
        table.add_row(escape(name), f"{truly:,}", *(f"{part / whole:.4f}" if whole else "-" for part, whole in ratios))
    console.print(table)
    console.print("\n[bold]Confusion[/]: a row for each class, a column for each prediction")
    matrix = Table("", box=None, header_style="bold", pad_edge=False)
    widest = 4 if console.is_terminal and Console().width < 100 else 6
    for name in classes:
        matrix.add_column(escape(short(name, widest)), justify="right")
    for index, name in enumerate(classes):
        cells = [f"[bold]{n}[/]" if column == index else str(n or "·") for column, n in enumerate(counts[index].tolist())]
        matrix.add_row(escape(name), *cells)
    console.print(matrix)


def _error_table(labels: "Tensor", error: "Tensor", names: Sequence[str]) -> Table:
    table = Table("number", box=None, header_style="bold", pad_edge=False)
    for name in ("images", "mean absolute error", "bias"):
        table.add_column(name, justify="right")
    for index, name in enumerate(names):
        own = error[labels == index]
        if len(own):
            table.add_row(name, f"{len(own):,}", f"{own.abs().mean().item():.4f}", f"{own.mean().item():+.4f}")
    return table


if __name__ == "__main__":
    sys.exit(cli.run("evaluate", sys.argv[1:]))
