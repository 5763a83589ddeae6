import hashlib

import numpy as np
import pytest
import torch

from cnnlab.data import Source, all_images, digits


@pytest.fixture(scope="module")
def source() -> Source:
    np.random.seed(1)
    return digits.load()


def test_counts_and_classes(source: Source) -> None:
    for split, count in ((source.train, 12_000), (source.test, 2_000)):
        images = all_images(split)
        assert (images.shape, images.dtype) == ((count, 1, 28, 28), torch.uint8)
        assert (split.labels.shape, split.labels.dtype) == ((count,), torch.int64)
        sizes = torch.bincount(split.labels)
        assert len(sizes) == 10
        assert ((sizes - count / 10).abs() < 5 * (count * 0.09) ** 0.5).all()  # five standard deviations of chance
    assert source.classes == tuple("0123456789")


def test_the_bits_are_the_same_on_every_machine(source: Source) -> None:
    content = b"".join(all_images(split).numpy().tobytes() for split in (source.train, source.test))
    assert hashlib.blake2b(content, digest_size=16).hexdigest() == "1f051f4dea569a98550cc7364f189380"
    assert source.train.labels[:10].tolist() == np.random.RandomState(digits.SEED).randint(0, 10, 14_000)[:10].tolist()


def test_no_test_image_is_a_training_image(source: Source) -> None:
    train = {image.numpy().tobytes() for image in all_images(source.train)}
    assert len(train) == 12_000
    assert not any(image.numpy().tobytes() in train for image in all_images(source.test))


def test_the_images_show_their_labels(source: Source) -> None:
    """The mean image of each class already tells half of the test images apart; chance is a tenth."""
    train, test = (all_images(split).flatten(1).float() / 255 for split in (source.train, source.test))
    means = torch.stack([train[source.train.labels == digit].mean(0) for digit in range(10)])
    found = torch.cdist(test, means).argmin(1)
    assert (found == source.test.labels).double().mean() > 0.4
