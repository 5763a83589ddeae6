"""The figures, sized for lecture slides: the title says what is shown, the bottom line which run. Needs matplotlib."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnlab.errors import short
from cnnlab.plots import COLORS, plain_axes
from cnnlab.tracking.records import Epoch
from cnnlab.visualization.embedding import as_picture
from cnnlab.visualization.explaining import STEPS, Deletion, strongest
from cnnlab.visualization.maximal import Found
from cnnlab.visualization.mosaic import GAP, SIZE, columns_for, label_gap, mosaic, new_figure, picture
from cnnlab.visualization.stages import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 64  # filters or maps in one figure
FILTERS, CHANNELS = 16, 8  # shown of a convolution with neither one nor three channels
SPOKEN = {"Conv2d": "convolution", "SameConv2d": "convolution", "MaxPool2d": "max pooling", "AvgPool2d": "average pooling",
          "BatchNorm2d": "batch norm", "Identity": "", "Dropout": ""}  # fmt: skip


def filters(stage: Stage, about: str, scale: float = 1.0) -> "Figure":
    """Draw the weights of a convolution, a picture for each filter: three channels as colors, otherwise a row for each channel.

    scale: of the figure; the letters stay as large as they are.
    """
    weight = stage.convolution.weight.detach().float().cpu()
    count, channels, height, width = weight.shape
    colored, inner = channels == 3, strongest(weight.transpose(0, 1), CHANNELS)
    shown = strongest(weight, MOST if colored or channels == 1 else FILTERS)
    what = f"{count} filters of {height} x {width}" + (f" x {channels}" if channels > 1 else "")
    what += _share(len(shown), count, "largest") + ("" if colored else _share(len(inner), channels, "largest", " channels"))
    figure = new_figure(f"{stage.name}: {what}", about, scale=scale)
    axes, names, columns = figure.subplots(), [str(one) for one in shown], columns_for(len(shown))
    if colored:
        limits = weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        pictures = [one.permute(1, 2, 0).numpy() for one in (0.5 + weight / (2 * limits))[shown]]
        axes.set_xlabel(
            "each scaled by its own largest weight: gray is 0, black most negative, full color most positive", fontsize=11
        )
        mosaic(axes, pictures, names, columns, scale)
        return figure
    limit = float(weight.abs().max()) or 1.0
    colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    if channels == 1:
        image = mosaic(axes, [weight[one, 0].numpy() for one in shown], names, columns, scale, **colors)
    else:
        image = mosaic(axes, [weight[one, row].numpy() for row in inner for one in shown], None, len(shown), scale, **colors)
        for column, name in enumerate(names):
            axes.text(column * (1 + GAP) + 0.5, -GAP, name, ha="center", va="bottom")
        _row_names(axes, [str(channel) for channel in inner], height / width)
        axes.set_xlabel("a column for each filter, a row for each channel", fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.8, label="weight", pad=0.02)
    return figure


def activations(image: Tensor, name: str, stages: Sequence[Stage], of: int, about: str, scale: float = 1.0) -> "Figure":
    """Draw the maps of an image (C x H x W) after each stage, a row for each; for a single stage, up to 64 maps in rows.

    of: the number of all stages. scale: of the figure; the size of the letters does not change.
    """
    per_row = MOST if len(stages) == 1 else round(12 * scale)
    height = SIZE[1] if len(stages) == 1 else 1.0 + 1.4 * len(stages) / scale
    layers = f", {len(stages)} of {of} layers" if len(stages) < of else ""
    page = SIZE[0] if len(stages) == 1 else 11.2
    figure = new_figure(f"Activation maps of {name}{layers}", about, height, page, scale)
    grid = figure.add_gridspec(len(stages), 2, width_ratios=(1, 7))
    picture(figure.add_subplot(grid[0, 0]), image)
    for row, stage in enumerate(stages):
        axes, maps = figure.add_subplot(grid[row, 1]), stage.maps[0].detach().float().cpu()
        shown = strongest(maps, per_row)
        low, high = np.percentile(maps[shown].numpy(), (0.5, 99.5))  # a few outliers would leave everything else dark
        cells, low = [maps[one].numpy() for one in shown], min(0.0, float(low))
        columns, names = columns_for(len(shown)) if len(stages) == 1 else per_row, [str(one) for one in shown]
        drawn = mosaic(axes, cells, names, columns, scale, cmap="viridis", vmin=low, vmax=max(float(high), low + 1e-9))
        size = f"{stage.size}{_share(len(shown), len(maps), 'strongest')}"
        title = f"{stage.name}: {_spoken(stage)}{': ' if scale == 1 else chr(10)}{size}"
        axes.set_title(title, fontsize=11 if scale == 1 else 9, loc="left")
        figure.colorbar(drawn, ax=axes, pad=0.01, fraction=0.03, aspect=12, extend="both" if low < 0 else "max")
        axes.set_anchor("W")
    return figure


def maximal(stage: Stage, channels: Sequence[int], made: Tensor, found: Sequence[tuple[Found, Tensor]], about: str) -> "Figure":
    """Draw a column for each map: the image made for it, then images of a data set, boxed where its highest value comes from.

    made: M x C x H x W. found: for each map what was found, with those images, K x C x H x W; empty without data.
    """
    from matplotlib.patches import Rectangle

    height, width = made.shape[2:]
    figure = new_figure(f"{stage.name}: what activates {_some(len(channels), stage.maps.shape[1], 'map')} most", about)
    rows = 1 + (len(found[0][1]) if found else 0)
    axes, columns = figure.subplots(), len(channels)
    images = [*made, *(found[column][1][row] for row in range(rows - 1) for column in range(columns))]
    values = [f"{found[column][0].values[row]:.2g}" for row in range(rows - 1) for column in range(columns)]
    cells = [np.asarray(as_picture(image)) for image in images]
    mosaic(axes, cells, [*(f"map {one}" for one in channels), *values], columns)
    boxed = False
    for column, (one, _) in enumerate(found):
        for row, (top, left, bottom, right) in enumerate(one.boxes, 1):
            if (bottom - top) * (right - left) == height * width:  # the whole image
                continue
            boxed = True
            x, y = column * (1 + GAP), row * (height / width + label_gap(columns))
            corner, size = (x + left / width, y + top / width), ((right - left) / width, (bottom - top) / width)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=COLORS[1], linewidth=1.5))
    below = "; below: test images, with the map's highest value before the activation" if found else ""
    axes.set_xlabel(f"top: made by gradient ascent{below}{', and where it comes from' if boxed else ''}")
    return figure


def explanation(
    image: Tensor, heat: Tensor, name: str, said: str, method: str, unit: str, check: Deletion, about: str
) -> "Figure":
    """Draw an image (C x H x W), the map over it (H x W), and the deletion check. said: "predicted cat, 0.98"."""
    figure = new_figure(f"{method}: {name}, {said}", about, 5.2)
    plain, over, scale, chart = figure.subplots(1, 4, width_ratios=(1, 1, 0.05, 1.2))
    picture(plain, image)
    plain.set_title("image", fontsize=12)
    limit = float(heat.abs().max()) or 1.0
    signed = bool(heat.min() < 0)
    gray = np.asarray(as_picture(image).convert("L"))
    over.imshow(gray, cmap="gray", vmin=-255, vmax=255)  # pale, below the colors
    drawn = over.imshow(
        heat.numpy(), cmap="RdBu_r" if signed else "inferno", vmin=-limit if signed else 0, vmax=limit, alpha=0.6
    )
    over.set_axis_off()
    over.set_title(f"what speaks for it: {unit}", fontsize=12)
    figure.colorbar(drawn, cax=scale)
    scale.set_box_aspect(20)
    shares = np.linspace(0, 1, STEPS + 1)
    for index, curve in enumerate(check.random_curves):
        chart.plot(
            shares,
            curve,
            color="#bbbbbb",
            linewidth=0.8,
            label=f"{len(check.random_curves)} random orders" if not index else None,
        )
    chart.plot(shares, check.curve, color=COLORS[1], linewidth=2.2, label="order of the map")
    plain_axes(chart)
    chart.set(xlabel="pixels deleted", ylabel="probability", ylim=(-0.02, 1.02))
    chart.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _legend_below(chart)
    chart.set_title(verdict(check).replace(": ", ":\n"), fontsize=12)
    return figure


def verdict(check: Deletion) -> str:
    """Say whether a map means something, with its area and the number of random orders that do as well."""
    answer = "the map beats chance" if check.means_something else "not shown to beat chance"
    return f"{answer}: area {check.area:.2f}, {check.as_low or 'none'} of {len(check.random_areas)} random orders as low"


def confusion(counts: NDArray[np.int64], classes: Sequence[str], about: str) -> "Figure":
    """Draw the confusion matrix, a row for each class, shaded by the share of the row, mistakes four times as strongly."""
    number, shares = len(classes), counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = int(np.trace(counts))
    title = f"Confusion matrix: {right:,} of {int(counts.sum()):,} right"
    figure = new_figure(title, about, 9.0, 10.0)
    axes = figure.subplots()
    own = np.eye(number, dtype=bool)
    shade = np.where(own, shares, np.minimum(1, shares * 4))[..., None]
    ends = np.where(own[..., None], (0, 114, 178), (213, 94, 0)) / 255
    axes.imshow(1 - shade * (1 - ends))
    font = max(4.0, min(12.0, 260 / number / max(1, len(str(counts.max())) * 0.55)))
    if number <= 30:
        for row, column in zip(*counts.nonzero(), strict=True):
            ink = "white" if shade[row, column, 0] > 0.6 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=font, color=ink)
    if number <= 60:
        names = [short(one, 20) for one in classes]
        axes.set_xticks(range(number), names, rotation=0 if max(map(len, names)) < 4 else 90, fontsize=min(12, 400 / number))
        axes.set_yticks(range(number), names, fontsize=min(12, 400 / number))
    axes.set_xlabel("predicted", fontsize=12)
    axes.set_ylabel("class", fontsize=12)
    return figure


def sheet(images: Tensor, captions: Sequence[str], title: str, about: str, columns: int = 6) -> "Figure":
    """Draw images (N x C x H x W), each below its caption."""
    columns, lines = min(columns, len(images)), max(caption.count("\n") for caption in captions)
    step = images.shape[2] / images.shape[3] + label_gap(columns, lines)
    figure = new_figure(title, about, 0.9 + SIZE[0] * -(-len(images) // columns) * step / (columns * (1 + GAP)))
    mosaic(figure.subplots(), [np.asarray(as_picture(one)) for one in images], captions, columns)
    return figure


def classes(examples: Sequence[Tensor], names: Sequence[str], about: str) -> "Figure":
    """Draw a row for each class: its name, then training images. examples: of each class, K x C x H x W."""
    columns, blank = max(map(len, examples)), np.full_like(np.asarray(as_picture(examples[0][0])), 255)
    height, width = 0.66 * len(names), 0.66 * columns * blank.shape[1] / blank.shape[0]
    letters = max(len(short(name, 24)) for name in names)
    figure = new_figure("Classes, with their first training images", about, height + 1, max(6.5, width + 0.13 * letters + 0.6))
    axes = figure.subplots()
    cells = [
        cell for own in examples for cell in [*(np.asarray(as_picture(one)) for one in own), *[blank] * (columns - len(own))]
    ]
    mosaic(axes, cells, None, columns)
    _row_names(axes, [short(name, 24) for name in names], blank.shape[0] / blank.shape[1])
    return figure


def curves(epochs: Sequence[Epoch], about: str) -> "Figure":
    """Draw loss and metric after each epoch: training against validation, and against test if it was scored."""
    from matplotlib.ticker import MaxNLocator

    metric = epochs[-1].metric
    beside = [split for split in ("validation", "test") if any(split in epoch.scores for epoch in epochs)]
    figure = new_figure(f"Learning curves: training{' against ' if beside else ''}{' and '.join(beside)}", about, 5.6)
    for axes, key, label in zip(figure.subplots(1, 2), ("value", "loss"), (metric.replace("_", " "), "loss"), strict=True):
        for split, color, style in zip(("train", "validation", "test"), COLORS, (":", "-", "--"), strict=False):
            points = [(epoch.epoch, getattr(epoch.scores[split], key)) for epoch in epochs if split in epoch.scores]
            if points:
                last = f"{split}, at the end {points[-1][1]:.4f}"
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    color=color,
                    linewidth=2,
                    label=last,
                    marker="o" if len(points) < 3 else "",
                )
        plain_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(epochs) == 1:
            axes.set_xlim(0.5, 1.5)
        axes.set_xlabel("epoch", fontsize=12)
        axes.set_title(label, fontsize=13)
        _legend_below(axes)
    return figure


def scatter(points: Tensor, shares: Tensor, labels: Tensor, names: Sequence[str], dimensions: int, about: str) -> "Figure":
    """Draw images as points (N x 2) in the colors of their classes. shares: of the variance, 2. dimensions: of the features."""
    import matplotlib

    figure = new_figure(f"{len(points):,} test images by the input of the last layer, {dimensions} numbers each", about)
    axes = figure.subplots()
    palette = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"]
    for index, name in enumerate(names[:20]):
        own = points[labels == index]
        axes.scatter(own[:, 0], own[:, 1], s=14, color=palette(index), label=short(name, 24), alpha=0.75, linewidths=0)
    plain_axes(axes)
    first, second = (f"{share:.0%} of the variance" for share in shares.tolist())
    axes.set(xlabel=f"first principal component, {first}", ylabel=f"second, {second}")
    axes.legend(frameon=False, fontsize=11, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2)
    return figure


def _legend_below(axes: "Axes") -> None:
    """Put the legend below the chart, where there are no curves."""
    axes.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def _row_names(axes: "Axes", names: Sequence[str], side: float) -> None:
    """Write names at the left of a mosaic without names above its cells, which are `side` high."""
    for row, name in enumerate(names):
        axes.text(-0.15, row * (side + GAP) + side / 2, name, ha="right", va="center", fontsize=12)


def _share(shown: int, count: int, kind: str, noun: str = "") -> str:
    return f", the {shown} {kind} of {count}{noun}" if shown < count else ""


def _some(shown: int, count: int, noun: str) -> str:
    return f"{shown} of {count} {noun}s" if shown < count else f"{count} {noun}{'s' if count > 1 else ''}"


def _spoken(stage: Stage) -> str:
    height, width = stage.convolution.kernel_size
    kinds = [SPOKEN.get(kind, kind) for kind in dict.fromkeys(stage.kinds)]
    return ", ".join([f"{kinds[0]} {height} x {width}", *filter(None, kinds[1:])])
