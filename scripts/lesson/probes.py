"""Measurements of a trained network beyond its test score."""

import torch
from torch import Tensor, nn

from cnnlab import OpenedRun, load
from cnnlab.data import DataSet, Split, all_images, load_data
from cnnlab.data.splits import chunks
from cnnlab.models import ConvNet, build_model
from cnnlab.tracking.run import RunDirectory

SHIFTS = range(0, 13, 2)  # pixels
SIZES = (24, 28, 32, 36, 40, 48, 64)  # pixels a side
APART = (1, 2, 4, 8)  # pixels
SIDE = 3  # digits along a side of a mosaic


def trained(run: RunDirectory) -> tuple[OpenedRun, DataSet]:
    """Open a run of the lessons, whose data sets are made in `scripts.lesson.sources`, and load its data."""
    opened = load(run.path, weights="last", trust=["scripts"])
    return opened, load_data(opened.config.data, opened.config.seed)


def _accuracy(run: OpenedRun, images: Tensor, labels: Tensor) -> float:
    return round((run.predict(images).predicted == labels).double().mean().item(), 4)


def shift(run: RunDirectory) -> dict[str, float]:
    """Measure test accuracy with every image moved to the right by 0, 2, ... pixels; only black pixels wrap around."""
    opened, data = trained(run)
    images = all_images(data.test)
    return {str(n): _accuracy(opened, torch.roll(images, n, 3), data.test.labels) for n in SHIFTS}


@torch.no_grad()
def readout(run: RunDirectory) -> dict[str, float]:
    """Measure test accuracy of a linear classifier on each block's maps (their means), for the trained and an untrained net.

    The classifier is ridge regression on one-hot labels, fitted in closed form to the run's own training images.
    """
    opened, data = trained(run)
    fresh, _ = build_model(opened.config.model, data.shape, len(data.classes), opened.config.seed)
    found = {}
    for kind, network in (("trained", opened.network), ("untrained", fresh.eval())):
        assert isinstance(network, ConvNet)
        train, test = (_means(opened.preprocess, network, split) for split in (data.train, data.test))
        for depth, (inputs, unseen) in enumerate(zip(train, test, strict=True), 1):
            hits = _ridge(inputs, data.train.labels, unseen).argmax(1) == data.test.labels
            found[f"{kind} {depth}"] = round(hits.double().mean().item(), 4)
    return found


def _means(preprocess: nn.Module, network: ConvNet, split: Split) -> list[Tensor]:
    """Return for each block the mean of each of its maps, N x filters."""
    means: list[list[Tensor]] = [[] for _ in network.blocks]
    for batch in chunks(split, 1000):
        maps = preprocess(batch)
        for block, kept in zip(network.blocks, means, strict=True):
            maps = block(maps)
            kept.append(maps.mean((2, 3)))
    return [torch.cat(kept) for kept in means]


def _ridge(inputs: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
    """Return scores of `unseen` (M x D) by ridge regression of one-hot labels on standardized `inputs` (N x D): M x classes."""
    mean, std = inputs.double().mean(0), inputs.double().std(0).clamp(min=1e-9)
    x, y = (inputs.double() - mean) / std, nn.functional.one_hot(labels).double()
    weights = torch.linalg.solve(x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1], dtype=torch.float64), x.T @ (y - y.mean(0)))
    scores: Tensor = (unseen.double() - mean) / std @ weights + y.mean(0)
    return scores


@torch.no_grad()
def mosaic(run: RunDirectory) -> dict[str, float]:
    """Measure accuracy on single test images, and at the places of nine of them side by side in one image."""
    opened, data = trained(run)
    network = opened.network
    assert isinstance(network, ConvNet)
    count = len(data.test) // SIDE**2 * SIDE**2
    images, labels = all_images(data.test)[:count], data.test.labels[:count]
    pictures = side_by_side(images)
    places = [network.logit_map(opened.preprocess(batch))[:, :, ::7, ::7].argmax(1) for batch in torch.split(pictures, 100)]
    hits = torch.cat(places).flatten() == labels
    return {"single": _accuracy(opened, images, labels), "mosaic": round(hits.double().mean().item(), 4)}


def side_by_side(images: Tensor) -> Tensor:
    """Tile nine images each into one, row by row: 9 N x 1 x H x W to N x 1 x 3 H x 3 W."""
    count, channels, height, width = images.shape
    grid = images.view(count // SIDE**2, SIDE, SIDE, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, SIDE * height, SIDE * width)


@torch.no_grad()
def resized(run: RunDirectory) -> dict[str, float]:
    """Measure test accuracy on images resized to other sizes, bilinear and antialiased."""
    opened, data = trained(run)
    images = all_images(data.test).float() / 255
    found = {}
    for size in SIZES:
        others = images
        if size != images.shape[-1]:
            others = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        predicted = torch.cat([opened.task.predict(opened.model(batch))[0] for batch in torch.split(others, 500)])
        found[str(size)] = round((predicted == data.test.labels).double().mean().item(), 4)
    return found


def alike(run: RunDirectory) -> dict[str, float]:
    """Measure Pearson's correlation of pixels 1, 2, ... apart in a row of the test images."""
    images = all_images(trained(run)[1].test).double()
    pairs = {str(n): (images[..., :-n].flatten(), images[..., n:].flatten()) for n in APART}
    return {n: round(torch.corrcoef(torch.stack(pair))[0, 1].item(), 4) for n, pair in pairs.items()}
