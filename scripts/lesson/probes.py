"""What is measured of a trained network beyond its test score."""

import torch
from torch import Tensor, nn

from cnnlab import config
from cnnlab.data import load_data
from cnnlab.data.images import DataSet
from cnnlab.models import ConvNet, build_model
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.checkpoint import load_weights

SHIFTS = range(0, 13, 2)  # pixels
SIDE = 3  # digits along a side of a mosaic


def trained(run: RunDirectory) -> tuple[nn.Module, DataSet]:
    """The network of a finished run in evaluation mode, and its data."""
    cfg = config.read(run.config)
    data = load_data(cfg.data, cfg.seed)
    model, _ = build_model(cfg.model, data.shape, len(data.classes), cfg.seed)
    load_weights(run.last, model)
    return model.eval(), data


@torch.no_grad()
def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    guesses = torch.cat([model(part.float() / 255).argmax(1) for part in torch.split(images, 1000)])
    return round((guesses == labels).double().mean().item(), 4)


def shift(run: RunDirectory) -> dict[str, float]:
    """Test accuracy with every image moved to the right by 0, 2, ... pixels; what moves out is black."""
    model, data = trained(run)
    test = data.test
    return {str(n): _accuracy(model, torch.roll(test.images, n, 3), test.labels) for n in SHIFTS}


@torch.no_grad()
def readout(run: RunDirectory) -> dict[str, float]:
    """Test accuracy of a linear classifier on each block's maps (their means), for the trained and an untrained network.

    The classifier is ridge regression on one-hot labels, fitted in closed form to the run's own training images.
    """
    model, data = trained(run)
    cfg = config.read(run.config)
    fresh, _ = build_model(cfg.model, data.shape, len(data.classes), cfg.seed)
    found = {}
    for kind, network in (("trained", model), ("untrained", fresh.eval())):
        assert isinstance(network, ConvNet)
        train, test = (_means(network, part.images) for part in (data.train, data.test))
        for depth, (inputs, unseen) in enumerate(zip(train, test, strict=True), 1):
            hits = _ridge(inputs, data.train.labels, unseen).argmax(1) == data.test.labels
            found[f"{kind} {depth}"] = round(hits.double().mean().item(), 4)
    return found


def _means(network: ConvNet, images: Tensor) -> list[Tensor]:
    """For each block the mean of each of its maps, N x filters."""
    parts: list[list[Tensor]] = [[] for _ in network.blocks]
    for batch in torch.split(images, 1000):
        maps = batch.float() / 255
        for block, kept in zip(network.blocks, parts, strict=True):
            maps = block(maps)
            kept.append(maps.mean((2, 3)))
    return [torch.cat(kept) for kept in parts]


def _ridge(inputs: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
    """Scores of `unseen` (M x D) by ridge regression of one-hot labels on standardised `inputs` (N x D): M x classes."""
    mean, std = inputs.double().mean(0), inputs.double().std(0).clamp(min=1e-9)
    x, y = (inputs.double() - mean) / std, nn.functional.one_hot(labels).double()
    weights = torch.linalg.solve(x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1], dtype=torch.float64), x.T @ (y - y.mean(0)))
    scores: Tensor = (unseen.double() - mean) / std @ weights + y.mean(0)
    return scores


@torch.no_grad()
def mosaic(run: RunDirectory) -> dict[str, float]:
    """Accuracy on single test images, and at the places of nine of them side by side in one image."""
    model, data = trained(run)
    assert isinstance(model, ConvNet)
    count = len(data.test) // SIDE**2 * SIDE**2
    images, labels = data.test.images[:count], data.test.labels[:count]
    pictures = side_by_side(images)
    places = [model.logit_map(part.float() / 255)[:, :, ::7, ::7].argmax(1) for part in torch.split(pictures, 100)]
    hits = torch.cat(places).flatten() == labels
    return {"single": _accuracy(model, images, labels), "mosaic": round(hits.double().mean().item(), 4)}


def side_by_side(images: Tensor) -> Tensor:
    """Nine images each in one, row by row: 9 N x 1 x H x W to N x 1 x 3 H x 3 W."""
    count, channels, height, width = images.shape
    grid = images.view(count // SIDE**2, SIDE, SIDE, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, SIDE * height, SIDE * width)
