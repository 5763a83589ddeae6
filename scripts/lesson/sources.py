"""Data sets of the lessons, made from MNIST and Fashion-MNIST: `data.source._target_=scripts.lesson.sources.shuffled`.

Test images are made in the same way as training images, so that only what the lesson changes differs.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from cnnlab.data import Declared, InMemory, Source, Split, all_images, declares, idx

TILE, MARGIN, PITCH = 14, 8, 6  # nine_places, in pixels: the image, the rim around all places, the step between places
SIDE = 2 * MARGIN + 2 * PITCH + TILE
PLACES = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "center", "right"))


@declares(idx.describe)
def shuffled(root: str, download: bool, name: str) -> Source:
    """Return the set with its pixels in another order, which is the same for every image and drawn once and for all."""
    source = idx.load(root, download, name)
    order = torch.randperm(28 * 28, generator=torch.Generator().manual_seed(0))

    def shuffle(split: Split) -> InMemory:
        images = all_images(split)
        return InMemory(images.flatten(2)[:, :, order].view_as(images), split.labels)

    return Source(shuffle(source.train), shuffle(source.test), source.classes)


@declares(lambda name, size: Declared((1, size, size), idx.CLASSES[name]))
def on_canvas(root: str, download: bool, name: str, size: int) -> Source:
    """Return the set in the middle of black images of `size` x `size` pixels, which leaves room to move."""
    source = idx.load(root, download, name)
    rim = (size - 28) // 2

    def put(split: Split) -> InMemory:
        return InMemory(F.pad(all_images(split), (rim, size - 28 - rim, rim, size - 28 - rim)), split.labels)

    return Source(put(source.train), put(source.test), source.classes)


@declares(lambda name, label: Declared((1, SIDE, SIDE), idx.CLASSES[name] if label == "what" else PLACES))
def nine_places(root: str, download: bool, name: str, label: Literal["what", "where"]) -> Source:
    """Put each image at half its size in one of nine places of a larger black image; the label is its class, or its place.

    The rim is wide enough for a receptive field of 10 pixels: no window over the figure is ever cut off.
    """
    source = idx.load(root, download, name)
    classes = source.classes if label == "what" else PLACES
    generator = torch.Generator().manual_seed(0)

    def scatter(split: Split) -> InMemory:
        tiles = F.avg_pool2d(all_images(split).float(), 2).round().to(torch.uint8)
        places = torch.randint(9, (len(split),), generator=generator)
        images = torch.zeros(len(split), 1, SIDE, SIDE, dtype=torch.uint8)
        for place in range(9):
            top, left = MARGIN + PITCH * (place // 3), MARGIN + PITCH * (place % 3)
            chosen = places == place
            images[chosen, :, top : top + TILE, left : left + TILE] = tiles[chosen]
        return InMemory(images, split.labels if label == "what" else places)

    return Source(scatter(source.train), scatter(source.test), classes)
