"""`python -m cnnlab.summary model=... data=...`: a network layer by layer, before any training. No data file is read."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from rich.markup import escape

from cnnlab import cli, composing
from cnnlab.config.schema import Config
from cnnlab.errors import ConfigError
from cnnlab.tracking import aligned
from cnnlab.tracking.console import Terminal, counted, wide_console

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from cnnlab.models.inspection import Layer

HELP = """Show a network layer by layer, before any training: sizes, parameters, multiplications, receptive fields, memory.

  python -m cnnlab.summary model=lenet data=fashion
  python -m cnnlab.summary model=cats-dogs task=binary \\
      'data.shape=[3,150,150]' data.num_classes=2
  python -m cnnlab.summary model=allconv trainer.batch_size=256 optimizer=sgd
  python -m cnnlab.summary model._target_=torchvision.models.resnet18 \\
      model.num_classes=10 'data.shape=[3,224,224]'

Takes the settings of `python -m cnnlab.train` and --config-dir; data.shape is channels, height, width. Reads no data files.

  --explain           show how each size, count and multiplication is computed
  --wide              all columns, even on a narrow terminal
"""
COLUMNS = ("layer", "kind", "output", "parameters", "counted", "multiplications", "receptive field", "left over")
PLAIN = ("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "Identity")  # no row: no parameters, same shape


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--wide", "--explain"), ("--config-dir", "-cd"))
    if {"--help", "-h"} & set(line.options):
        cli.print_help(HELP)
        return 0
    if line.words:
        raise ConfigError(f"{line.words[0]}: summary takes only KEY=VALUE, such as model=lenet data=fashion")
    cfg = composing.typed(composing.compose(line.overrides, cli.config_directories(line)))
    cli.tell_loading("torch")
    show(cfg, "--wide" in line.options, "--explain" in line.options)
    return 0


def show(cfg: Config, wide: bool = False, explain: bool = False) -> None:
    """Print the table and the totals of the configured network. `wide`: all columns, whatever the terminal's width; `explain`:
    how the numbers are computed, layer by layer."""
    from cnnlab.data import describe
    from cnnlab.models import build_model
    from cnnlab.models.inspection import inspect_network
    from cnnlab.training.groups import freeze
    from cnnlab.training.task import build_task

    input_shape, numbers = describe(cfg.data)
    model, _ = build_model(cfg.model, input_shape, build_task(cfg.task, numbers).num_outputs, cfg.seed)
    freeze(model, cfg.phases[-1].parameters if cfg.phases else cfg.parameters)
    found = inspect_network(model, input_shape, bf16=cfg.trainer.precision == "bf16")
    console = wide_console()
    rows = [("input", "", _shape(input_shape), *[""] * 5), *(_row(layer) for layer in found.layers if layer.kind not in PLAIN)]
    columns = {cells[0]: list(cells) for cells in zip(COLUMNS, *rows, strict=True)}
    limit = Terminal().width if console.is_terminal and not wide else None  # pipes and files get all columns
    dropped = aligned.drop(columns, ("left over", "counted", "kind", "receptive field"), limit)
    heading, *lines = aligned.lines(columns, [name for name in COLUMNS if name not in ("parameters", "multiplications")])
    console.print(f"[bold]{heading}[/]", *map(escape, lines), sep="\n")
    if dropped:
        console.print(f"\nNot shown: {', '.join(reversed(dropped))} (--wide)")
    plain = dict.fromkeys(layer.kind for layer in found.layers if layer.kind in PLAIN)
    if plain:
        console.print(f"\nNot listed: {', '.join(plain)} (no parameters, shape unchanged)")
    past = [layer.name for layer in found.layers if layer.strides_past]
    if past:
        console.print(f"\n{', '.join(past)}: strides over a single pixel: the size stays 1, nothing is halved")
    if explain:
        _explain(console, found.layers)
    batch, total = cfg.trainer.batch_size, sum(layer.multiplications for layer in found.layers)
    statistics = sum(buffer.numel() for buffer in model.buffers() if buffer.is_floating_point())
    beside = f", and {statistics:,} statistics of batch norm, which Keras counts here, too" if statistics else ""
    console.print(f"\n[bold]{found.parameters:,} parameters[/], {total:,} multiplications per image")
    console.print(f"  trainable     {found.trainable:>14,}")
    console.print(f"  non-trainable {found.parameters - found.trainable:>14,}{beside}")
    sizes = {
        "weights": found.parameters * 4,
        "gradients": found.trainable * 4,
        "optimizer": round(found.trainable * 4 * _optimizer_states(cfg, model)),
        f"activations of {batch} images": found.activation_bytes * batch,
    }
    console.print(f"memory to train, {cfg.trainer.precision}: {_mib(sum(sizes.values()))}")
    for name, size in sizes.items():
        console.print(f"  {name:<26}{_mib(size):>12}")
    in_place = (*PLAIN, "Flatten")
    maps = [input_shape, *(layer.output for layer in found.layers if layer.kind not in in_place)]
    two = max((prod(given) + prod(output) for given, output in pairwise(maps)), default=prod(maps[0]))
    predicting = _mib((found.parameters + two) * 4)
    console.print(f"memory to predict one image, fp32: {predicting}")
    console.print("  (weights, and the two largest maps that follow each other)")


def _row(layer: "Layer") -> tuple[str, ...]:
    """Return a layer's cells of COLUMNS."""
    return (
        layer.name,
        layer.kind,
        _shape(layer.output),
        f"{layer.parameters:,}" if layer.parameters else "",
        layer.counted,
        f"{layer.multiplications:,}" if layer.multiplications else "",
        " x ".join(map(str, layer.receptive_field)) if layer.receptive_field else "?",
        _left_over(layer.left_over),
    )


