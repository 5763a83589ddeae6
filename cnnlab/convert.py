"""`python -m cnnlab.convert RUN`: replace a trained network's flatten and dense layers by equivalent convolutions."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlab import cli
from cnnlab.config import trust
from cnnlab.errors import ConfigError, known_errors
from cnnlab.tracking.console import wide_console
from cnnlab.tracking.files import make_directory, sync_directory
from cnnlab.tracking.run import RunDirectory, find_run

if TYPE_CHECKING:
    from cnnlab import OpenedRun

HELP = """Turn a trained network with flatten and dense layers into an equal one made of convolutions.

  python -m cnnlab.convert RUN                 into a run beside it, RUN-conv
  python -m cnnlab.convert RUN --output DIR    into DIR
  python -m cnnlab.convert RUN evaluation.weights=best data.root=DIR

RUN is the directory of a run, or last. The first dense layer becomes a convolution
as large as the maps before it, the others 1 x 1 convolutions: the same weights, the
same logits for images of its own size, a map of logits for larger ones. The new run
can be evaluated, used to predict and exported like any other, but not resumed.
"""
KEYS = ("data.root", "evaluation.weights")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h"), ("--output",))
    if {"--help", "-h"} & set(line.options):
        cli.print_help(HELP)
        return 0
    trusted, overrides = trust.split(line.overrides)
    settings = cli.settings(overrides, KEYS, "convert")
    run = RunDirectory(find_run(cli.only_one_run(line, "convert")))
    output = Path(line.options.get("--output") or f"{run.name}-conv")
    if output.exists():
        raise ConfigError(f"{output}: already exists; choose another name with --output DIR")
    cli.tell_loading("torch and the run")
    from cnnlab import load

    opened = load(run.path, settings.get("evaluation.weights"), trust=trusted)
    with known_errors():
        convert(opened, output, settings.get("data.root"))
    return 0


def convert(opened: "OpenedRun", output: Path, root: str | None = None) -> None:
    """Write the run of the converted network and print a summary; `root`: where the run's data is now.

    Raises:
        ConfigError: the network cannot be converted. ExportError: the converted one gives different outputs.
    """
    from torch import nn

    from cnnlab.exporting import images
    from cnnlab.exporting.agreement import agreement, outputs_of
    from cnnlab.models import build_model
    from cnnlab.models.convolutional import as_convolutions
    from cnnlab.training.checkpoint import save_weights

    told = opened.description
    section, weights = as_convolutions(told.model, opened.network, told.input_shape)
    network, _ = build_model(section, told.input_shape, opened.task.num_outputs, opened.config.seed)
    network.load_state_dict(weights)
    data, whence = images.compared_on(opened, root)
    cli.tell_waiting(f"comparing on {whence}")
    ours = outputs_of(opened.model, images.test_batches(opened, data))
    converted = nn.Sequential(told.preprocess(), network.eval())
    found = agreement(opened.task, ours, outputs_of(converted, images.test_batches(opened, data)))
    found.require("the converted network")
    cfg = dataclasses.replace(opened.config, model=section)
    record = {"converted_from": opened.directory.name, "data": opened.directory.recorded("data")}
    part = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:  # all of it under another name, so that a kill leaves no half of a run
        make_directory(part)
        begun = RunDirectory(part)
        save_weights(begun.last, network, dataclasses.replace(told, model=section))
        begun.begin(cfg, record)
        part.rename(output)
        sync_directory(output.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    made, console = RunDirectory(output), wide_console()
    count = sum(parameter.numel() for parameter in network.parameters())
    console.print(f"{made.name}: {count:,} parameters, as before", markup=False)
    console.print(f"checked on {found.images:,} {whence}: {found}", markup=False)
    if len(told.input_shape) != 3:  # not images
        return
    larger = 3 * max(told.input_shape[1:]) // 2  # the converted layers do not fit images smaller than in training
    console.print(f"\nscore larger images   python -m cnnlab.evaluate {made.quoted} data.size={larger}", markup=False)
    console.print(f"map a larger picture  python -m cnnlab.predict {made.quoted} picture.png --map", markup=False)


if __name__ == "__main__":
    sys.exit(cli.run("convert", sys.argv[1:]))
