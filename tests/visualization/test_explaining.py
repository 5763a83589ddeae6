"""Maps of what speaks for a class, against values worked out by hand and by brute force."""

import pytest
import torch
from torch import Tensor, nn

from cnnlab.visualization import explaining

GRAY = torch.tensor([0.5])


def linear_network() -> nn.Sequential:
    """A 1 x 1 convolution to two maps, 2 x and 1 - x; of the first the sum, of the second twice the sum speaks for class 1."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
        network[0].bias.copy_(torch.tensor([0.0, 1.0]))
        network[2].weight.copy_(torch.tensor([[0.0] * 8, [1.0] * 4 + [2.0] * 4]))
        network[2].bias.zero_()
    return network


def test_grad_cam_of_a_linear_network_by_hand() -> None:
    image = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    name, heat = explaining.grad_cam(linear_network(), image, 1)
    # The mean gradients are 1 and 2: 1 * 2 x + 2 * (1 - x) = 2, everywhere.
    assert name == "0"
    torch.testing.assert_close(heat, torch.full((2, 2), 2.0))
    _, none = explaining.grad_cam(linear_network(), image, 0)
    assert none.tolist() == [[0, 0], [0, 0]]


def test_grad_cam_weighs_maps_by_their_mean_gradient_and_cuts_off_what_speaks_against() -> None:
    network = linear_network()
    with torch.no_grad():  # class 1: the first map's places 4, 0, 0, 0, the second's -2 each
        network[2].weight[1] = torch.tensor([4.0, 0, 0, 0, -2, -2, -2, -2])
    image = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    _, heat = explaining.grad_cam(network, image, 1)
    # Mean gradients 1 and -2: 2 x - 2 (1 - x) = 4 x - 2.
    torch.testing.assert_close(heat, torch.tensor([[0.0, 0.0], [0.0, 2.0]]))


def test_one_logit_speaks_for_the_second_class_and_against_the_first() -> None:
    outputs = torch.tensor([[3.0], [-1.0]])
    assert explaining.class_score(outputs, 1).tolist() == [3, -1]
    assert explaining.log_odds(outputs, 0).tolist() == [-3, 1]


def test_log_odds_of_several_classes() -> None:
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    probability = outputs.softmax(1)[:, 2]
    torch.testing.assert_close(explaining.log_odds(outputs, 2), (probability / (1 - probability)).log())


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 2), (4, 4), (9, 1)])
def test_occlusion_is_the_mean_over_the_squares_that_cover_a_pixel(size: int, stride: int) -> None:
    weights = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(2))
    image = torch.rand(1, 5, 6, generator=torch.Generator().manual_seed(3))

    def score(images: Tensor) -> Tensor:
        return (images * weights).sum((1, 2, 3)) ** 2

    heat = explaining.occlusion(score, image, size, stride, GRAY)
    drops = torch.zeros(5, 6)
    times = torch.zeros(5, 6)
    tops = sorted({*range(0, max(0, 5 - size), stride), max(0, 5 - size)})
    lefts = sorted({*range(0, max(0, 6 - size), stride), max(0, 6 - size)})
    for top in tops:
        for left in lefts:
            covered = image.clone()
            covered[0, top : top + size, left : left + size] = 0.5
            drops[top : top + size, left : left + size] += score(image[None])[0] - score(covered[None])[0]
            times[top : top + size, left : left + size] += 1
    assert times.min() >= 1  # every pixel is covered
    torch.testing.assert_close(heat, drops / times)


def test_deletion_takes_the_highest_pixels_first() -> None:
    image = torch.tensor([[[1.0, 0.9], [0.8, 0.7]]])
    heat = torch.tensor([[0.1, 0.4], [0.3, 0.2]])
    curve = explaining.deletion_curve(lambda images: images.sum((1, 2, 3)), image, heat, torch.zeros(1), steps=4)
    torch.testing.assert_close(curve, torch.tensor([3.4, 2.5, 1.7, 1.0, 0.0]))


def test_the_area_is_the_trapezoids() -> None:
    check = explaining.Deletion(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert (check.area, check.random_areas) == (0.5, [0.75, 0.25])
    assert (check.as_low, check.means_something) == (1, False)  # one of the random orders is better


@pytest.mark.parametrize(("honest", "expected"), [(True, True), (False, False)])
def test_a_map_of_what_the_class_depends_on_means_something_and_the_opposite_does_not(honest: bool, expected: bool) -> None:
    image, matters = torch.ones(1, 12, 12), torch.zeros(12, 12)
    matters[2:5, 6:9] = 1

    def probability(images: Tensor) -> Tensor:
        return (images[:, 0] * matters).sum((1, 2)) / matters.sum()

    heat = matters if honest else 1 - matters
    check = explaining.deletion(probability, image, heat, (4, 4), torch.zeros(1))
    assert check.means_something is expected
    assert check.curve[[0, -1]].tolist() == [1, 0]
    again = explaining.deletion(probability, image, heat, (4, 4), torch.zeros(1))
    assert torch.equal(again.random_curves, check.random_curves)


def test_no_map_means_something_to_a_network_that_hardly_looks() -> None:
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(4))
    check = explaining.deletion(lambda images: 0.5 + 1e-4 * images.sum((1, 2, 3)), image, image[0], (4, 4), torch.zeros(1))
    assert check.area < min(check.random_areas)
    assert not check.means_something


def test_the_strongest_maps_in_order() -> None:
    maps = torch.tensor([1.0, -5.0, 0.0, 3.0]).view(4, 1, 1).expand(4, 2, 2)
    assert explaining.strongest(maps, 2) == [1, 3]
    assert explaining.strongest(maps, 9) == [0, 1, 2, 3]
