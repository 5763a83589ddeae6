"""Data sets of the lessons, made from MNIST and Fashion-MNIST: `data.source._target_=scripts.lesson.sources.shuffled`.

The test images are made as the training images are, so that only what the lesson changes differs.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from cnnlab.data import idx
from cnnlab.data.images import Images, Source

TILE, MARGIN, PITCH = 14, 8, 6  # nine_places, in pixels: the image, the rim around all places, from place to place
PLACES = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right"))


def shuffled(root: str, download: bool, name: str) -> Source:
    """The set with its pixels in another order, the same for every image, drawn once and for all."""
    source = idx.load(root, download, name)
    order = torch.randperm(28 * 28, generator=torch.Generator().manual_seed(0))

    def shuffle(part: Images) -> Images:
        return Images(part.images.flatten(2)[:, :, order].view_as(part.images), part.labels)

    return Source(shuffle(source.train), shuffle(source.test), source.classes)


def on_canvas(root: str, download: bool, name: str, size: int) -> Source:
    """The set in the middle of black images of `size` x `size` pixels, which leaves room to move."""
    source = idx.load(root, download, name)
    rim = (size - 28) // 2

    def put(part: Images) -> Images:
        return Images(F.pad(part.images, (rim, size - 28 - rim, rim, size - 28 - rim)), part.labels)

    return Source(put(source.train), put(source.test), source.classes)


def nine_places(root: str, download: bool, name: str, label: Literal["what", "where"]) -> Source:
    """Each image at half its size in one of nine places of a black 42 x 42 image; the label is its class, or its place.

    The rim is as wide as a receptive field of 10 pixels needs it: no window over the figure is ever cut off.
    """
    source = idx.load(root, download, name)
    classes = source.classes if label == "what" else PLACES
    generator = torch.Generator().manual_seed(0)

    def scatter(part: Images) -> Images:
        tiles = F.avg_pool2d(part.images.float(), 2).round().to(torch.uint8)
        places = torch.randint(9, (len(part),), generator=generator)
        side = 2 * MARGIN + 2 * PITCH + TILE
        images = torch.zeros(len(part), 1, side, side, dtype=torch.uint8)
        for place in range(9):
            top, left = MARGIN + PITCH * (place // 3), MARGIN + PITCH * (place % 3)
            chosen = places == place
            images[chosen, :, top : top + TILE, left : left + TILE] = tiles[chosen]
        return Images(images, part.labels if label == "what" else places)

    return Source(scatter(source.train), scatter(source.test), classes)
