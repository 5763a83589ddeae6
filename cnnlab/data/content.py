"""The digest of a split, and the mean and standard deviation of its channels, computed in chunks."""

import hashlib
from math import prod

import torch
from torch import Tensor

from cnnlab.data.splits import Split, chunks
from cnnlab.errors import ConfigError

CHUNK_BYTES = 1 << 24  # of uint8 images read at a time


def digest(*splits: Split) -> str:
    """Hash the bytes of all images and then all labels, in order, split by split, to 16 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=8)
    for split in splits:
        for chunk in chunks(split, _chunk_size(split)):
            made.update(chunk.cpu().contiguous().numpy().data)
        made.update(split.labels.contiguous().numpy().data)
    return made.hexdigest()


def channel_statistics(split: Split) -> tuple[Tensor, Tensor]:
    """Compute the mean and standard deviation of pixels / 255 for each channel: float32, C.

    Histograms make them exact to float64. The standard deviation of a constant channel is given as 1.

    Raises:
        ConfigError: the images are not uint8.
    """
    counts = torch.zeros(split.shape[0], 256, dtype=torch.int64)
    for chunk in chunks(split, _chunk_size(split)):
        if chunk.dtype != torch.uint8:
            raise ConfigError(f"data.normalize=true: needs torch.uint8 images, but these are {chunk.dtype}; leave it out")
        for histogram, channel in zip(counts, chunk.cpu().unbind(1), strict=True):
            histogram += torch.bincount(channel.flatten(), minlength=256)
    means, stds = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for histogram in counts:
        share = histogram.double() / histogram.sum()
        mean = (share * values).sum()
        means.append(mean)
        stds.append((share * (values - mean) ** 2).sum().sqrt())
    std = torch.stack(stds)
    return torch.stack(means).float(), torch.where(std > 0, std, 1.0).float()


def _chunk_size(split: Split) -> int:
    return max(1, CHUNK_BYTES // prod(split.shape))
