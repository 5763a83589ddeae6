"""Images as points: the input of the last layer, its two main directions, and files for TensorBoard's projector."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlab.tracking import files
from cnnlab.visualization.stages import trace, unit_images

THUMBNAIL = 48  # pixels of a side, at most
NUM_POINTS = 1000  # images, evenly spread
CONFIG = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "{name}.tsv"
  metadata_path: "{name}-classes.tsv"{sprite}
}}
"""
SPRITE = """
  sprite {{
    image_path: "{name}-thumbnails.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}"""


def features(model: nn.Module, images: Tensor, chunk: int = 100) -> Tensor:
    """Return the input of the last layer for each image: float32, N x D, on the CPU."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat(
            [trace(model, unit_images(some).to(device), "").features.float().cpu() for some in torch.split(images, chunk)]
        )


def principal_components(points: Tensor, count: int = 2) -> tuple[Tensor, Tensor]:
    """Project points (N x D) onto the directions of the largest variance: N x `count`, and their shares of it, `count`."""
    centered = points.double() - points.double().mean(0)
    _, scales, directions = torch.linalg.svd(centered, full_matrices=False)
    shares = scales.square() / scales.square().sum().clamp_min(1e-300)
    kept = min(count, len(scales))
    projected, told = centered.new_zeros(len(points), count), shares.new_zeros(count)
    projected[:, :kept], told[:kept] = centered @ directions[:kept].T, shares[:kept]
    return projected.float(), told.float()


def write_projector(folder: Path, name: str, points: Tensor, captions: Sequence[str], images: Tensor) -> None:
    """Write the files that TensorBoard's projector shows for `folder`.

    points: N x D. captions: N, without tabs and line ends. images: N x C x H x W, uint8 or floats from 0 to 1; for images with
    another number of sides, no thumbnails are made.

    Raises:
        OSError: the disk is full or not writable.
    """
    sprite = ""
    if images.ndim == 4:
        sheet, (width, height) = _thumbnails(images)
        sheet.save(png := io.BytesIO(), format="PNG")
        files.write_atomic(folder / f"{name}-thumbnails.png", png.getvalue())
        sprite = SPRITE.format(name=name, width=width, height=height)
    rows = "".join("\t".join(f"{value:.6g}" for value in row) + "\n" for row in points.tolist())
    files.write_atomic(folder / f"{name}.tsv", rows.encode())
    files.write_atomic(folder / f"{name}-classes.tsv", "".join(f"{one}\n" for one in captions).encode())
    config = CONFIG.format(name=name, sprite=sprite)
    files.write_atomic(folder / "projector_config.pbtxt", config.encode())


def _thumbnails(images: Tensor) -> tuple[Image.Image, tuple[int, int]]:
    """Return one picture of all images, row by row in a square grid, and the width and height of each in it."""
    scale = min(1.0, THUMBNAIL / max(images.shape[2:]))
    width, height = (max(1, round(side * scale)) for side in (images.shape[3], images.shape[2]))
    columns = math.ceil(math.sqrt(len(images)))
    sheet = Image.new("RGB", (columns * width, columns * height), "white")
    for number, one in enumerate(images):
        at = number % columns * width, number // columns * height
        sheet.paste(as_picture(one).resize((width, height), Image.Resampling.BILINEAR), at)
    return sheet, (width, height)


def as_picture(image: Tensor) -> Image.Image:
    """Convert an image, C x H x W, uint8 or floats from 0 to 1; three channels are colors, otherwise the first is shown."""
    pixels = (unit_images(image).clamp(0, 1) * 255).round().to(torch.uint8)
    shown = pixels if len(pixels) == 3 else pixels[:1].expand(3, -1, -1)
    return Image.fromarray(np.ascontiguousarray(shown.permute(1, 2, 0).cpu().numpy()))
