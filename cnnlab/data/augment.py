"""Augmentations of whole batches on the device, with an independent random draw for each image.

Each function takes uint8 or float images (N x C x H x W) and a generator on the same device, and returns images of the same
shape, dtype and device. The same generator state gives the same result.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Augmentation = Callable[[Tensor, Generator], Tensor]


def random_flip(images: Tensor, generator: Generator, probability: float = 0.5) -> Tensor:
    """Flip each image horizontally with the given probability.

    Raises:
        ValueError: `probability` outside 0 to 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability}, expected 0 to 1")
    flip = _uniform(images, generator) < probability
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def random_crop(images: Tensor, generator: Generator, padding: int = 4) -> Tensor:
    """Shift each image by a random offset of up to `padding` pixels in each direction, reflecting it at the border.

    Raises:
        ValueError: `padding` is not in 0 <= padding < min(H, W).

    Source: He et al. 2015, arXiv:1512.03385, section 4.2 (which pads with zeros).
    """
    count, _, height, width = images.shape
    if not 0 <= padding < min(height, width):
        raise ValueError(f"padding={padding}, expected 0 to {min(height, width) - 1} for {height} x {width} images")
    offsets = torch.randint(-padding, padding + 1, (2, count), generator=generator, device=images.device)
    rows = _reflect(torch.arange(height, device=images.device) + offsets[0][:, None], height)  # N x H
    columns = _reflect(torch.arange(width, device=images.device) + offsets[1][:, None], width)  # N x W
    return _gather(images, rows[:, :, None], columns[:, None, :])


def random_rotation(images: Tensor, generator: Generator, degrees: float = 15.0) -> Tensor:
    """Rotate each image about its center by up to `degrees` in either direction (nearest pixel, border pixels repeated).

    Raises:
        ValueError: `degrees` outside 0 to 180.
    """
    if not 0 <= degrees <= 180:
        raise ValueError(f"degrees={degrees}, expected 0 to 180")
    angle = (_uniform(images, generator) * 2 - 1) * (degrees * torch.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    return _sample(images, torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2))


def random_zoom(images: Tensor, generator: Generator, amount: float = 0.2) -> Tensor:
    """Scale each image about its center by a factor between 1 - `amount` and 1 + `amount`, keeping the aspect ratio.

    Raises:
        ValueError: `amount` is not in 0 <= amount < 1.
    """
    if not 0 <= amount < 1:
        raise ValueError(f"amount={amount}, expected 0 or more and less than 1")
    factor = 1 + (_uniform(images, generator) * 2 - 1) * amount
    return _sample(images, torch.eye(2, device=images.device) / factor[:, None, None])


def keras_rotation(images: Tensor, generator: Generator, factor: float = 0.1) -> Tensor:
    """Rotate each image about its center by up to `factor` of a full turn in either direction (bilinear, border reflected).

    Raises:
        ValueError: `factor` outside 0 to 0.5.

    Source: Keras's RandomRotation(factor) with its defaults.
    """
    if not 0 <= factor <= 0.5:
        raise ValueError(f"factor={factor}, expected 0 to 0.5 of a full turn")
    angle = (_uniform(images, generator) * 2 - 1) * (factor * 2 * torch.pi)
    cos, sin = angle.cos(), angle.sin()
    return _interpolate(images, torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2))


def keras_zoom(images: Tensor, generator: Generator, factor: float = 0.2) -> Tensor:
    """Zoom each image to show between 1 - `factor` and 1 + `factor` of its height and width (bilinear, border reflected).

    Raises:
        ValueError: `factor` is not in 0 <= factor < 1.

    Source: Keras's RandomZoom(factor) with its defaults. It draws the visible fraction, whereas `random_zoom` draws the scale.
    """
    if not 0 <= factor < 1:
        raise ValueError(f"factor={factor}, expected 0 or more and less than 1")
    share = 1 + (_uniform(images, generator) * 2 - 1) * factor
    return _interpolate(images, torch.eye(2, device=images.device) * share[:, None, None])


def random_cutout(images: Tensor, generator: Generator, size: int = 8) -> Tensor:
    """Black out a square of `size` x `size` pixels at a random place in each image; part of it may be outside the image.

    Raises:
        ValueError: `size` below 1.

    Source: DeVries and Taylor 2017, arXiv:1708.04552.
    """
    count, _, height, width = images.shape
    if size < 1:
        raise ValueError(f"size={size}, expected 1 or more")
    extra = 1 - size % 2  # an even square is centered on a corner between pixels: n pixels have n + 1 corners
    top = torch.randint(height + extra, (count, 1), generator=generator, device=images.device) - size // 2
    left = torch.randint(width + extra, (count, 1), generator=generator, device=images.device) - size // 2
    row, column = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside = ((row >= top) & (row < top + size))[:, :, None] & ((column >= left) & (column < left + size))[:, None, :]
    return images.masked_fill(inside[:, None], 0)


def _uniform(images: Tensor, generator: Generator) -> Tensor:
    return torch.rand(len(images), generator=generator, device=images.device)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Reflect indices outside 0 to size - 1 at the border pixel, without repeating that pixel."""
    return (size - 1 - (index.abs() - (size - 1)).abs()) if size > 1 else torch.zeros_like(index)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Gather images[n, :, rows[n, h, w], columns[n, h, w]]; the indices broadcast to N x H x W."""
    count, channels, height, width = images.shape
    flat = (rows * width + columns).view(count, 1, height * width).expand(-1, channels, -1)
    return images.reshape(count, channels, -1).gather(2, flat).view(count, channels, height, width)


def _sample(images: Tensor, matrices: Tensor) -> Tensor:
    """Map output to input coordinates by `matrices` (N x 2 x 2, x and y from the center); take the nearest pixel, clamped."""
    _, _, height, width = images.shape
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    a, b, c, d = matrices.flatten(1).T[:, :, None, None]  # each N x 1 x 1
    columns = (a * x + b * y[:, None] + (width - 1) / 2).round().long().clamp(0, width - 1)
    rows = (c * x + d * y[:, None] + (height - 1) / 2).round().long().clamp(0, height - 1)
    return _gather(images, rows, columns)


def _interpolate(images: Tensor, matrices: Tensor) -> Tensor:
    """Like `_sample`, but interpolate bilinearly between four input pixels, and reflect the border with its pixel repeated
    (d c b a | a b c d | d c b a)."""
    _, _, height, width = images.shape
    size = torch.tensor([width, height], device=images.device)
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).view(1, -1, 2) @ matrices.transpose(1, 2)  # N x HW x 2
    grid = (places * 2 / size).view(-1, height, width, 2)  # -1 and 1 are the outer edges of the border pixels
    found = F.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)
    return found if images.is_floating_point() else found.round().to(images.dtype)
