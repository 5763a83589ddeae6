"""The module in front of a network that turns an image's pixels into the network's input."""

import torch
from torch import Tensor, nn

from cnnlab.errors import DataError


class Preprocess(nn.Module):
    """Scale pixels to floats from 0 to 1, subtract the channel means and divide by the standard deviations.

    Args:
        mean, std: float32, C; zeros and ones leave the pixels unchanged.
        memory_format: of the output, as the network takes it.

    Input shape: N x C x H x W, uint8, or floats that are pixels from 0 to 1; signals, clips and voxels have other sides than
    H x W; features are floats of any range, N x C x any sides. Output shape: the same, float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.memory_format = memory_format
        self.normalizes = bool((mean != 0).any() or (std != 1).any())

    def forward(self, images: Tensor) -> Tensor:
        """
        Raises:
            DataError: the wrong number of dimensions or channels, or integers other than uint8.
        """
        layout = self.memory_format if images.ndim == 4 else torch.preserve_format
        if images.ndim < (2 if images.is_floating_point() else 3) or images.shape[1] != len(self.mean):
            got = " x ".join(map(str, images.shape))
            raise DataError(f"images of {got}: expected N x {len(self.mean)} x H x W (images, channels, height, width)")
        if images.dtype == torch.uint8:
            pixels = images.to(torch.float32, memory_format=layout).div_(255)
        elif images.is_floating_point():
            pixels = images.to(torch.float32, memory_format=layout, copy=self.normalizes)
        else:
            raise DataError(f"images of {images.dtype}: expected torch.uint8, or floats from 0 to 1")
        if self.normalizes:
            shape = (-1, *[1] * (images.ndim - 2))
            pixels.sub_(self.mean.view(shape)).div_(self.std.view(shape))
        return pixels
