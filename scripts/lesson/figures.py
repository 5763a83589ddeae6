"""The pictures of the lessons, one function each: 1280 x 720 pixels, large type, colors that the color-blind can tell apart.

A large dot is a mean, its line the 95 % interval, a small ring a seed. The functions take claims whose arms are all measured;
two of them need images, too, and one the network of a run: DataError or CheckpointError where they are not there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnnlab.data import idx
from cnnlab.data.digits import draw
from cnnlab.tracking.run import RunDirectory
from scripts import ledger
from scripts.lesson import sources
from scripts.lesson.claims import Measured, probed, test, train
from scripts.lesson.measure import RUNS
from scripts.lesson.networks import receptive_fields
from scripts.lesson.probes import SHIFTS, side_by_side, trained
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
    """Write a picture without a date or a version in it. seeds: the least and the most that its means are over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if any(axes.containers for axes in figure.axes):
        many = " to ".join(map(str, dict.fromkeys(seeds)))
        legend = f"dot: mean of {many} seeds, which are the rings   line through it: 95 % interval"
        figure.supxlabel(legend, x=0.99, ha="right", size=15, color="#333333")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _figure(columns: int = 1, ratios: Sequence[float] | None = None) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(12.8, 7.2), layout=ConstrainedLayoutEngine(w_pad=0.25, h_pad=0.25))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False, width_ratios=ratios)[0])


def _dots(axes: "Axes", rows: Sequence[Row], title: str) -> None:
    """A line for each row, the first on top, the mean written beside it."""
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


def _curve(axes: "Axes", xs: Sequence[float], series: Sequence[Sequence[float]], color: str, label: str = "") -> None:
    """Means with intervals over `xs`, the label at the right end."""
    found = [estimate(values) for values in series]
    halves = [one.half or 0 for one in found]
    axes.errorbar(xs, [one.mean for one in found], yerr=halves, fmt="o-", color=color, markersize=10, capsize=6, linewidth=3)
    for x, values in zip(xs, series, strict=True):
        axes.plot([x] * len(values), values, "o", color=color, **RING)
    if label:
        axes.annotate(label, (xs[-1], found[-1].mean), (14, 0), textcoords="offset points", color=color, va="center")


def _rows(measured: Measured, colors: Sequence[str]) -> list[Row]:
    """The test accuracies of the arms."""
    names = [arm.name for arm in measured.arms]
    return [(name, measured.values(name), color) for name, color in zip(names, colors, strict=True)]


def _chart(rows: Sequence[Row], title: str, label: str) -> "Figure":
    """One chart of dots."""
    figure, (axes,) = _figure()
    _dots(axes, rows, "")
    axes.set_xlabel(label)
    axes.set_title(title, weight="bold")
    return figure


def shuffled(measured: Measured) -> "Figure":
    root = ledger.configuration("data=fashion").data.root
    pairs = [load(root, False, "FashionMNIST").test for load in (idx.load, sources.shuffled)]
    figure, axes = _figure(3, (1, 1, 2.6))
    for place, split, title in zip(axes, pairs, ("in order", "shuffled"), strict=False):
        place.imshow(split.gather(torch.tensor([0]))[0, 0].numpy(), cmap="gray_r")
        place.set_title(title)
        place.set_axis_off()
    rows = _rows(measured, (BLUE, BLUE, ORANGE, ORANGE))
    _dots(axes[2], [(name.replace(", ", "\n"), values, color) for name, values, color in rows], "test accuracy")
    figure.suptitle("The same 784 pixels in another order", x=0.02, ha="left", weight="bold")
    return figure


def moved(measured: Measured) -> "Figure":
    figure, (axes,) = _figure()
    labels = (("convolutions,\nglobal max pooling", 8, -66), ("convolutions,\nflatten", 6, 14), ("dense", 2, 14))
    for arm, color, (label, place, up) in zip(measured.arms, (BLUE, GREEN, ORANGE), labels, strict=True):
        _curve(axes, list(SHIFTS), [measured.values(arm.name, probed("shift", n)) for n in SHIFTS], color)
        at = sum(measured.values(arm.name, probed("shift", place))) / measured.seeds(arm.name)
        axes.annotate(label, (place, at), (14, up), textcoords="offset points", color=color, va="bottom")
    axes.set(
        xlabel="moved to the right by (pixels)", ylabel="test accuracy", ylim=(-0.04, 1.05), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1]
    )
    axes.set_title("Digits trained in the middle, tested elsewhere", weight="bold")
    return figure


