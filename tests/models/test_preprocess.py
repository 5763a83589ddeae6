"""Pixels to the network's input, against float64."""

import pytest
import torch
from torch import Tensor

from cnnlab.errors import DataError
from cnnlab.models.preprocess import Preprocess

PLAIN = torch.zeros(3), torch.ones(3)
NORMAL = torch.tensor([0.5, 0.25, 0.1]), torch.tensor([0.2, 0.3, 1.0])
FORMATS = [torch.contiguous_format, torch.channels_last]


def random_images(count: int = 8, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, channels, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("mean", "std"), [PLAIN, NORMAL, (torch.zeros(3), torch.full((3,), 2.0))])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_bytes_and_floats_are_normalised_alike(mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> None:
    images, preprocess = random_images(), Preprocess(mean, std, memory_format)
    expected = (images.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    for given in (images, images.double() / 255, images.float() / 255, (images.float() / 255).to(memory_format=memory_format)):
        before = given.clone()
        made = preprocess(given)
        assert made.dtype == torch.float32
        assert made.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(made, expected.float(), rtol=0, atol=3e-7 / float(std.min()))
        assert torch.equal(given, before)


@pytest.mark.parametrize(("mean", "std"), [PLAIN, NORMAL])
def test_bytes_are_divided_by_255_then_shifted_then_scaled_to_the_bit(mean: Tensor, std: Tensor) -> None:
    made = Preprocess(mean, std, torch.contiguous_format)(random_images())
    assert torch.equal(made, ((random_images().float() / 255) - mean.view(3, 1, 1)) / std.view(3, 1, 1))


def test_a_gradient_reaches_the_pixels() -> None:
    pixels = (random_images().float() / 255).requires_grad_()
    Preprocess(*NORMAL, torch.channels_last)(pixels).sum().backward()
    assert pixels.grad is not None
    torch.testing.assert_close(pixels.grad, (1 / NORMAL[1]).view(3, 1, 1).expand_as(pixels))


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (random_images(channels=1), "8 x 1 x 6 x 5"),
        (random_images()[0], "3 x 6 x 5"),
        (random_images().long(), "int64"),
        (random_images() > 9, "bool"),
    ],
)
def test_what_is_no_batch_of_such_images_is_refused(images: Tensor, got: str) -> None:
    with pytest.raises(DataError, match=got):
        Preprocess(*NORMAL, torch.channels_last)(images)
