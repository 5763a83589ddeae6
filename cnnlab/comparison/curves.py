"""Learning curves of configurations, drawn by matplotlib without its global state."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cnnlab.comparison import columns, presentation
from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.tables import Table
from cnnlab.errors import CheckpointError, ConfigError, short
from cnnlab.plots import COLORS, GRAY, plain_axes, rendered
from cnnlab.tracking import files
from cnnlab.tracking.records import Epoch
from cnnlab.tracking.run import RunDirectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

BAND = "line: mean over the seeds, band: lowest to highest seed"
LONGEST_LABEL = 400  # characters
FORMATS = (".png", ".svg", ".pdf")
PARTS: dict[str, Any] = {
    "validation": "-",
    "test": "--",
    "train": ":",
}  # the score drawn (the first of these that was recorded) and its line style


@dataclass(frozen=True)
class Curve:
    """The score after each epoch: mean, lowest and highest over the seeds. part: the split."""

    part: str
    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Line:
    """A curve as drawn. label: empty for gray lines; n: the number of seeds."""

    curve: Curve
    n: int
    color: str
    label: str


def read_curve(row: Configuration) -> Curve | None:
    """Read the curve of a configuration, up to the last epoch that all seeds reached; None if nothing was recorded."""
    histories = [_history(run.directory) for run in row.runs]
    for part in PARTS:
        seeds = [
            {epoch.epoch: score.value for epoch in history if (score := epoch.scores.get(part)) and isfinite(score.value)}
            for history in histories
        ]
        epochs = sorted(set.intersection(*map(set, seeds)))
        if epochs:
            scores = [[seed[epoch] for seed in seeds] for epoch in epochs]
            return Curve(part, epochs, [*map(fmean, scores)], [*map(min, scores)], [*map(max, scores)])
    return None


def lines_of(table: Table) -> list[Line]:
    """Return the curves of a table, in the order of its rows: the first in color, with a label, the others gray."""
    found = [(row, curve) for row in table.rows if (curve := read_curve(row)) is not None]
    lines = []
    for rank, (row, curve) in enumerate(found):
        if rank >= len(COLORS):
            lines.append(Line(curve, row.n, GRAY, ""))
            continue
        seeds = f"n = {row.n}" if row.n > 1 else ""
        other = f"{curve.part} {table.metric}" if curve.part != found[0][1].part else ""
        label = ", ".join(filter(None, (columns.label(row.runs[0], table.columns), seeds, other)))
        lines.append(Line(curve, row.n, COLORS[rank], label))
    return lines


def others(lines: Sequence[Line]) -> str:
    """Return the legend's text for the gray lines, "" without any."""
    count = sum(line.color == GRAY for line in lines)
    return f"the other {count:,}" if count > 1 else "the last one" if count else ""


def save(path: Path, made: Sequence[Table]) -> None:
    """Draw a panel for each table, one below the other; the file's suffix, one of FORMATS, says in which format.

    Raises:
        ConfigError: nothing to draw.
    """
    if not made:
        raise ConfigError(f"--plot {path}: no run with a score, so there is nothing to draw")
    from matplotlib.figure import Figure

    drawn = [lines_of(table) for table in made]
    legends = [_legend(lines) for lines in drawn]
    heights = [3.6 + 0.2 * sum(label.count("\n") + 1 for _, label in legend) for legend in legends]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    panels = figure.subplots(len(made), squeeze=False, height_ratios=heights)[:, 0]
    for axes, table, lines, legend in zip(panels, made, drawn, legends, strict=True):
        _panel(axes, table, lines, "black")
        name = _folded(presentation.title(table)) if len(made) > 1 else table.measured_on.data
        axes.set_title(f"{name}{'; ' + BAND if has_band(lines) else ''}", loc="left", fontsize=9)
        if len(table.rows) > 1 and legend:
            handles, labels = zip(*legend, strict=True)
            axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, -0.16), frameon=False, fontsize=8)
    form = path.suffix.lower().lstrip(".")
    files.write_atomic(path, rendered(figure, form, dpi=150, transparent=form == "svg"))


def svg(table: Table, lines: Sequence[Line], ink: str) -> str:
    """Draw the curves of a table as an SVG element without a legend, its text as paths; text and axes in the color `ink`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    _panel(figure.subplots(), table, lines, ink)
    drawing = rendered(figure, "svg", transparent=True).decode()
    return drawing[drawing.index("<svg") :]


def _panel(axes: "Axes", table: Table, lines: Sequence[Line], ink: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for line in reversed(lines):  # the best on top
        curve, gray = line.curve, line.color == GRAY
        marker = "o" if len(curve.epochs) == 1 else ""
        axes.plot(curve.epochs, curve.mean, PARTS[curve.part], color=line.color, linewidth=0.6 if gray else 1.8, marker=marker)
        if line.n > 1 and not gray:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=line.color, alpha=0.18, linewidth=0)
    axes.set_xlabel("epoch", color=ink)
    axes.set_ylabel(f"{lines[0].curve.part if lines else 'validation'} {table.metric}", color=ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_axes(axes, ink)


def _folded(label: str) -> str:
    return textwrap.fill(short(label, LONGEST_LABEL), 95)


def _legend(lines: Sequence[Line]) -> "list[tuple[Line2D, str]]":
    from matplotlib.lines import Line2D

    entries = [
        (Line2D([], [], color=line.color, linestyle=PARTS[line.curve.part], linewidth=1.8), _folded(line.label))
        for line in lines
        if line.label
    ]
    return entries + ([(Line2D([], [], color=GRAY, linewidth=0.6), others(lines))] if others(lines) else [])


def has_band(lines: Sequence[Line]) -> bool:
    return any(line.n > 1 for line in lines)


def _history(directory: RunDirectory) -> list[Epoch]:
    """Return the epochs of a run, none if its metrics are damaged."""
    try:
        return directory.read_epochs()
    except CheckpointError:
        return []
