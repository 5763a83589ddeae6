"""The ten digits, 28 x 28, drawn by the computer: a data set that needs no files or network, the same to the bit every time.

Each digit has several styles, each made of a few strokes. A style becomes a field of distances to its strokes; an image samples
that field through a random affine map, cuts it off at a random stroke width and adds noise. Only +, -, *, / and square roots,
which IEEE 754 defines to the bit, and numpy's frozen RandomState are used, so the pixels are the same on all machines.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from cnnlab.data.source import Declared, Source, declares
from cnnlab.data.splits import InMemory

CLASSES = tuple("0123456789")
NUM_TRAIN, NUM_TEST = 12_000, 2_000
SIZE = 28
GRID = 128  # cells of a distance field along each side, which spans -0.5 to 1.5 of the digit's box
SEED = 20_250_101

Stroke = list[tuple[float, float]]  # corners, x to the right and y down, the digit within 0 to 1

_OVAL: Stroke = [(0.5, 0), (0.85, 0.05), (0.92, 0.5), (0.85, 0.95), (0.5, 1), (0.15, 0.95), (0.08, 0.5), (0.15, 0.05)]
_NARROW: Stroke = [(0.5, 0), (0.75, 0.05), (0.75, 0.95), (0.5, 1), (0.25, 0.95), (0.25, 0.05)]
_SIX: Stroke = [(0.75, 0.03), (0.4, 0.08), (0.12, 0.5), (0.12, 0.95), (0.5, 1.05), (0.88, 0.92), (0.88, 0.55), (0.5, 0.42), (0.15, 0.66)]  # fmt: skip
_BOWL: Stroke = [(0.5, 0.45), (0.88, 0.5), (0.88, 0.95), (0.5, 1), (0.12, 0.95), (0.12, 0.5)]
_TOP: Stroke = [(0.5, 0), (0.82, 0.04), (0.82, 0.44), (0.5, 0.48), (0.18, 0.44), (0.18, 0.04)]
_BELLY: Stroke = [(0.45, 0.44), (0.92, 0.45), (0.92, 0.98), (0.5, 1.04), (0.1, 0.88)]


def _round(corners: Stroke, closed: bool = False) -> Stroke:
    """Round the corners by three passes of Chaikin's corner cutting; a closed curve returns to its start."""
    points = [*corners, corners[0]] if closed else corners
    for _ in range(3):
        cut = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in pairwise(points) for t in (0.25, 0.75)]
        points = [*cut, cut[0]] if closed else [points[0], *cut, points[-1]]
    return points


def _turned(stroke: Stroke) -> Stroke:
    """Rotate by half a turn: a 6 becomes a 9."""
    return [(1 - x, 1 - y) for x, y in stroke]


STYLES: tuple[tuple[list[Stroke], ...], ...] = (
    ([_round(_OVAL, True)], [_round(_NARROW, True)], [_round(_OVAL, True), [(0.75, 0.2), (0.25, 0.8)]]),
    ([[(0.5, 0), (0.5, 1)]], [[(0.28, 0.22), (0.52, 0), (0.52, 1)]], [[(0.3, 0.2), (0.5, 0), (0.5, 1)], [(0.25, 1), (0.75, 1)]]),
    (
        [_round([(0.12, 0.3), (0.15, 0), (0.88, 0), (0.88, 0.4), (0.45, 0.7), (0.12, 1)]), [(0.12, 1), (0.88, 1)]],
        [[(0.15, 0.05), (0.8, 0.05), (0.8, 0.25), (0.15, 1), (0.85, 1)]],
        [_round([(0.15, 0.2), (0.5, -0.1), (0.9, 0.25), (0.4, 0.95), (0.05, 0.95), (0.3, 0.7), (0.9, 1.05)])],
    ),
    (
        [_round([(0.12, 0.12), (0.5, -0.06), (0.88, 0.1), (0.85, 0.44), (0.45, 0.46)]), _round(_BELLY)],
        [[(0.15, 0), (0.82, 0), (0.45, 0.42)], _round(_BELLY)],
        [[(0.15, 0), (0.85, 0), (0.85, 1), (0.15, 1)], [(0.35, 0.48), (0.85, 0.48)]],
    ),
    (
        [[(0.3, 0), (0.12, 0.62), (0.9, 0.62)], [(0.66, 0.3), (0.66, 1)]],
        [[(0.66, 1), (0.66, 0), (0.08, 0.68), (0.92, 0.68)]],
        [[(0.18, 0), (0.18, 0.5), (0.8, 0.5)], [(0.8, 0), (0.8, 1)]],
    ),
    (
        [[(0.82, 0), (0.25, 0), (0.2, 0.42)], _round([(0.2, 0.42), (0.55, 0.32), (0.95, 0.5), (0.9, 0.98), (0.45, 1.05), (0.1, 0.88)])],
        [[(0.85, 0), (0.18, 0), (0.18, 0.46), (0.85, 0.46), (0.85, 1), (0.15, 1)]],
        [[(0.8, 0.02), (0.3, 0)], _round([(0.3, 0), (0.2, 0.5), (0.6, 0.35), (0.95, 0.7), (0.6, 1.05), (0.12, 0.92)])],
    ),
    ([_round(_SIX)], [_round(_BOWL, True), [(0.16, 0.7), (0.5, 0)]], [[(0.2, 0), (0.16, 0.72)], _round(_BOWL, True)]),
    (
        [[(0.12, 0), (0.88, 0), (0.4, 1)]],
        [[(0.12, 0), (0.88, 0), (0.4, 1)], [(0.32, 0.5), (0.8, 0.5)]],
        [[(0.14, 0.18), (0.14, 0), (0.86, 0)], _round([(0.86, 0), (0.55, 0.4), (0.5, 1)])],
    ),
    (
        [_round(_TOP, True), _round([(x, 0.48 + 0.52 * y) for x, y in _OVAL], True)],
        [_round([(0.85, 0.12), (0.5, -0.06), (0.1, 0.15), (0.5, 0.48), (0.95, 0.8), (0.5, 1.08), (0.05, 0.8), (0.5, 0.48), (0.85, 0.12)])],
        [_round([*_NARROW[:1], (0.8, 0.25), (0.5, 0.48), (0.2, 0.25)], True), _round([(0.5, 0.48), (0.9, 0.75), (0.5, 1), (0.1, 0.75)], True)],
    ),
    (
        [_turned(_round(_SIX))],
        [_turned(_round(_BOWL, True)), [(0.86, 0.25), (0.8, 1)]],
        [_turned(_round(_BOWL, True)), _round([(0.88, 0.25), (0.88, 0.98), (0.5, 1.05), (0.2, 0.92)])],
    ),
)  # fmt: skip


