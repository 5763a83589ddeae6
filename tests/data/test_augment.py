"""Pixels that hold their own coordinates tell where a sampler took them from."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Generator, Tensor

from cnnlab import composing
from cnnlab.composing import compose
from cnnlab.data import augment
from cnnlab.data.batches import augmentations

CHOICES = [name for name in composing.groups()["augment"] if name != "none"]


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def configured(name: str) -> Callable[[Tensor, Generator], Tensor]:
    """The augmentation that configs/augment/NAME.yaml describes."""
    (chosen,) = augmentations(compose([f"augment={name}"]).augment).values()
    return chosen.function


def random_images(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator(99))


def coordinates(count: int, side: int) -> Tensor:
    """Images whose channels are x and y from the center."""
    axis = torch.arange(side) - (side - 1) / 2
    return torch.stack([axis.expand(side, side), axis[:, None].expand(side, side)]).expand(count, 2, side, side)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_dtype_and_input_are_kept(name: str, channels: int, dtype: torch.dtype) -> None:
    images = random_images(6, channels, 28, 20).to(dtype)
    before = images.clone()
    result = configured(name)(images, generator())
    assert (result.shape, result.dtype) == (images.shape, dtype)
    assert torch.equal(images, before)
    assert not torch.equal(result, before)


@pytest.mark.parametrize("name", CHOICES)
def test_the_generator_alone_decides(name: str) -> None:
    images, augmentation, state = random_images(20, 3, 32, 32), configured(name), generator(1)
    torch.manual_seed(1)
    first = augmentation(images, state)
    assert not torch.equal(augmentation(images, state), first)
    torch.manual_seed(2)
    assert torch.equal(augmentation(images, generator(1)), first)
    assert not torch.equal(augmentation(images, generator(2)), first)
    assert torch.equal(augmentation(images.to(memory_format=torch.channels_last), generator(1)), first)


@pytest.mark.parametrize("name", CHOICES)
def test_each_image_has_its_own_draw_and_its_channels_share_it(name: str) -> None:
    images = random_images(1, 1, 32, 32).expand(20, 3, 32, 32)
    result = configured(name)(images, generator())
    assert len(torch.unique(result, dim=0)) > 1
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])


@pytest.mark.parametrize(
    "identity",
    [
        partial(augment.random_flip, probability=0.0),
        partial(augment.random_crop, padding=0),
        partial(augment.random_rotation, degrees=0.0),
        partial(augment.random_zoom, amount=0.0),
    ],
)
@pytest.mark.parametrize("side", [1, 6, 7])
def test_at_nothing_the_images_stay(identity: Callable[[Tensor, Generator], Tensor], side: int) -> None:
    images = random_images(5, 2, side, side + 2)
    assert torch.equal(identity(images, generator()), images)


OUT_OF_RANGE = {
    augment.random_flip: {"probability": [1.01, -0.01, math.nan]},
    augment.random_crop: {"padding": [-1, 6]},  # of images of 6 x 8
    augment.random_rotation: {"degrees": [-1.0, 180.5]},
    augment.random_zoom: {"amount": [1.0, -0.1]},
    augment.random_cutout: {"size": [0]},
}


@pytest.mark.parametrize("function", OUT_OF_RANGE)
def test_arguments_out_of_range(function: Callable[..., Tensor]) -> None:
    ((key, values),) = OUT_OF_RANGE[function].items()
    for value in values:
        with pytest.raises(ValueError, match=f"{key}={value}, expected"):
            function(random_images(2, 1, 6, 8), generator(), **{key: value})


def test_flip_by_hand() -> None:
    images = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8)
    assert augment.random_flip(images, generator(), 1.0).tolist() == [[[[3, 2, 1], [6, 5, 4]]]]


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
def test_flip_mirrors_that_share_of_the_images_and_leaves_the_others(probability: float) -> None:
    images = random_images(2000, 1, 2, 3)
    result = augment.random_flip(images, generator(), probability)
    turned = (result == images.flip(3)).flatten(1).all(1)
    kept = (result == images).flatten(1).all(1)
    assert (turned | kept).all()
    alike = (images == images.flip(3)).flatten(1).all(1)
    share = turned[~alike].double().mean()
    assert abs(share - probability) < 5 * (probability * (1 - probability) / 2000) ** 0.5


@pytest.mark.parametrize(
    ("side", "padding", "windows"),
    [((5, 6), 1, 3 * 3), ((4, 7), 3, 6 * 7), ((6, 5), 4, 9 * 8)],  # a side shifted fully is the same up and down: reversed
)
def test_crop_is_a_window_of_the_reflected_image(side: tuple[int, int], padding: int, windows: int) -> None:
    images = random_images(600, 2, *side)
    result = augment.random_crop(images, generator(), padding)
    padded = F.pad(images.double(), (padding,) * 4, mode="reflect").to(torch.uint8)
    offsets = []
    for image, crop in zip(padded, result, strict=True):
        places = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if torch.equal(image[:, top : top + side[0], left : left + side[1]], crop)
        ]
        assert places
        offsets.append(places[0])
    assert len(set(offsets)) == windows  # every shift occurs, of rows and columns independently


@pytest.mark.parametrize(("quarters", "cos", "sin"), [(1, 0.0, 1.0), (2, -1.0, 0.0), (3, 0.0, -1.0)])
@pytest.mark.parametrize("side", [4, 5])
def test_turning_by_quarters_equals_rot90(side: int, quarters: int, cos: float, sin: float) -> None:
    images = random_images(3, 2, side, side)
    matrices = torch.tensor([[cos, -sin], [sin, cos]]).expand(3, 2, 2)
    assert torch.equal(augment._sample(images, matrices), torch.rot90(images, quarters, (2, 3)))


def test_sampling_between_the_pixels_by_hand() -> None:
    # Centers at -1.5, -0.5, 0.5, 1.5; half of them is 0.75, 1.25, 1.75, 2.25 from the left: pixels 1, 1, 2, 2.
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    enlarged = augment._sample(image, torch.eye(2)[None] / 2)
    assert enlarged[0, 0].tolist() == [[5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10], [9, 9, 10, 10]]
    # Twice as far: -1.5, 0.5, 2.5, 4.5 from the left; the border is repeated.
    shrunk = augment._sample(image[..., 1:2, :].expand(1, 1, 4, 4), torch.eye(2)[None] * 2)
    assert shrunk[0, 0, :, 0].tolist() == [4] * 4
    assert shrunk[0, 0, :, 3].tolist() == [7] * 4


def nearest_matrices(result: Tensor, matrices: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    """For each image of coordinates: which matrix explains its `inner` pixels best, and by how much it misses the worst."""
    errors = torch.stack(
        [((matrix @ coordinates(1, inner.shape[1])[0].flatten(1)) - result.flatten(2)).abs().amax(1) for matrix in matrices]
    )
    error, best = errors[:, :, inner.flatten()].amax(2).min(0)
    return best, error


HALF_A_PIXEL = 0.5 + 0.06  # and the steps between the angles and factors tried


def test_rotation_turns_rigidly_by_up_to_the_angle() -> None:
    degrees, source = 30.0, coordinates(80, 21)
    angles = torch.linspace(-degrees, degrees, 121)
    cos, sin = angles.deg2rad().cos(), angles.deg2rad().sin()
    disc = source[0].square().sum(0).sqrt() < 10  # stays within the image at any angle
    result = augment.random_rotation(source, generator(), degrees)
    best, error = nearest_matrices(result, torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2), disc)
    assert error.max() < HALF_A_PIXEL
    found = angles[best]
    assert found.max() > 0.9 * degrees
    assert found.min() < -0.9 * degrees
    assert abs(found.mean()) < 5 * degrees / 3**0.5 / 80**0.5


def test_zoom_scales_both_sides_alike_by_up_to_the_amount() -> None:
    amount, source = 0.4, coordinates(80, 21)
    factors = torch.linspace(1 - amount, 1 + amount, 201)
    inner = (source[0].abs() < 10 * (1 - amount)).all(0)  # stays within the image when shrunk
    result = augment.random_zoom(source, generator(), amount)
    best, error = nearest_matrices(result, torch.eye(2) / factors[:, None, None], inner)
    assert error.max() < HALF_A_PIXEL
    found = factors[best]
    assert found.max() > 1 + 0.9 * amount
    assert found.min() < 1 - 0.9 * amount
    assert abs(found.mean() - 1) < 5 * amount / 3**0.5 / 80**0.5


@pytest.mark.parametrize(
    ("size", "extents"),
    [(1, {1}), (2, {1, 2}), (3, {2, 3}), (4, {2, 3, 4}), (16, {8})],  # of 8: what of the square lies inside, by hand
)
def test_cutout_blanks_one_square_cut_off_at_the_border(size: int, extents: set[int]) -> None:
    images = random_images(500, 3, 8, 8)
    result = augment.random_cutout(images, generator(), size)
    blank = result == 0
    assert torch.equal(blank, blank[:, :1].expand_as(blank))
    assert torch.equal(torch.where(blank, images, result), images)
    rows, columns = blank[:, 0].any(2), blank[:, 0].any(1)
    assert torch.equal(blank[:, 0], rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):
        assert set(side.sum(1).tolist()) == extents
        ends = F.pad(side.int(), (1, 1)).diff(dim=1).abs().sum(1)
        assert (ends == 2).all()  # one run without gaps
        assert side.any(0).all()  # every place is hit


def test_cutout_is_centred_on_a_pixel_of_the_image() -> None:
    images = torch.ones(2000, 1, 8, 8)
    blank = 1 - augment.random_cutout(images, generator(), 3)
    assert torch.allclose(blank.sum() / 2000, torch.tensor((22 / 8) ** 2), rtol=0.05)  # 3 of 8 rows, but 2 at either end


@pytest.mark.parametrize("size", [2, 3, 8])
def test_cutout_prefers_no_side(size: int) -> None:
    blank = (augment.random_cutout(torch.ones(20_000, 1, 8, 6), generator(), size) == 0)[:, 0].double()
    for side in (blank.amax(2).mean(0), blank.amax(1).mean(0)):  # how often each row, each column is hit
        torch.testing.assert_close(side, side.flip(0), rtol=0, atol=5 * (2 * 0.25 / 20_000) ** 0.5)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 13)])
def test_interpolation_is_scipy_s(height: int, width: int) -> None:
    """scipy's spline of order 1 with the border reflected as Keras does it, in float64; ours in float32."""
    images = torch.rand(3, 2, height, width, generator=generator(4), dtype=torch.float64) * 255
    angle = torch.tensor([0.3, -2.0, 0.0])
    turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    matrices = turned * torch.tensor([1.0, 0.7, 1.9])[:, None, None]  # the last shows 1.9 times the image
    found = augment._interpolate(images.float(), matrices)
    y, x = (axis - (len(axis) - 1) / 2 for axis in (torch.arange(height).double(), torch.arange(width).double()))
    for image, matrix, got in zip(images, matrices.double(), found, strict=True):
        a, b, c, d = matrix.flatten()
        columns = a * x + b * y[:, None] + (width - 1) / 2
        rows = c * x + d * y[:, None] + (height - 1) / 2
        for channel, values in zip(image, got, strict=True):
            expected = map_coordinates(channel.numpy(), [rows.numpy(), columns.numpy()], order=1, mode="reflect")
            torch.testing.assert_close(values.double(), torch.from_numpy(expected), rtol=0, atol=2e-3)


