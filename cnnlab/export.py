"""`python -m cnnlab.export RUN --to onnx|torch|safetensors`: a run's network as a file for other programs."""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from cnnlab import cli
from cnnlab.config import trust
from cnnlab.errors import ConfigError, known_errors, printable
from cnnlab.tracking import files
from cnnlab.tracking.console import wide_console
from cnnlab.tracking.run import RunDirectory, find_run

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlab import OpenedRun
    from cnnlab.data import DataSet
    from cnnlab.exporting import Runner
    from cnnlab.training.task import Task

HELP = """Write a run's network as one file for other programs, including preprocessing and class names.

  python -m cnnlab.export RUN --to onnx          for onnxruntime and many others
  python -m cnnlab.export RUN --to torch         torch.export's .pt2, without cnnlab
  python -m cnnlab.export RUN --to safetensors   the bare weights
  python -m cnnlab.export RUN --to onnx --int8   8 bits, a quarter of the size
  python -m cnnlab.export RUN --output net.onnx  default: RUN/model.onnx
  python -m cnnlab.export RUN --overwrite        replace an existing file
  python -m cnnlab.export RUN evaluation.weights=best data.root=DIR
  python -m cnnlab.export RUN trust=mine         a run that uses mine.py

RUN is the directory of a run, or last. The file takes uint8 images, N x C x H x
W, any number of them, of any size if the network allows it, and returns logits.
Before it is written, it is compared with the run's network on all test images; if
one of them gets another class, nothing is written. See docs/EXPORTING.md.
"""
PROGRAMS = {"onnx": "onnxruntime", "torch": "torch.export", "safetensors": "its weights"}
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
KEYS = ("data.root", "evaluation.weights")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--int8", "--overwrite"), ("--to", "--output"))
    if {"--help", "-h"} & set(line.options):
        cli.print_help(HELP)
        return 0
    trusted, overrides = trust.split(line.overrides)
    settings = cli.settings(overrides, KEYS, "export")
    to, int8 = line.options.get("--to") or "onnx", "--int8" in line.options
    if to not in SUFFIXES:
        raise ConfigError(f"--to {to}: expected one of {', '.join(SUFFIXES)}")
    if int8 and to != "onnx":
        raise ConfigError(f"--int8: only for --to onnx, not for {to}")
    run = RunDirectory(find_run(cli.only_one_run(line, "export")))
    name = line.options.get("--output") or str(Path(run.name, f"model{'-int8' if int8 else ''}{SUFFIXES[to]}"))
    _check_output(Path(name), SUFFIXES[to], run, "--overwrite" in line.options)
    cli.tell_loading("torch and the run")
    tempfile.gettempdir()  # raises if there is no room in any, of which the exporters of torch would say something else
    from cnnlab import load

    opened = load(run.path, settings.get("evaluation.weights"), trust=trusted)
    with known_errors():
        export(opened, to, Path(name), int8, settings.get("data.root"))
    return 0