@declares(lambda: Declared((1, SIZE, SIZE), CLASSES))
def load() -> Source:
    """Draw the 12,000 training and 2,000 test images, in about a second."""
    random = np.random.RandomState(SEED)
    labels = random.randint(0, 10, NUM_TRAIN + NUM_TEST)
    images = torch.from_numpy(draw(labels, random)[:, None])
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = (InMemory(images[span], targets[span]) for span in (slice(0, NUM_TRAIN), slice(NUM_TRAIN, None)))
    return Source(train, test, CLASSES)


def draw(labels: NDArray[np.int64], random: np.random.RandomState) -> NDArray[np.uint8]:
    """Draw an image of each digit in `labels` (N) in a random style: uint8, N x 28 x 28."""
    fields = np.stack([[_distances(style) for style in styles] for styles in STYLES]).reshape(-1)
    images = np.empty((len(labels), SIZE, SIZE), np.uint8)
    for start in range(0, len(labels), 500):  # so that the intermediate arrays stay in the cache
        images[start : start + 500] = _draw_batch(labels[start : start + 500], fields, random)
    return images


def _draw_batch(labels: NDArray[np.int64], fields: NDArray[np.float32], random: np.random.RandomState) -> NDArray[np.uint8]:
    count = len(labels)

    def uniform(low: float, high: float) -> NDArray[np.float32]:
        return (low + (high - low) * random.random_sample(count)).astype(np.float32)[:, None, None]

    style = labels * len(STYLES[0]) + random.randint(0, len(STYLES[0]), count)
    # Rotation by up to 22 degrees through t = tan(angle / 2): cos = (1 - t^2) / (1 + t^2), sin = 2 t / (1 + t^2).
    t = uniform(-0.2, 0.2)
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    width, height = uniform(8.0, 17.0), uniform(14.0, 22.0)  # of the digit, in pixels
    slant, shift_x, shift_y = uniform(-0.25, 0.25), uniform(-3.5, 3.5), uniform(-3.0, 3.0)
    stroke, edge = uniform(0.6, 2.0), uniform(0.7, 1.6)  # half the stroke's width and its soft border, in pixels
    brightness, noise = uniform(0.45, 1.0), uniform(0.0, 0.45)

    pixel = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
    x, y = pixel[None, None, :] - shift_x, pixel[None, :, None] - shift_y
    turned_x, turned_y = cos * x + sin * y, cos * y - sin * x
    column = ((turned_x + slant * turned_y) / width + 1.0) * np.float32(GRID / 2)
    row = (turned_y / height + 1.0) * np.float32(GRID / 2)
    cell = np.clip(row, 0, GRID - 1).astype(np.int32) * GRID + np.clip(column, 0, GRID - 1).astype(np.int32)
    distance = fields[style.astype(np.int32)[:, None, None] * (GRID * GRID) + cell] * ((width + height) / 2)
    ink = np.clip((stroke - distance) / edge + np.float32(0.5), 0, 1) * brightness
    grain = np.frombuffer(random.bytes(count * SIZE * SIZE), np.uint8).reshape(count, SIZE, SIZE)
    gray = ink + noise * (grain.astype(np.float32) / np.float32(255) - np.float32(0.5))
    pixels: NDArray[np.uint8] = (np.clip(gray, 0, 1) * np.float32(255)).astype(np.uint8)
    return pixels


def _distances(strokes: list[Stroke]) -> NDArray[np.float32]:
    """Compute the distance from each cell's center to the nearest stroke, in units of the digit's box: GRID x GRID."""
    axis = (np.arange(GRID) + 0.5) * (2.0 / GRID) - 0.5
    x, y = axis[None, :], axis[:, None]
    nearest = np.full((GRID, GRID), np.inf)
    for stroke in strokes:
        for (ax, ay), (bx, by) in pairwise(stroke):
            dx, dy = bx - ax, by - ay
            along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-12), 0, 1)
            squared = (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2
            np.minimum(nearest, squared, out=nearest)
    distances: NDArray[np.float32] = np.sqrt(nearest).astype(np.float32)
    return distances
