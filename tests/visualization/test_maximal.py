"""What activates a map most, of networks for which one can say it."""

import math

import torch
from torch import nn

from cnnlab.data import InMemory
from cnnlab.visualization import maximal


def bright_minus_dark() -> nn.Sequential:
    """One map: the first channel less the second."""
    network = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    return network


def test_gradient_ascent_ends_at_the_highest_image() -> None:
    made = maximal.made_for(bright_minus_dark(), "0", [0], (2, 8, 8))
    assert made.shape == (1, 2, 8, 8)
    assert made[0, 0].min() == 1
    assert made[0, 1].max() == 0


def test_the_images_with_the_highest_values_and_the_place_of_each() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Flatten(), nn.Linear(36, 2))
    nn.init.ones_(network[0].weight)
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    images[3, 0, 1:4, 2:5] = 255  # sums to 9 in the window at row 1, column 2
    images[1, 0, 6, 7] = 255  # 1, in the last window
    found = maximal.found_in(network, "0", [0], InMemory(images, torch.zeros(5, dtype=torch.int64)), 2, at_most=5)
    assert found[0].indices.tolist() == [3, 1]
    assert found[0].values.tolist() == [9, 1]
    assert found[0].boxes[0] == (1, 2, 4, 5)
    few = maximal.found_in(network, "0", [0], InMemory(images, torch.zeros(5, dtype=torch.int64)), 1, at_most=2)
    assert few[0].indices.tolist() == [0]  # of images 0 and 2, which are black


def test_blur_is_a_gaussian_that_keeps_the_sum() -> None:
    point = torch.zeros(1, 2, 21, 21)
    point[:, :, 10, 10] = 1
    smooth = maximal.blurred(point, 2.0)
    assert math.isclose(float(smooth[0, 0].sum()), 1, rel_tol=1e-5)
    ratio = float(smooth[0, 1, 10, 12] / smooth[0, 1, 10, 10])
    assert math.isclose(ratio, math.exp(-0.5), rel_tol=1e-5)
    assert torch.equal(maximal.blurred(point, 0.0), point)