def export(opened: "OpenedRun", to: str, output: Path, int8: bool = False, root: str | None = None) -> None:
    """Write the file and print a summary.

    Args:
        to: a key of SUFFIXES. int8: quantize the network. root: where the run's data is now.

    Raises:
        ExportError: the network cannot be exported, or the file gives different outputs. ConfigError: int8 without the run's
            data, or a package that is not installed.
    """
    from cnnlab.exporting import formats, images
    from cnnlab.exporting.agreement import agreement, outputs_of

    data, whence = images.compared_on(opened, root)
    if int8 and data is None:
        raise ConfigError(
            f"--int8: calibration needs training images, but there are only {whence}; data.root=DIR says where they are"
        )
    cli.tell_waiting(f"writing {to}")
    made = formats.serialize(opened, to, images.dtype_of(data))
    content, exported = made.content, formats.read(opened, to, made.content)
    cli.tell_waiting(f"running the network on {whence}")
    ours = outputs_of(opened.model, images.test_batches(opened, data))
    cli.tell_waiting("running the file, comparing")
    found = agreement(opened.task, ours, outputs_of(exported, images.test_batches(opened, data)))
    found.require(f"--to {to}: the file")
    if made.any_size:
        others = list(images.of_sizes(opened, formats.other_sizes(opened), images.dtype_of(data)))
        of_others = agreement(opened.task, *(outputs_of(one, others) for one in (opened.model, exported)))
        of_others.require(f"--to {to}: for images of other sizes the file")
    checked = f"on {found.images:,} {whence}: {found}"
    told = [("takes", made.facts["input"]), ("gives", made.facts["output"]), ("checked", checked)]
    rows: dict[str, tuple[Runner, int]] = {"the run, torch": (opened.model, 0), PROGRAMS[to]: (exported, len(content))}
    if int8 and data:
        from cnnlab.exporting.int8 import count_quantized, quantize

        calibrated = f"calibrated on {min(images.NUM_CALIBRATION, len(data.train))} training images"
        cli.tell_waiting(f"quantizing, {calibrated}")
        content = quantize(made.content, images.calibration_batches(data))
        quantized = formats.read(opened, to, content)
        rows["onnxruntime, int8"] = (quantized, len(content))
        count, layers = count_quantized(made.content, content)
        cli.tell_waiting("running the quantized file")
        told.append(("int8", f"{count} of {layers} layers in integers, {calibrated}"))
        told.append(("", _cost(opened.task, ours, outputs_of(quantized, images.test_batches(opened, data)), data)))
    files.write_atomic(output, content)
    cli.tell_waiting("measuring times")
    _print(output, told, rows, next(images.test_batches(opened, data)))


def _check_output(output: Path, suffix: str, run: RunDirectory, overwrite: bool) -> None:
    """Raise ConfigError, before anything is loaded, if the file cannot be written."""
    if output.suffix.lower() != suffix:
        raise ConfigError(f"--output {output}: expected a name that ends in {suffix}")
    if output.is_dir() or not output.parent.is_dir():
        raise ConfigError(f"--output {output}: {'a directory' if output.is_dir() else f'no such directory: {output.parent}'}")
    if output.resolve() in [own.resolve() for own in (run.last, run.best, run.predictions)]:
        raise ConfigError(f"--output {output}: is a file of the run itself; choose another name")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: already exists; add --overwrite, or choose another name with --output FILE")


def _cost(task: "Task", ours: "Tensor", theirs: "Tensor", data: "DataSet") -> str:
    """Describe what quantization costs on the test images, given the outputs before and after."""
    targets = task.targets(data.test.labels)
    before, after = (task.score(outputs, targets).item() / len(targets) for outputs in (ours, theirs))
    (said, probability), (other, _) = task.predict(ours), task.predict(theirs)
    changed = f"another class for {int((said != other).sum()):,}" if probability is not None else "other values for all"
    return f"{changed} of {len(targets):,} test images; {task.metric} {after:.4f}, was {before:.4f}"


def _print(output: Path, told: list[tuple[str, str]], rows: "dict[str, tuple[Runner, int]]", batch: "Tensor") -> None:
    console = wide_console()
    console.print(printable(str(output)), markup=False)
    for name, text in told:
        console.print(f"{name:<8} {printable(text)}", markup=False)
    table = Table("", "size", "1 image", f"{len(batch)} images", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (runner, size) in rows.items():
        times = (f"{latency_ms(runner, batch[:count]):.2f} ms" for count in (1, len(batch)))
        table.add_row(name, f"{size / 1024:,.1f} KiB" if size else "", *times)
    console.print()
    console.print(table)


def latency_ms(runner: "Runner", images: "Tensor") -> float:
    """Return the median time of a call in ms, over 20 calls or about a second, after one call to warm up."""
    import torch

    taken: list[float] = []
    with torch.no_grad():
        runner(images)
        while len(taken) < 20 and sum(taken) < 1000:
            began = time.perf_counter()
            runner(images)
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(cli.run("export", sys.argv[1:]))
