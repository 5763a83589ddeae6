"""The drawn digits as signals and as clips: data for one- and three-dimensional networks, without files."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnlab.data import digits
from cnnlab.data.source import Declared, Source, declares
from cnnlab.data.splits import InMemory, all_images

FRAMES, SIZE, DIGIT = 8, 28, 14  # frames in a clip; sides of a frame and of the digit in it, in pixels
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns
NUM_TRAIN, NUM_TEST = 4_000, 1_000
SEED = 20_250_102


@declares(lambda: Declared((digits.SIZE, digits.SIZE), digits.CLASSES))
def rows() -> Source:
    """Draw digits as signals of 28 steps (the rows) with 28 channels (the pixels of a row): uint8, N x 28 x 28."""
    source = digits.load()
    train, test = (
        InMemory(all_images(split)[:, 0].transpose(1, 2).contiguous(), split.labels) for split in (source.train, source.test)
    )
    return Source(train, test, source.classes)


@declares(lambda: Declared((1, FRAMES, SIZE, SIZE), tuple(DIRECTIONS)))
def moving() -> Source:
    """Draw clips of a half-size digit moving 1 or 2 pixels a frame: uint8, N x 1 x 8 x 28 x 28; the class is the direction."""
    random = np.random.RandomState(SEED)
    count = NUM_TRAIN + NUM_TEST
    labels, speeds = (torch.from_numpy(random.randint(low, high, count)) for low, high in ((0, 4), (1, 3)))
    drawn = torch.from_numpy(digits.draw(random.randint(0, 10, count), random)[:, None])
    tiles = F.avg_pool2d(drawn.float(), 2).round().to(torch.uint8)[:, 0]
    steps = torch.tensor(list(DIRECTIONS.values()))[labels] * speeds[:, None]
    corners, travel = torch.from_numpy(random.randint(0, SIZE - DIGIT + 1, (count, 2))), steps * (FRAMES - 1)
    corners = torch.minimum(torch.maximum(corners, -travel), SIZE - DIGIT - travel)  # the whole path stays within the frame
    clips = torch.stack([_placed(tiles, corners + steps * frame) for frame in range(FRAMES)], 1)[:, None]
    train, test = (InMemory(clips[span], labels[span]) for span in (slice(0, NUM_TRAIN), slice(NUM_TRAIN, None)))
    return Source(train, test, tuple(DIRECTIONS))


def _placed(tiles: Tensor, corners: Tensor) -> Tensor:
    """Place each tile (N x 14 x 14) in a black frame, its upper left corner at a row and column (N x 2): N x 28 x 28."""
    frames = tiles.new_zeros(len(tiles), SIZE, SIZE)
    rows, columns = (corners[:, side, None] + torch.arange(DIGIT) for side in (0, 1))
    frames[torch.arange(len(tiles))[:, None, None], rows[:, :, None], columns[:, None, :]] = tiles
    return frames
