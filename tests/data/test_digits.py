import hashlib
import time

import numpy as np
import pytest
import torch

from cnnlab.data import digits
from cnnlab.data.images import Source


@pytest.fixture(scope="module")
def source() -> Source:
    return digits.load()


def test_counts_and_classes(source: Source) -> None:
    for part, count in ((source.train, 12_000), (source.test, 2_000)):
        assert part.images.shape == (count, 1, 28, 28)
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.labels.shape == (count,)
        sizes = torch.bincount(part.labels)
        assert len(sizes) == 10
        assert ((sizes - count / 10).abs() < 5 * (count * 0.09) ** 0.5).all()  # five standard deviations of chance
    assert source.classes == tuple("0123456789")


def test_the_bits_are_the_same_on_every_machine(source: Source) -> None:
    content = source.train.images.numpy().tobytes() + source.test.images.numpy().tobytes()
    assert hashlib.blake2b(content, digest_size=16).hexdigest() == "1f051f4dea569a98550cc7364f189380"
    assert source.train.labels[:10].tolist() == np.random.RandomState(digits.SEED).randint(0, 10, 14_000)[:10].tolist()


def test_drawing_again_gives_the_same_images_in_less_than_3_s(source: Source) -> None:
    np.random.seed(1)
    started = time.perf_counter()
    again = digits.load()
    assert time.perf_counter() - started < 3
    for part, other in ((source.train, again.train), (source.test, again.test)):
        assert torch.equal(part.images, other.images)
        assert torch.equal(part.labels, other.labels)


def test_no_test_image_is_a_training_image(source: Source) -> None:
    train = {image.numpy().tobytes() for image in source.train.images}
    assert len(train) == 12_000
    assert not any(image.numpy().tobytes() in train for image in source.test.images)


def test_the_images_show_their_labels(source: Source) -> None:
    """The mean image of each class already tells half of the test images apart; chance is a tenth."""
    train, test = (part.images.flatten(1).float() / 255 for part in (source.train, source.test))
    means = torch.stack([train[source.train.labels == digit].mean(0) for digit in range(10)])
    found = torch.cdist(test, means).argmin(1)
    assert (found == source.test.labels).double().mean() > 0.4