def where(measured: Measured) -> "Figure":
    rows = _rows(measured, (GREEN, GREEN, BLUE, BLUE))
    words = {"what": "which digit?", "where": "which place?"}
    named = [(f"{name.split(', ')[0]}\n{words[name.split(', ')[1]]}", values, color) for name, values, color in rows]
    figure = _chart(named, "A digit in one of nine places: what was found, and where", "test accuracy")
    (axes,) = figure.axes
    axes.axvline(1 / 9, color=GRAY, linestyle="--", linewidth=2)
    axes.annotate("a guess at nine places", (1 / 9, -0.5), (10, 0), textcoords="offset points", color=GRAY, va="center")
    axes.set_xlim(0, 1.06)
    return figure


def fields(measured: Measured) -> "Figure":
    from matplotlib.patches import Rectangle

    figure, (axes,) = _figure()
    image = draw(np.array([5]), np.random.RandomState(23))[0]
    axes.imshow(image, cmap="gray_r", vmax=500)
    axes.add_patch(Rectangle((-0.5, -0.5), 28, 28, fill=False, edgecolor="#bbbbbb", linewidth=2))
    colors = (BLUE, GREEN, ORANGE, PURPLE, "#E69F00", "black", GRAY)
    sides = receptive_fields()
    for number, ((name, side, _), color) in enumerate(zip(sides, colors, strict=True)):
        corner = 13.5 - (side + 1) // 2  # between pixels
        axes.add_patch(Rectangle((corner, corner), side, side, fill=False, edgecolor=color, linewidth=4))
        height = 24 - 3.6 * number  # the widest on top, so that no line crosses another
        text = f"{'convolution' if name.startswith('conv') else 'pooling'} {name.split()[1]}: {side} x {side}"
        line = {"arrowstyle": "-", "color": color, "linewidth": 1.5, "relpos": (0, 0.5), "shrinkB": 0}
        place: Any = {"va": "center", "size": 19, "arrowprops": line, "annotation_clip": False}
        axes.annotate(text, (corner + side, corner), (30.5, height), color=color, **place)
    axes.set_axis_off()
    axes.set_xlim(-0.5, 27.5)
    axes.set_title("What one output of the network maxpool sees of 28 x 28 pixels", weight="bold")
    return figure


def shrinking(measured: Measured) -> "Figure":
    paths = ("32 → 16 → 8 → 4", "32 → 8 → 4", "32 → 4")
    rows = zip(_rows(measured, (BLUE, GREEN, ORANGE)), paths, strict=True)
    named = [(f"{name}\n{path}", values, color) for (name, values, color), path in rows]
    return _chart(named, "From 32 to 4 pixels, with the same parameters", "test accuracy, CIFAR-10")


def pool_or_stride(measured: Measured) -> "Figure":
    words = {"maxpool": "max pooling", "strided": "strides", "conv7": "large kernels"}
    rows = []
    for name, values, color in _rows(measured, (BLUE, GREEN, ORANGE) * 2):
        kind, _, full = name.partition(",")
        rows.append((f"{words[kind]}\n{'full size, 60,000 images' if full else 'a quarter, 10,000 images'}", values, color))
    return _chart(rows, "Pooling, strides, or large kernels", "test accuracy, Fashion-MNIST")


