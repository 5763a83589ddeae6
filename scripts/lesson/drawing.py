"""How the lessons draw: 1280 x 720 pixels, large type, colors that color-blind people can distinguish.

A large dot is a mean, the line through it the 95 % interval, a small ring a seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.lesson.rules import estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"  # Okabe and Ito 2008
STYLE: Any = {
    "font.size": 17, "axes.titlesize": 20, "axes.titlelocation": "left", "axes.titlepad": 16, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True, "figure.titlesize": 22,
}  # fmt: skip

RING: Any = {"markersize": 7, "markerfacecolor": "white", "markeredgewidth": 1.5, "zorder": 3}

Row = tuple[str, Sequence[float], str]  # label, values, color


def save(figure: "Figure", path: Path, seeds: Sequence[int]) -> None:
    """Write a picture without a date or a version in it. seeds: the fewest and the most over which its means are taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if any(axes.containers for axes in figure.axes):
        many = " to ".join(map(str, dict.fromkeys(seeds)))
        legend = f"dot: mean of {many} seeds, which are the rings   line through it: 95 % interval"
        figure.supxlabel(legend, x=0.99, ha="right", size=15, color="#333333")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def new_figure(columns: int = 1, ratios: Sequence[float] | None = None) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(12.8, 7.2), layout=ConstrainedLayoutEngine(w_pad=0.25, h_pad=0.25))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False, width_ratios=ratios)[0])


def dots(axes: "Axes", rows: Sequence[Row], title: str) -> None:
    """Draw a line for each row, the first on top, with the mean written beside it."""
    for place, (_, values, color) in enumerate(rows):
        found = estimate(values)
        axes.errorbar(found.mean, place, xerr=found.half or 0, fmt="o", color=color, markersize=14, capsize=7, linewidth=3)
        axes.plot(values, [place] * len(values), "o", color=color, **RING)
        words = f"{found.mean:.3f}{'' if len(values) > 1 else ', one seed'}"
        axes.annotate(words, (found.mean, place), (0, 15), textcoords="offset points", ha="center", color=color,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(title)


def curve(axes: "Axes", xs: Sequence[float], series: Sequence[Sequence[float]], color: str, label: str = "") -> None:
    """Draw means with intervals over `xs`, with the label at the right end."""
    found = [estimate(values) for values in series]
    halves = [one.half or 0 for one in found]
    axes.errorbar(xs, [one.mean for one in found], yerr=halves, fmt="o-", color=color, markersize=10, capsize=6, linewidth=3)
    for x, values in zip(xs, series, strict=True):
        axes.plot([x] * len(values), values, "o", color=color, **RING)
    if label:
        axes.annotate(label, (xs[-1], found[-1].mean), (14, 0), textcoords="offset points", color=color, va="center")


def chart(rows: Sequence[Row], title: str, label: str) -> "Figure":
    """Draw one chart of dots."""
    figure, (axes,) = new_figure()
    dots(axes, rows, "")
    axes.set_xlabel(label)
    axes.set_title(title, weight="bold")
    return figure
