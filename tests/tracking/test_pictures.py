"""Pictures by their pixels, and the order of what they show."""

import numpy as np
import pytest
import torch

from cnnlab import composing
from cnnlab.data.batches import epoch_order
from cnnlab.tracking import pictures
from cnnlab.training.session import build_session

CELL, BORDER = 52, 12  # of the confusion matrix, in pixels
WHITE, BLUE, RED = (255, 255, 255), (34, 94, 168), (203, 24, 29)


def test_confusion_is_shaded_by_the_share_of_the_row() -> None:
    # Rows: 4 of 4 right; 2 of 4 right and 2 called the third; 7 of 8 right and 1 called the first; a class without images.
    labels = torch.tensor([0] * 4 + [1] * 4 + [2] * 8)
    predicted = torch.tensor([0] * 4 + [1, 1, 2, 2] + [2] * 7 + [0])
    picture = pictures.confusion(labels, predicted, ["Ankle boot", "b", "c", "d"])
    side = picture.shape[0]
    assert (picture.dtype, picture.shape) == (np.uint8, (side, side, 3))

    def colour(row: int, column: int) -> tuple[int, ...]:
        return tuple(picture[side - BORDER - CELL * (4 - row) + 1, side - BORDER - CELL * (4 - column) + 1].tolist())

    assert colour(0, 0) == BLUE
    assert colour(1, 1) == tuple(round(255 + (end - 255) / 2) for end in BLUE)
    assert colour(1, 2) == RED  # mistakes are shaded four times as strongly, a share of 0.5 fully
    assert colour(2, 0) == tuple(round(255 + (end - 255) / 2) for end in RED)  # 4 / 8
    assert colour(0, 1) == colour(3, 3) == WHITE


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_each_image_enlarged_in_its_place(channels: int) -> None:
    images = torch.randint(256, (11, channels, 28, 28), generator=torch.Generator().manual_seed(12), dtype=torch.uint8)
    page = pictures.sheet(images)
    step = 3 * 28 + 6  # enlarged to 84 pixels, 6 between them
    assert (page.dtype, page.shape) == (np.uint8, (2 * step + 6, 8 * step + 6, 3))
    for number in range(11):
        y, x = 6 + number // 8 * step, 6 + number % 8 * step
        pixels = images[number].permute(1, 2, 0).expand(-1, -1, 3).numpy()
        assert (page[y : y + 84, x : x + 84] == np.kron(pixels, np.ones((3, 3, 1), np.uint8))).all(), number
    assert (page[6 + step :, 6 + 3 * step :] == 255).all()  # the rest of the second row


def test_captions_stand_below_their_images() -> None:
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    page = pictures.sheet(images, ["Shirt 0.98\nis Coat", "one line"])
    assert page.shape[0] == 6 + 84 + 6 + 2 * 19
    assert page[6 + 84 :].min() < 128


def test_captions_are_legible_where_tensorboard_shows_a_sheet_345_pixels_wide() -> None:
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    page = pictures.sheet(images, ["predicted\nSandal, 0.98\ntruth Ankle boot"] * 20)
    assert 16 * 345 / page.shape[1] > 10  # pixels a letter's height


@pytest.mark.parametrize(("count", "size", "side"), [(1, 1, 84), (1, 8, 80), (1, 300, 300), (100, 32, 96)])
def test_sheets_of_tiny_of_large_and_of_forty_images_at_most(count: int, size: int, side: int) -> None:
    page = pictures.sheet(torch.zeros(count, 1, size, size, dtype=torch.uint8))
    rows, columns = (1, 1) if count == 1 else (5, 8)
    assert page.shape == (rows * (side + 6) + 6, columns * (side + 6) + 6, 3)


def test_the_worst_mistakes_are_the_most_confident() -> None:
    labels, predicted = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 2, 1, 1, 0, 0])
    probability = torch.tensor([0.99, 0.5, 0.9, 0.7, 0.9, 0.4])
    worst, captions = pictures.worst_mistakes(labels, predicted, probability, ["Shirt", "Coat", "Bag"])
    assert worst.tolist() == [2, 4, 3, 1, 5]  # of two equals the first
    assert captions[0] == "predicted\nCoat, 0.90\ntruth Bag"


def test_no_mistakes_and_too_many() -> None:
    right = torch.arange(3)
    assert pictures.worst_mistakes(right, right, torch.ones(3), "abc")[0].tolist() == []
    worst, captions = pictures.worst_mistakes(torch.zeros(90).long(), torch.ones(90).long(), torch.linspace(0, 1, 90), "ab")
    assert worst.tolist() == list(range(89, 77, -1))
    assert len(captions) == 12


def test_the_worst_errors_are_the_largest_either_way() -> None:
    worst, captions = pictures.worst_errors(torch.tensor([2.0, 7.0, 5.0]), torch.tensor([2.5, 3.0, 8.25]))
    assert worst.tolist() == [1, 2, 0]
    assert captions == ["predicted 3.00\ntruth 7", "predicted 8.25\ntruth 5", "predicted 2.50\ntruth 2"]


def test_the_first_batch_is_what_the_network_sees_in_step_0() -> None:
    overrides = ["data=digits", "data.limit=60", "data.validation=0", "model=mlp", "augment=[rotation,crop]"]
    session = build_session(composing.typed(composing.compose([*overrides, "trainer.batch_size=50"])))
    shown = session.first_batch()
    seen: list[torch.Tensor] = []
    session.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    order = epoch_order(session.cfg.seed, 0, 60, torch.device("cpu"))
    session.step(order[:50], 0, 1.0)
    assert shown.dtype == torch.uint8
    assert torch.equal(shown, (seen[0] * 255).round().to(torch.uint8))
    assert not torch.equal(shown, session.data.train.gather(order[:50]))
