"""Where a classifier looks: maps of what speaks for a class, and a check that such a map means something."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlab import seeding
from cnnlab.visualization.stages import spatial, trace

Score = Callable[[Tensor], Tensor]  # the score of one class, N, for images N x C x H x W

NUM_RANDOM = 19  # random orders: a map that means nothing beats all of them with a chance of 1 in 20
MARGIN = 0.005  # of the area: smaller differences also occur if a network hardly looks at the image
STEPS = 20  # equal shares of the pixels, deleted one after the other


def class_score(outputs: Tensor, label: int) -> Tensor:
    """Return the score of a class before softmax or sigmoid: N. outputs: N x classes, or one logit, above 0 for class 1."""
    return outputs[:, label] if outputs.shape[1] > 1 else outputs[:, 0] * (1 if label else -1)


def grad_cam(model: nn.Module, image: Tensor, label: int, layer: str | None = None) -> tuple[str, Tensor]:
    """Return the Grad-CAM of a class: ReLU of the sum over a stage's maps, each weighted by its mean gradient.

    Args:
        model: returns outputs, N x classes or N x 1.
        image: C x H x W, float.
        label: the class.
        layer: the name of the stage's convolution; None: the last with more than one place.

    Returns:
        The stage's name, and the map, h x w, in the units of the score.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    with torch.enable_grad():
        traced = trace(model, image[None].clone().requires_grad_())
        stage = next(one for one in reversed(spatial(traced.stages)) if layer in (None, one.name))
        (gradient,) = torch.autograd.grad(class_score(traced.outputs, label).sum(), stage.maps)
    weights = gradient.mean((2, 3), keepdim=True)
    return stage.name, (weights * stage.maps.detach()).sum(1)[0].relu()


def log_odds(outputs: Tensor, label: int) -> Tensor:
    """Return log(p / (1 - p)) of a class: N. It still differs between nearly certain classes, whose p are all 1.00."""
    if outputs.shape[1] == 1:
        return class_score(outputs, label)
    others = [other for other in range(outputs.shape[1]) if other != label]
    return outputs[:, label] - outputs[:, others].logsumexp(1)


def occlusion(score: Score, image: Tensor, size: int, stride: int, fill: Tensor) -> Tensor:
    """Return how much of a score is lost by covering a square: H x W, each pixel the mean of the squares over it.

    Args:
        score: of a class, such as its log-odds.
        image: C x H x W. size: of the square; stride: between two squares, in pixels. fill: C, its color.

    Source: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2.
    """
    height, width = image.shape[1:]
    places = [(top, left) for top in _starts(height, size, stride) for left in _starts(width, size, stride)]
    whole = score(image[None])[0]
    lost, times = torch.zeros(height, width), torch.zeros(height, width)
    for start in range(0, len(places), 64):
        some = places[start : start + 64]
        covered = image.repeat(len(some), 1, 1, 1)
        for one, (top, left) in zip(covered, some, strict=True):
            one[:, top : top + size, left : left + size] = fill[:, None, None]
        for drop, (top, left) in zip(whole - score(covered), some, strict=True):
            lost[top : top + size, left : left + size] += drop
            times[top : top + size, left : left + size] += 1
    return lost / times


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Return where windows begin that together cover every pixel; the last one ends at `length`."""
    last = max(0, length - size)
    return sorted({*range(0, last, stride), last})


def enlarged(small: Tensor, height: int, width: int) -> Tensor:
    """Resize a map, h x w, to H x W, bilinear."""
    return F.interpolate(small[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class Deletion:
    """The probability of a class while pixels are deleted, beginning where the map is highest.

    curve: STEPS + 1, after each share. random_curves: NUM_RANDOM x (STEPS + 1), in random orders as coarse as the map.
    area, random_areas: under the curves, from 0 to 1: low if the deleted pixels mattered.
    """

    curve: Tensor
    random_curves: Tensor

    @property
    def area(self) -> float:
        return float(_area(self.curve))

    @property
    def random_areas(self) -> list[float]:
        return [float(area) for area in _area(self.random_curves)]

    @property
    def as_low(self) -> int:
        """The number of random orders in which the probability falls as fast, within MARGIN."""
        return sum(area <= self.area + MARGIN for area in self.random_areas)

    @property
    def means_something(self) -> bool:
        """Whether the probability falls faster than in every random order, by more than MARGIN."""
        return not self.as_low


def deletion(probability: Score, image: Tensor, heat: Tensor, grain: tuple[int, int], fill: Tensor, seed: int = 0) -> Deletion:
    """Delete pixels in the order of a map and in random orders of blobs as coarse as the map.

    Random single pixels would not be a fair comparison: a tenth of them, spread out, disturbs every place of the image at once.

    Args:
        image: C x H x W. heat: the map, H x W. grain: rows and columns in which the map was made, such as a stage's 7 x 7.
        fill: C, the color of a deleted pixel. seed: of the random orders.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.2 (deletion); the random orders are ours.
    """
    generator, (height, width) = seeding.fold(seed, "deletion"), heat.shape
    noise = torch.rand(NUM_RANDOM, *grain, generator=generator)
    curves = [deletion_curve(probability, image, enlarged(one, height, width), fill) for one in noise]
    return Deletion(deletion_curve(probability, image, heat, fill), torch.stack(curves))


def deletion_curve(probability: Score, image: Tensor, heat: Tensor, fill: Tensor, steps: int = STEPS) -> Tensor:
    """Return the probability after each share 0, 1 / steps, ..., 1 of the pixels is deleted, the highest of `heat` first."""
    channels, count = image.shape[0], heat.numel()
    rank = torch.empty(count, dtype=torch.int64)
    rank[heat.flatten().argsort(descending=True, stable=True)] = torch.arange(count)
    limits = torch.tensor([round(count * step / steps) for step in range(steps + 1)])
    deleted = (rank < limits[:, None]).view(steps + 1, 1, *heat.shape)
    return probability(torch.where(deleted, fill.view(1, channels, 1, 1), image[None])).cpu()


def _area(curves: Tensor) -> Tensor:
    """Return the area under curves, whose values are at evenly spaced places from 0 to 1, by the trapezoidal rule."""
    return torch.trapezoid(curves.double(), dx=1 / (curves.shape[-1] - 1))


def mean_color(image: Tensor) -> Tensor:
    """Return the mean color, C, of an image C x H x W, which replaces covered or deleted pixels."""
    return image.mean((1, 2))


def strongest(maps: Tensor, count: int) -> Sequence[int]:
    """Return the sorted indices of the `count` maps (C x H x W) with the highest mean magnitude, or of all maps if fewer."""
    return sorted(maps.abs().flatten(1).mean(1).argsort(descending=True, stable=True)[:count].tolist())
