"""The images on which a file is compared with the run that it was made of, and on which int8 is calibrated."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cnnlab.data import DataSet, take
from cnnlab.data.sampling import spread
from cnnlab.data.splits import chunks
from cnnlab.opening import OpenedRun, run_data

AT_ONCE = 100
NUM_RANDOM = 1000  # where the run's data are not there
NUM_CALIBRATION = 500  # training images, evenly spaced


def compared_on(opened: OpenedRun, root: str | None) -> tuple[DataSet | None, str]:
    """The run's data, None where they are not there, and in words which images take part in the comparison.

    root: where they lie now; None: where they lay.

    Raises:
        CnnlabError: they are not in `root`.
    """
    found = run_data(opened, root)
    if isinstance(found, str):
        return None, f"random images, without the run's own ({found})"
    return found, f"test images of {found.name}"


def dtype_of(data: DataSet | None) -> torch.dtype:
    """Of the images: uint8, or float32 where a source of one's own gives these."""
    return torch.uint8 if data is None else data.test.gather(torch.arange(1)).dtype


def test_batches(opened: OpenedRun, data: DataSet | None) -> Iterator[Tensor]:
    """All test images; without data random ones."""
    if data is not None:
        return chunks(data.test, AT_ONCE)
    return iter(torch.split(_random(NUM_RANDOM, opened.description.input_shape, torch.uint8), AT_ONCE))


def of_sizes(opened: OpenedRun, sizes: list[tuple[int, ...]], dtype: torch.dtype) -> Iterator[Tensor]:
    """Random images, a batch a size."""
    for size in sizes:
        yield _random(4, (opened.description.input_shape[0], *size), dtype)


def calibration_batches(data: DataSet) -> Iterator[Tensor]:
    """Some training images."""
    return chunks(take(data.train, spread(len(data.train), NUM_CALIBRATION)), AT_ONCE)


def _random(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images if dtype == torch.uint8 else images.to(dtype) / 255