def test_keras_s_draws() -> None:
    """Its turns are shares of a full turn, its zooms shares of the image that is seen: uniform, both ways."""
    places = coordinates(4000, 9).float()
    turned = augment.keras_rotation(places, generator(), 0.1)[:, :, 4, 5]  # one pixel right of the center
    turns = torch.atan2(turned[:, 1], turned[:, 0]) / (2 * math.pi)
    seen = augment.keras_zoom(places, generator(), 0.2)[:, 0, 4, 5]
    for drawn, center, half in ((turns, 0.0, 0.1), (seen, 1.0, 0.2)):
        assert center - half <= drawn.min() < center - 0.95 * half
        assert center + 0.95 * half < drawn.max() <= center + half
        assert drawn.mean().item() == pytest.approx(center, abs=4 * half / math.sqrt(3 * 4000))  # four standard errors


@pytest.mark.parametrize("function", [augment.keras_rotation, augment.keras_zoom])
def test_keras_s_factors_out_of_range(function: Callable[..., Tensor]) -> None:
    images = random_images(1, 1, 4, 4)
    assert torch.equal(function(images, generator(), factor=0.0), images)
    for factor in (-0.1, 1.0):
        with pytest.raises(ValueError, match="factor"):
            function(images, generator(), factor=factor)