def _explain(console: "Console", layers: "Sequence[Layer]") -> None:
    """Print how sizes, parameters and multiplications are computed, and what a dense layer would cost in place of a
    convolution.

    Sizes: (W - F + 2 P) / S + 1, rounded down; multiplications of a convolution: F x F x D x W' x H' x D'.
    """
    for layer in layers:
        rows = [("size", text) for text in dict.fromkeys(layer.sizing)]
        if layer.counted:
            rows.append(("parameters", f"{layer.counted} = {layer.parameters:,}"))
        if layer.multiplied:
            rows.append(("multiplications", layer.multiplied))
        if layer.dense:
            more, slower = layer.dense / layer.parameters, layer.dense / layer.multiplications
            times = f"{more:,.0f} times the parameters, {slower:,.1f} times the multiplications"
            rows.append(("dense instead", f"{layer.dense:,} weights: {times}"))
        if rows:
            console.print(f"\n[bold]{layer.name}[/] {layer.kind}")
            for name, text in rows:
                console.print(f"  {name:<16} {text}")


def _optimizer_states(cfg: Config, model: "nn.Module") -> float:
    """Return how many numbers the optimizer keeps per trainable parameter, found by one update of a small layer."""
    import torch

    from cnnlab.training.step import build_optimizer

    probe = torch.nn.Linear(64, 64)
    optimizer = build_optimizer(cfg.optimizer, probe, torch.device("cpu"))
    probe(torch.zeros(1, 64)).sum().backward()
    optimizer.step()
    kept = [value.numel() for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(size for size in kept if size > 1) / sum(parameter.numel() for parameter in probe.parameters())


def _shape(shape: tuple[int, ...]) -> str:
    """Write height x width x channels (or other sides first), as the course notes and Keras do."""
    return " x ".join(str(size) for size in (*shape[1:], shape[0]))


def _left_over(spare: tuple[int, ...]) -> str:
    sides = {1: ("step",), 2: ("row", "column"), 3: ("frame", "row", "column")}.get(len(spare), ())
    return ", ".join(counted(count, name) for count, name in zip(spare, sides, strict=False) if count)


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


if __name__ == "__main__":
    sys.exit(cli.run("summary", sys.argv[1:]))
