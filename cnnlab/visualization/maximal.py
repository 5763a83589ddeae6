"""What activates a map most: an image made for it, and images found in a data set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlab import seeding
from cnnlab.data import Split
from cnnlab.data.sampling import spread
from cnnlab.visualization.stages import Stage, trace, unit_images

CHUNK = 100  # images at a time
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels


@dataclass(frozen=True)
class Found:
    """The images of a split in which a map is highest. indices: int64, K, the strongest first. values: K. boxes: the part of
    each image that its highest place depends on."""

    indices: Tensor
    values: Tensor
    boxes: list[Box]


def made_for(
    model: nn.Module, layer: str, channels: Sequence[int], shape: Sequence[int], steps: int = 40, rate: float = 0.04
) -> Tensor:
    """Make for each map an image that maximizes its mean before the activation, by gradient ascent from gray noise.

    For a large image the gradient is blurred, less with every step, and the image is shifted at random before each step:
    without both, only the finest patterns grow, which look like noise.

    Args:
        model: takes float pixels from 0 to 1.
        layer: the name of the stage's convolution. channels: M, its maps.
        shape: C, H, W. steps, rate: of the ascent; each step moves an image's pixels by `rate` in the root mean square.

    Returns:
        M x C x H x W, pixels from 0 to 1.

    Source: Erhan et al. 2009, "Visualizing higher-layer features of a deep network"; the blur: Oygard 2015, "Visualizing
    GoogLeNet classes"; the shifts: Mordvintsev et al. 2015, "Inceptionism".
    """
    device, generator, side = next(model.parameters()).device, seeding.fold(0, "maximal"), min(shape[1:])
    images = (0.5 + 0.05 * torch.randn(1, *shape, generator=generator)).clamp(0, 1).repeat(len(channels), 1, 1, 1).to(device)
    rows, most = torch.arange(len(channels), device=device), side // 20
    for step in range(steps):
        down, right = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
        with torch.enable_grad():
            given = images.roll((down, right), (2, 3)).requires_grad_()
            maps = stage_of(model, given, layer).linear
            (gradient,) = torch.autograd.grad(maps[rows, list(channels)].mean((1, 2)).sum(), given)
        gradient = blurred(gradient, side / 80 * (1 - 0.75 * step / steps))
        size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
        images = (given.detach() + rate * gradient / size).clamp(0, 1).roll((-down, -right), (2, 3))
    return images.cpu()


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Blur images (N x C x H x W) with a Gaussian of `deviation` pixels, cut off at three standard deviations."""
    reach, channels = math.ceil(3 * deviation), images.shape[1]
    places = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-places.square() / (2 * max(deviation, 1e-6) ** 2))
    line = (weights / weights.sum()).repeat(channels, 1, 1, 1)
    rows = F.conv2d(images, line, padding=(0, reach), groups=channels)
    return F.conv2d(rows, line.transpose(2, 3), padding=(reach, 0), groups=channels)


def found_in(model: nn.Module, layer: str, channels: Sequence[int], split: Split, count: int, at_most: int) -> list[Found]:
    """Find for each map the `count` images, among `at_most` of a split, in which its highest value is highest.

    Values before the activation are compared, since many images may reach the activation's maximum, such as ReLU6's 6.
    """
    device = next(model.parameters()).device
    indices = spread(len(split), at_most).to(split.device)
    with torch.no_grad():
        highest = torch.cat(
            [
                stage_of(model, unit_images(split.gather(some)).to(device), layer).linear[:, list(channels)].amax((2, 3)).cpu()
                for some in torch.split(indices, CHUNK)
            ]
        )
    values, places = highest.topk(min(count, len(highest)), 0)  # K x M
    best = indices.cpu()[places]
    found = []
    for column, channel in enumerate(channels):
        images = unit_images(split.gather(best[:, column].to(split.device))).to(device)
        found.append(Found(best[:, column], values[:, column], boxes(model, layer, channel, images)))
    return found


def boxes(model: nn.Module, layer: str, channel: int, images: Tensor) -> list[Box]:
    """Return the part of each image (N x C x H x W) that the highest place of a map depends on: where its gradient is not 0, or
    the whole image if it is 0 everywhere."""
    with torch.enable_grad():
        given = images.clone().requires_grad_()
        highest = stage_of(model, given, layer).linear[:, channel].amax((1, 2))
        (gradient,) = torch.autograd.grad(highest.sum(), given)
    return [_box(matters) for matters in gradient.abs().sum(1) > 0]


def _box(matters: Tensor) -> Box:
    """Return the box around the true values in H x W."""
    if not matters.any():
        return 0, 0, matters.shape[0], matters.shape[1]
    rows, columns = matters.any(1).nonzero(), matters.any(0).nonzero()
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def stage_of(model: nn.Module, images: Tensor, layer: str) -> Stage:
    """Run the network on images and return the stage of the convolution `layer`."""
    return trace(model, images, layer).stages[-1]
