"""The images on which an exported file is compared with its run, and on which int8 is calibrated."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cnnlab.data import DataSet, take
from cnnlab.data.sampling import spread
from cnnlab.data.splits import chunks
from cnnlab.opening import OpenedRun, run_data

AT_ONCE = 100
NUM_RANDOM = 1000  # if the run's data are missing
NUM_CALIBRATION = 500  # training images, evenly spaced


def compared_on(opened: OpenedRun, root: str | None) -> tuple[DataSet | None, str]:
    """Return the run's data, or None if they are missing, and a description of the images that are compared.

    root: where the data are now; None: where they were.

    Raises:
        CnnlabError: the data are not in `root`.
    """
    found = run_data(opened, root)
    if isinstance(found, str):
        return None, f"random images, as the run's own are missing ({found})"
    return found, f"test images of {found.name}"


def dtype_of(data: DataSet | None) -> torch.dtype:
    """Return the dtype of the images: uint8, or float32 if a custom source returns these."""
    return torch.uint8 if data is None else data.test.gather(torch.arange(1)).dtype


def test_batches(opened: OpenedRun, data: DataSet | None) -> Iterator[Tensor]:
    """Return batches of all test images, or of random images if there are no data."""
    if data is not None:
        return chunks(data.test, AT_ONCE)
    return iter(torch.split(_random(NUM_RANDOM, opened.description.input_shape, torch.uint8), AT_ONCE))


def of_sizes(opened: OpenedRun, sizes: list[tuple[int, ...]], dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield a batch of random images for each size."""
    for size in sizes:
        yield _random(4, (opened.description.input_shape[0], *size), dtype)


def calibration_batches(data: DataSet) -> Iterator[Tensor]:
    """Return batches of some of the training images."""
    return chunks(take(data.train, spread(len(data.train), NUM_CALIBRATION)), AT_ONCE)


def _random(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images if dtype == torch.uint8 else images.to(dtype) / 255