def mosaic(measured: Measured) -> "Figure":
    """Nine test digits, and the class scores at every place."""
    opened, data = trained(RunDirectory(RUNS / f"{measured.arms[0].recipe}-0"))
    picture = side_by_side(data.test.gather(torch.arange(9)))
    with torch.no_grad():
        scores = opened.network.logit_map(opened.preprocess(picture))[0].softmax(0)  # type: ignore[operator]
    figure, axes = _figure(2)
    axes[0].imshow(picture[0, 0].numpy(), cmap="gray_r")
    axes[0].set_title("84 x 84 pixels")
    axes[1].imshow(scores.amax(0).numpy(), cmap="Blues", vmin=0, vmax=2)
    for row in range(scores.shape[1]):
        for column in range(scores.shape[2]):
            style: Any = {"size": 12, "color": "#333333"}
            if row % 7 == 0 and column % 7 == 0:  # where a digit stands
                right = scores[:, row, column].argmax() == data.test.labels[row // 7 * 3 + column // 7]
                box = {"facecolor": "white", "edgecolor": GREEN if right else ORANGE, "linewidth": 3}
                style = {"size": 20, "weight": "bold", "bbox": box}
            axes[1].text(column, row, str(int(scores[:, row, column].argmax())), ha="center", va="center", **style)
    axes[1].set_title("15 x 15 answers; at the digits\ngreen is right, orange wrong")
    for one in axes:
        one.set_axis_off()
    figure.suptitle("Trained on single digits, shown nine at once", x=0.02, ha="left", weight="bold")
    return figure


def harder(measured: Measured) -> "Figure":
    rows = zip(("MNIST", "Fashion-MNIST", "CIFAR-10"), _rows(measured, (BLUE, GREEN, ORANGE)), strict=True)
    return _chart([(name, values, color) for name, (_, values, color) in rows], "LeNet on 10,000 images", "test accuracy")


def deeper(measured: Measured) -> "Figure":
    label = "hidden layers (7: after 250 epochs, the others after 50)"
    return _by_depth(measured, (2, 3, 5, 7), "Layers of 128 sigmoid units, Fashion-MNIST", label)


def overfits(measured: Measured) -> "Figure":
    return _by_depth(measured, (1, 2, 5), "Layers of 128 ReLU units, CIFAR-10", "hidden layers")


def _by_depth(measured: Measured, depths: Sequence[int], title: str, label: str) -> "Figure":
    names = [arm.name for arm in measured.arms]
    figure, (axes,) = _figure()
    for of, color, part in ((train, ORANGE, "training"), (test, BLUE, "test")):
        _curve(axes, depths, [measured.values(name, of) for name in names], color, part)
    axes.set(xlabel=label, ylabel="accuracy", xticks=depths, xlim=(depths[0] - 0.3, depths[-1] + 1))
    axes.set_title(title, weight="bold")
    return figure


def fewer(measured: Measured) -> "Figure":
    names = [arm.name for arm in measured.arms]
    figure, axes = _figure(2)
    for place, data, title in zip(axes, ("mnist", "fashion"), ("MNIST", "Fashion-MNIST"), strict=True):
        for kind, color in (("convnet", BLUE), ("dense", ORANGE)):
            chosen = [name for name in names if name.startswith(f"{data}, {kind}")]
            sizes = [float(measured.entries[name][0]["parameters"]) for name in chosen]
            _curve(place, sizes, [measured.values(name) for name in chosen], color)
            at = 0 if kind == "convnet" else 1
            height = sum(measured.values(chosen[at])) / measured.seeds(chosen[at])
            away = (14, -8) if kind == "convnet" else (16, -34)
            place.annotate(kind, (sizes[at], height), away, textcoords="offset points", color=color)
        place.set(xscale="log", xlabel="parameters", title=title)
    axes[0].set_ylabel("test accuracy")
    figure.suptitle("Accuracy and parameters, 10,000 training images", x=0.02, ha="left", weight="bold")
    return figure


def grow(measured: Measured) -> "Figure":
    rows = _rows(measured, (BLUE, BLUE, BLUE, GREEN, GREEN, GREEN))
    named = [(name.replace(": ", ", kernels of 3\n"), values, color) for name, values, color in rows]
    return _chart(named, "Four convolutions, about 15,000 parameters", "test accuracy, Fashion-MNIST")


def dropout(measured: Measured) -> "Figure":
    figure, axes = _figure(3)
    titles = {"fashion": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar10 at full size": "CIFAR-10, full size"}
    for place, (data, title) in zip(axes, titles.items(), strict=True):
        rows = [(f"{what},\n{word}", measured.values(f"{data}, {name}", of), color)
                for what, of, color in (("training", train, ORANGE), ("test", test, BLUE))
                for name, word in (("without", "no dropout"), ("0.2", "dropout"))]  # fmt: skip
        _dots(place, rows, title)
        place.set_xlabel("accuracy")
        if place is not axes[0]:
            place.set_yticklabels([])
    figure.suptitle("Dropout of 0.2 between convolutions", x=0.02, ha="left", weight="bold")
    return figure
