"""Class scores at each place of a picture larger than the network's images, and the figure that shows them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from cnnlab.data.pictures import decode_all
from cnnlab.errors import ConfigError, DataError, known_errors, note, printable, short
from cnnlab.models import MLP, ConvNet, Pretrained
from cnnlab.models.pretrained import LARGE
from cnnlab.opening import OpenedRun
from cnnlab.plots import rendered
from cnnlab.tracking.console import folding_console
from cnnlab.tracking.files import write_atomic
from cnnlab.visualization.mosaic import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_PIXELS = 16_000_000  # of a picture: its first maps take gigabytes
MAX_CLASSES = 10  # shown, those with the highest scores
MAX_PEAKS = 100
CLEAR = 0.8  # places whose best class is less probable are blank and are not peaks
MARK = "#d0382c"
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#4477dd", "#d55e00", "#cc79a7", "#aa3377", "#bbbbbb", "#88cc44")


@dataclass(frozen=True)
class ScoreMap:
    """The scores of a picture: logits, float32, K x H' x W'; in a binary task one class's are the negative of the other's.
    names: K. step: pixels between neighboring places; first: center of the first place, (y, x). frame: height and width in
    pixels of a place's frame: a training image if each place was trained to see all of one, otherwise the place."""

    scores: Tensor
    names: tuple[str, ...]
    step: tuple[int, int]
    first: tuple[float, float]
    frame: tuple[int, int]

    @property
    def one_logit(self) -> bool:
        return len(self.names) == 2 and torch.equal(self.scores[0], -self.scores[1])

    @property
    def clear(self) -> Tensor:
        """Where the best class is probable enough to be named, H' x W'."""
        logits = self.scores / 2 if self.one_logit else self.scores  # so that their difference is the one logit
        return logits.softmax(0).amax(0) > CLEAR

    def center(self, row: int, column: int) -> tuple[float, float]:
        """Return the center of a place in the picture: y, x in pixels."""
        return self.first[0] + row * self.step[0], self.first[1] + column * self.step[1]


@dataclass(frozen=True)
class Peak:
    """A place whose best score no neighbor exceeds: the class, its score, the center in pixels."""

    name: str
    score: float
    y: float
    x: float


def require_map(opened: OpenedRun) -> None:
    """Raise ConfigError if the network gives no map of class scores."""
    network = opened.network
    if opened.task.probabilities(torch.zeros(1, opened.task.num_outputs)) is None:
        raise ConfigError(f"--map: {opened.directory.name} predicts a value; expected a run with classes")
    if isinstance(network, MLP) or (isinstance(network, ConvNet) and network.head_kind == "flatten"):
        mend = f"python -m cnnlab.convert {opened.directory.quoted} makes an equivalent network that does"
        raise ConfigError(f"--map: a network with a flatten layer gives no map of scores; {mend}")
    if not isinstance(network, ConvNet | Pretrained):
        what = f"{opened.description.model['_target_']} gives no map of scores"
        raise ConfigError(f"--map: {what}; a ConvNet and most networks of torchvision do")


def score_map(opened: OpenedRun, picture: NDArray[np.uint8]) -> ScoreMap:
    """Compute the scores of a picture, C x H x W.

    Raises:
        ConfigError: the picture is too small or too large, or the network gives no map.
    """
    require_map(opened)
    height, width = picture.shape[1:]
    if height * width > MAX_PIXELS:
        raise ConfigError(f"{height} x {width} (height x width): expected at most {MAX_PIXELS:,} pixels; scale it down")
    opened.require_size(height, width)
    assert isinstance(opened.network, ConvNet | Pretrained)
    with known_errors(), torch.no_grad():
        images = torch.tensor(picture)[None].to(opened.preprocess.mean.device)
        scores = opened.network.logit_map(opened.preprocess(images))[0].float().cpu()
        step = _step(opened.network)
    if len(scores) == 1:
        scores = torch.cat([-scores, scores])
    frame = (
        opened.network.input_shape[1:] if isinstance(opened.network, ConvNet) and opened.network.head_kind == "conv" else step
    )
    first = [
        (side - 1 - (places - 1) * one) / 2 for side, places, one in zip((height, width), scores.shape[1:], step, strict=True)
    ]
    return ScoreMap(scores, opened.classes, step, (first[0], first[1]), (frame[0], frame[1]))


