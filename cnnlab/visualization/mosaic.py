"""Parts of figures: a page with a title, and mosaics, since matplotlib takes a second to lay out a hundred axes."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.errors import printable
from cnnlab.visualization.embedding import as_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[Any]  # H x W, numbers to be colored, or H x W x 3, colors
SIZE = (12.8, 7.2)  # inches
GAP = 0.08  # between the cells of a mosaic, as a share of a cell


def new_figure(title: str, about: str, height: float = SIZE[1], width: float = SIZE[0], scale: float = 1.0) -> "Figure":
    """Create an empty page of height x width inches, times `scale`; the size of the letters does not change."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * scale, height * scale), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(printable(title), int(width * scale * 7)), fontsize=15)
    figure.supxlabel(printable(about), fontsize=9, color="#666666", x=0.99, ha="right")
    return figure


def mosaic(
    axes: "Axes", cells: Sequence[Pixels], names: Sequence[str] | None, columns: int, scale: float = 1.0, **colors: Any
) -> Any:
    """Draw cells of one size in rows, each 1 wide, with their names above; return the last image drawn, for a color bar."""
    from matplotlib.patches import Rectangle

    side, drawn = cells[0].shape[0] / cells[0].shape[1], None
    step = side + (GAP if names is None else label_gap(columns / scale, max(name.count("\n") for name in names)))
    for number, cell in enumerate(cells):
        x, y = number % columns * (1 + GAP), number // columns * step
        drawn = axes.imshow(cell, extent=(x, x + 1, y + side, y), interpolation="nearest", **colors)
        frame = Rectangle((x, y), 1, side, fill=False, edgecolor="#999999", linewidth=0.5, clip_on=False)
        axes.add_patch(frame)  # around white pictures, too
        if names is not None:
            axes.text(x + 0.5, y - 0.02, names[number], ha="center", va="bottom", fontsize=min(11, 96 * scale / columns))
    axes.set(xlim=(0, columns * (1 + GAP) - GAP), ylim=(-(-len(cells) // columns) * step, 0 if names is None else side - step))
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_frame_on(False)
    return drawn


def label_gap(columns: float, more_lines: int = 0) -> float:
    """Return the gap between two rows of a mosaic on a full page, in cell widths: room for the name."""
    return GAP + (0.018 + 0.016 * more_lines) * columns


def columns_for(count: int) -> int:
    """Return the number of columns with which `count` square cells fill the page."""
    return min(count, max(1, math.ceil(math.sqrt(count * 1.9))))


def picture(axes: "Axes", image: Tensor) -> None:
    """Draw an image, C x H x W, without axes."""
    axes.imshow(np.asarray(as_picture(image)), interpolation="nearest")
    axes.set_axis_off()
