"""The data sets of the lessons: every pixel where it should be."""

import torch

from cnnlab.data import idx
from scripts.lesson import sources


def test_shuffling_moves_every_pixel_of_every_image_alike(mnist: str) -> None:
    before, after = idx.load(mnist, False, "MNIST"), sources.shuffled(mnist, False, "MNIST")
    places = {int(image.argmax()) for part in (after.train, after.test) for image in part.images}
    assert len(places) == 1
    assert places != {13 * 28 + 14}
    assert torch.equal(after.train.images.flatten(1).sort().values, before.train.images.flatten(1).sort().values)
    assert after.train.labels.tolist() == [0, 1, 2, 3]


def test_the_canvas_is_black_around_the_middle(mnist: str) -> None:
    part = sources.on_canvas(mnist, False, "MNIST", 60).train
    assert part.images.shape == (4, 1, 60, 60)
    assert int(part.images[0].argmax()) == (13 + 16) * 60 + 14 + 16
    assert int((part.images > 0).sum()) == 4 * 28 * 28


def test_a_figure_stands_where_its_label_says(mnist: str) -> None:
    where, what = (sources.nine_places(mnist, False, "MNIST", label) for label in ("where", "what"))
    assert what.train.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(what.train.images, where.train.images)
    assert len(where.classes) == 9
    for image, place in zip(where.train.images[:, 0], where.train.labels.tolist(), strict=True):
        rows, columns = (torch.nonzero(image.any(axis)).flatten() for axis in (1, 0))
        assert (int(rows[0]), len(rows)) == (8 + 6 * (place // 3), 14)
        assert (int(columns[0]), len(columns)) == (8 + 6 * (place % 3), 14)