def peaks(found: ScoreMap, window: tuple[int, int]) -> list[Peak]:
    """Return the places whose best score is the largest within three quarters of a `window` (height, width in pixels) on each
    side, best first, without those where no class is clear."""
    best, labels = found.scores.max(0)
    reach = [max(1, 3 * side // (4 * step)) for side, step in zip(window, found.step, strict=True)]
    around = F.max_pool2d(best[None, None], (2 * reach[0] + 1, 2 * reach[1] + 1), 1, (reach[0], reach[1]))[0, 0]
    rows, columns = torch.nonzero((best == around) & found.clear, as_tuple=True)
    order = best[rows, columns].argsort(descending=True)[:MAX_PEAKS]
    places = [(int(rows[index]), int(columns[index])) for index in order]
    return [Peak(found.names[int(labels[at])], float(best[at]), *found.center(*at)) for at in places]


def _step(network: ConvNet | Pretrained) -> tuple[int, int]:
    """Return the pixels between neighboring places: the product of all strides, or measured if branches have strides, too."""
    if isinstance(network, Pretrained):
        blank = torch.zeros(1, 3, *LARGE, device=network.mean.device)
        rows, columns = network.logit_map(blank).shape[2:]
        return ((LARGE[0] - LARGE[1]) // (rows - columns),) * 2
    down = across = 1
    for layer in network.modules():
        if isinstance(layer, _ConvNd | _MaxPoolNd | _AvgPoolNd):
            stride = cast("int | tuple[int, int]", layer.stride)
            rows, columns = stride if isinstance(stride, tuple) else (stride, stride)
            down, across = down * rows, across * columns
    return down, across


def draw(picture: NDArray[np.uint8], found: ScoreMap, marked: list[Peak], title: str, about: str) -> bytes:
    """Draw a PNG: the picture, the best class of each place, and the map of each class; with a single logit, only its map.

    picture: C x H x W. marked: places that are framed and named in it. about: names the run.
    """
    from matplotlib.patches import Rectangle

    shown = found.scores.flatten(1).amax(1).topk(min(MAX_CLASSES, len(found.names))).indices.sort().values.tolist()
    rows = 0 if found.one_logit else -(-len(shown) // 5)
    height = min(picture.shape[1] / picture.shape[2], 1.5)
    figure = new_figure(title, about, 1.2 + 5 * height + rows * 2.3 * height, 11)
    ratios = (5, 2.3 * rows) if rows else (1,)
    parts = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios)
    left, right = parts[0, 0].subplots(1, 2)
    left.imshow(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    left.set_title(f"the picture, {picture.shape[1]} x {picture.shape[2]} (height x width)", fontsize=10)
    for peak in marked:
        corner = (peak.x - found.frame[1] / 2, peak.y - found.frame[0] / 2)
        left.add_patch(Rectangle(corner, found.frame[1], found.frame[0], fill=False, edgecolor=MARK, linewidth=1))
        place, side = (max(corner[0], 0), max(corner[1], 0)), "top" if corner[1] < 0 else "bottom"
        left.annotate(short(peak.name, 16), place, color="white", fontsize=8, va=side, annotation_clip=False,
                      bbox={"boxstyle": "round,pad=0.1", "fc": MARK, "ec": "none"})  # fmt: skip
    if found.one_logit:
        _signed(right, picture, found)
    else:
        _best(right, picture, found, shown)
        _each(parts[1, 0], picture, found, shown)
    return rendered(figure, "png", dpi=100)


def _signed(axes: "Axes", picture: NDArray[np.uint8], found: ScoreMap) -> None:
    """Draw the single logit at each place, above 0 for the second class."""
    limit = float(found.scores.max()) or 1.0
    drawn = axes.imshow(found.scores[1].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, extent=_extent(found))
    _over(axes, picture)
    axes.set_title(f"{found.scores.shape[1]} x {found.scores.shape[2]} places", fontsize=10)
    below, above = (short(name, 20) for name in found.names)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.8, label=f"logit: {above} above 0, {below} below")


def _each(figure: "SubFigure", picture: NDArray[np.uint8], found: ScoreMap, shown: list[int]) -> None:
    """Draw the map of each class."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    least, most = float(found.scores[shown].min()), float(found.scores[shown].max())
    scale = Normalize(max(least, 0) if most > 0 else least, most)  # negative scores are as dark as 0
    grid = figure.subplots(-(-len(shown) // 5), 5, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, shown, strict=False):
        axes.imshow(found.scores[index].numpy(), cmap="magma", norm=scale, extent=_extent(found))
        _over(axes, picture)
        axes.set_title(f"{short(found.names[index], 14)}, up to {found.scores[index].max():.1f}", fontsize=9)
        axes.tick_params(labelsize=7)
    figure.colorbar(ScalarMappable(scale, "magma"), ax=grid, label="logit", shrink=0.8)


def _over(axes: "Axes", picture: NDArray[np.uint8]) -> None:
    """Limit the axes to the picture's sides."""
    axes.set(xlim=(-0.5, picture.shape[2] - 0.5), ylim=(picture.shape[1] - 0.5, -0.5))


def _best(axes: "Axes", picture: NDArray[np.uint8], found: ScoreMap, shown: list[int]) -> None:
    """Draw each place in the color of its best class, stronger for higher scores; blank if no class is clear."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    best, which = found.scores[shown].max(0)
    low, high = float(best.min()), float(best.max())
    strength = (((best - low) / max(high - low, 1e-12)) * found.clear)[..., None].numpy()
    colors = np.array([to_rgb(COLORS[number % len(COLORS)]) for number in range(len(shown))])
    axes.imshow(1 - strength * (1 - colors[which.numpy()]), extent=_extent(found))
    _over(axes, picture)
    places = " x ".join(map(str, found.scores.shape[1:]))
    axes.set_title(f"the best class of {places} places, where its probability is above {CLEAR:g}", fontsize=10)
    keys = [
        Patch(color=COLORS[number % len(COLORS)], label=short(found.names[index], 20)) for number, index in enumerate(shown)
    ]
    axes.legend(handles=keys, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, frameon=False)


def _extent(found: ScoreMap) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of the map in the picture's pixels."""
    (top, left), (down, right) = found.center(0, 0), found.center(*(side - 1 for side in found.scores.shape[1:]))
    return left - found.step[1] / 2, right + found.step[1] / 2, down + found.step[0] / 2, top - found.step[0] / 2


def write_maps(opened: OpenedRun, pictures: Sequence[Path], folder: Path, invert: bool) -> int:
    """Write NAME-map.png for each picture NAME.* into a folder, print what was found where, and return the exit code.

    The folder is created. Pictures of the same name are numbered; maps of an earlier call are replaced, with a note.

    Raises:
        ConfigError: the network gives no map.
    """
    require_map(opened)
    folder.mkdir(parents=True, exist_ok=True)
    shape = opened.description.input_shape
    window, failed, used = (shape[1], shape[2]), 0, Counter[str]()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("map", "class", "logit", "x", "y"):
        table.add_column(head, overflow="fold", justify="left" if head in ("map", "class") else "right")
    for file in pictures:
        (picture,) = decode_all([file], (shape[0], *window), None)
        try:
            if not isinstance(picture, np.ndarray):
                raise DataError(picture.cause)
            shown = 255 - picture if invert else picture
            found = score_map(opened, shown)
        except (ConfigError, DataError) as error:
            note(f"cannot map {file}: {error}")
            failed += 1
            continue
        used[file.stem] += 1
        number = f"_{used[file.stem]}" if used[file.stem] > 1 else ""
        target, marked = folder / f"{file.stem}{number}-map.png", peaks(found, window)
        if target.exists():
            note(f"{target}: replaced the map of an earlier call")
        about = f"{opened.directory.label}, {opened.weights} weights"
        write_atomic(target, draw(shown, found, marked, f"Scores at each place of {file.name}", about))
        table.add_row(printable(str(target)))
        if not marked:
            table.add_row("", f"none above {CLEAR:g}")
        for peak in marked:
            table.add_row("", Text(printable(peak.name)), f"{peak.score:.1f}", f"{peak.x:.0f}", f"{peak.y:.0f}")
    if table.rows:
        folding_console().print(table)
    return 2 if failed else 0
