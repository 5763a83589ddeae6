"""The pictures of the lessons, one function each.

The functions take claims whose arms are all measured. Two of them also need images and one the network of a run, and raise
DataError or CheckpointError without these.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnnlab.data import idx
from cnnlab.data.digits import draw
from cnnlab.tracking.run import RunDirectory
from scripts import ledger
from scripts.lesson import sources
from scripts.lesson.claims import Measured, probed, test, train
from scripts.lesson.drawing import BLUE, GRAY, GREEN, ORANGE, PURPLE, Row, chart, curve, dots, new_figure
from scripts.lesson.measure import RUNS
from scripts.lesson.networks import receptive_fields
from scripts.lesson.probes import SHIFTS, SIZES, side_by_side, trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scored_rows(measured: Measured, colors: Sequence[str]) -> list[Row]:
    """Return the test accuracies of the arms."""
    names = [arm.name for arm in measured.arms]
    return [(name, measured.values(name), color) for name, color in zip(names, colors, strict=True)]


def shuffled(measured: Measured) -> "Figure":
    root = ledger.configuration("data=fashion").data.root
    pairs = [load(root, False, "FashionMNIST").test for load in (idx.load, sources.shuffled)]
    figure, axes = new_figure(3, (1, 1, 2.6))
    for place, split, title in zip(axes, pairs, ("in order", "shuffled"), strict=False):
        place.imshow(split.gather(torch.tensor([0]))[0, 0].numpy(), cmap="gray_r")
        place.set_title(title)
        place.set_axis_off()
    rows = scored_rows(measured, (BLUE, BLUE, ORANGE, ORANGE))
    dots(axes[2], [(name.replace(", ", "\n"), values, color) for name, values, color in rows], "test accuracy")
    figure.suptitle("The same 784 pixels in another order", x=0.02, ha="left", weight="bold")
    return figure


def moved(measured: Measured) -> "Figure":
    figure, (axes,) = new_figure()
    labels = (("convolutions,\nglobal max pooling", 8, -66), ("convolutions,\nflatten", 6, 14), ("dense", 2, 14))
    for arm, color, (label, place, up) in zip(measured.arms, (BLUE, GREEN, ORANGE), labels, strict=True):
        curve(axes, list(SHIFTS), [measured.values(arm.name, probed("shift", n)) for n in SHIFTS], color)
        at = sum(measured.values(arm.name, probed("shift", place))) / measured.seeds(arm.name)
        axes.annotate(label, (place, at), (14, up), textcoords="offset points", color=color, va="bottom")
    axes.set(
        xlabel="moved to the right by (pixels)", ylabel="test accuracy", ylim=(-0.04, 1.05), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1]
    )
    axes.set_title("Digits trained in the middle, tested elsewhere", weight="bold")
    return figure


def where(measured: Measured) -> "Figure":
    rows = scored_rows(measured, (GREEN, GREEN, BLUE, BLUE))
    words = {"what": "which digit?", "where": "which place?"}
    named = [(f"{name.split(', ')[0]}\n{words[name.split(', ')[1]]}", values, color) for name, values, color in rows]
    figure = chart(named, "A digit in one of nine places: what was found, and where", "test accuracy")
    (axes,) = figure.axes
    axes.axvline(1 / 9, color=GRAY, linestyle="--", linewidth=2)
    axes.annotate("a guess at nine places", (1 / 9, -0.5), (10, 0), textcoords="offset points", color=GRAY, va="center")
    axes.set_xlim(0, 1.06)
    return figure


def fields(measured: Measured) -> "Figure":
    from matplotlib.patches import Rectangle

    figure, (axes,) = new_figure()
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
    paths = ("32 → 16 → 8 → 4", "32 → 8 → 4", "32 → 4", "32 throughout", "32 → 28 → ... → 8")
    rows = zip(scored_rows(measured, (BLUE, GREEN, ORANGE, PURPLE, GRAY)), paths, strict=True)
    named = [(f"{name}\n{path}", values, color) for (name, values, color), path in rows]
    return chart(named, "From 32 to 4 pixels; 5 x 5 kernels with padding and without", "test accuracy, CIFAR-10")


def pool_or_stride(measured: Measured) -> "Figure":
    words = {"maxpool": "max pooling", "strided": "strides", "conv7": "large kernels"}
    rows = []
    for name, values, color in scored_rows(measured, (BLUE, GREEN, ORANGE) * 2):
        kind, _, full = name.partition(",")
        rows.append((f"{words[kind]}\n{'full size, 60,000 images' if full else 'a quarter, 10,000 images'}", values, color))
    return chart(rows, "Pooling, strides, or large kernels", "test accuracy, Fashion-MNIST")


def mosaic(measured: Measured) -> "Figure":
    """Draw nine test digits, and the class scores at every place."""
    opened, data = trained(RunDirectory(RUNS / f"{measured.arms[0].recipe}-0"))
    picture = side_by_side(data.test.gather(torch.arange(9)))
    with torch.no_grad():
        scores = opened.network.logit_map(opened.preprocess(picture))[0].softmax(0)  # type: ignore[operator]
    figure, axes = new_figure(2)
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
    rows = zip(("MNIST", "Fashion-MNIST", "CIFAR-10"), scored_rows(measured, (BLUE, GREEN, ORANGE)), strict=True)
    return chart([(name, values, color) for name, (_, values, color) in rows], "LeNet on 10,000 images", "test accuracy")


def deeper(measured: Measured) -> "Figure":
    label = "hidden layers (7: after 250 epochs, the others after 50)"
    return _by_depth(measured, (2, 3, 5, 7), "Layers of 128 sigmoid units, Fashion-MNIST", label)


def overfits(measured: Measured) -> "Figure":
    return _by_depth(measured, (1, 2, 5), "Layers of 128 ReLU units, CIFAR-10", "hidden layers")


def _by_depth(measured: Measured, depths: Sequence[int], title: str, label: str) -> "Figure":
    names = [arm.name for arm in measured.arms]
    figure, (axes,) = new_figure()
    for of, color, part in ((train, ORANGE, "training"), (test, BLUE, "test")):
        curve(axes, depths, [measured.values(name, of) for name in names], color, part)
    axes.set(xlabel=label, ylabel="accuracy", xticks=depths, xlim=(depths[0] - 0.3, depths[-1] + 1))
    axes.set_title(title, weight="bold")
    return figure


def fewer(measured: Measured) -> "Figure":
    names = [arm.name for arm in measured.arms]
    figure, axes = new_figure(2)
    for place, data, title in zip(axes, ("mnist", "fashion"), ("MNIST", "Fashion-MNIST"), strict=True):
        for kind, color in (("convnet", BLUE), ("dense", ORANGE)):
            chosen = [name for name in names if name.startswith(f"{data}, {kind}")]
            sizes = [float(measured.entries[name][0]["parameters"]) for name in chosen]
            curve(place, sizes, [measured.values(name) for name in chosen], color)
            at = 0 if kind == "convnet" else 1
            height = sum(measured.values(chosen[at])) / measured.seeds(chosen[at])
            away = (14, -8) if kind == "convnet" else (16, -34)
            place.annotate(kind, (sizes[at], height), away, textcoords="offset points", color=color)
        place.set(xscale="log", xlabel="parameters", title=title)
    axes[0].set_ylabel("test accuracy")
    figure.suptitle("Accuracy and parameters, 10,000 training images", x=0.02, ha="left", weight="bold")
    return figure


def grow(measured: Measured) -> "Figure":
    rows = scored_rows(measured, (BLUE, BLUE, BLUE, GREEN, GREEN, GREEN))
    named = [(name.replace(": ", ", kernels of 3\n"), values, color) for name, values, color in rows]
    return chart(named, "Four convolutions, about 15,000 parameters", "test accuracy, Fashion-MNIST")


def dropout(measured: Measured) -> "Figure":
    figure, axes = new_figure(3)
    titles = {"fashion": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar10 at full size": "CIFAR-10, full size"}
    for place, (data, title) in zip(axes, titles.items(), strict=True):
        rows = [(f"{what},\n{word}", measured.values(f"{data}, {name}", of), color)
                for what, of, color in (("training", train, ORANGE), ("test", test, BLUE))
                for name, word in (("without", "no dropout"), ("0.2", "dropout"))]  # fmt: skip
        dots(place, rows, title)
        place.set_xlabel("accuracy")
        if place is not axes[0]:
            place.set_yticklabels([])
    figure.suptitle("Dropout of 0.2 between convolutions", x=0.02, ha="left", weight="bold")
    return figure


def other_sizes(measured: Measured) -> "Figure":
    figure, (axes,) = new_figure()
    name = measured.arms[0].name
    curve(axes, SIZES, [measured.values(name, probed("resized", size)) for size in SIZES], BLUE)
    axes.axvline(32, color=GRAY, linestyle="--", linewidth=2)
    axes.annotate("trained at 32", (32, 0), (10, 10), textcoords="offset points", color=GRAY)
    axes.axhline(0.1, color=GRAY, linestyle=":", linewidth=2)
    axes.annotate("a guess", (64, 0.1), (0, 8), textcoords="offset points", color=GRAY, ha="right")
    axes.set(xlabel="pixels a side", ylabel="test accuracy", ylim=(0, None), xticks=SIZES)
    axes.set_title("One network with global max pooling, CIFAR-10 resized to other sizes", weight="bold")
    return figure


def average_or_max(measured: Measured) -> "Figure":
    return _in_two_data_sets(measured, "Pooling by the maximum or the average", "pooling")


def alike(measured: Measured) -> "Figure":
    return _in_two_data_sets(measured, "The same network with strides and without")


def _in_two_data_sets(measured: Measured, title: str, unit: str = "") -> "Figure":
    titles = {"fashion": "Fashion-MNIST", "cifar10": "CIFAR-10"}
    rows = []
    for name, values, color in scored_rows(measured, (BLUE, BLUE, ORANGE, ORANGE)):
        data, _, kind = name.partition(", ")
        rows.append((f"{titles[data]}\n{kind} {unit}".rstrip(), values, color))
    return chart(rows, title, "test accuracy")


def dense(measured: Measured) -> "Figure":
    words = {"sigmoid": "sigmoid", "relu": "ReLU", "sgd": "SGD", "adam": "Adam"}
    rows = [
        (", ".join(words[part] for part in name.split(", ")), values, color)
        for name, values, color in scored_rows(measured, (GREEN, BLUE, GREEN, BLUE))
    ]
    return chart(rows, "128 hidden units, Fashion-MNIST, 50 epochs", "test accuracy")


def convnets(measured: Measured) -> "Figure":
    rows = scored_rows(measured, (ORANGE, BLUE, BLUE) * 2)
    return chart([(name.replace(", ", "\n"), values, color) for name, values, color in rows],
                 "Convnets and MLPs of the notes", "test accuracy")  # fmt: skip
