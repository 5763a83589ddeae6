"""What a data set is: uint8 images that live whole on the device, their labels, and the split into three parts."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """One part of a data set.

    images: uint8, N x C x H x W. labels: int64, N, the index of the class.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Images":
        """The images at `indices`, in that order."""
        return Images(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "Images":
        return Images(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Source:
    """What a `data.source` returns: the official parts, in the official order."""

    train: Images
    test: Images
    classes: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set ready for training.

    classes: the names. numbers: the label of each class as the source numbers it, which regression predicts. mean, std:
    what is subtracted from pixels / 255 and what divides it, float32, C; 0 and 1 without normalisation. train_digest,
    test_digest: of the source's images and labels of the chosen classes in their order, whatever the seed, the validation
    split and the limit; a resumed run tells by them that its data changed, a comparison that scores are of other images.
    """

    name: str
    train: Images
    validation: Images | None
    test: Images
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    mean: Tensor
    std: Tensor
    train_digest: str
    test_digest: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def parts(self) -> dict[str, Images]:
        """The parts by name; validation only where there is one."""
        held_out = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train} | held_out | {"test": self.test}
