"""Properties of the notes' networks before any training: parameters, receptive fields, the maps they make."""

from contextlib import suppress
from functools import cache

import torch
from torch import nn

from cnnlab.errors import GeometryError
from cnnlab.models import ConvNet, build_model
from cnnlab.models.inspection import WINDOWED, inspect_network
from scripts import ledger

FIELD_NETWORK = ("model=maxpool", "model.width_factor=0.125", "data=fashion")


@cache
def _built(shape: tuple[int, ...], *settings: str) -> nn.Module:
    """Build the network of these settings for images of C x H x W and ten classes, in evaluation mode."""
    return build_model(ledger.configuration(*settings).model, shape, 10, 0)[0].eval()


@cache
def parameters(name: str) -> int:
    """Return the number of parameters of a network of configs/model/ for CIFAR-10."""
    return inspect_network(_built((3, 32, 32), f"model={name}"), (3, 32, 32)).parameters


@cache
def receptive_fields() -> list[tuple[str, int, int]]:
    """Return for each convolution and pooling of FIELD_NETWORK its name and the side of what one output sees: by the formula,
    and by differentiating one output in the middle with respect to the image."""
    model = _built((1, 28, 28), *FIELD_NETWORK)
    assert isinstance(model, ConvNet)
    layers = {layer.name: layer for layer in inspect_network(model, (1, 28, 28)).layers}
    image, rows = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_(), []
    maps = image
    for number, block in enumerate(model.blocks):
        for name, module in block.named_children():
            # Averages instead of maxima and no ReLU: gradients at all pixels that could matter, not only those that do here.
            if isinstance(module, torch.nn.MaxPool2d):
                maps = torch.nn.functional.avg_pool2d(maps, module.kernel_size, module.stride)
            elif isinstance(module, WINDOWED):
                maps = module(maps)
            else:
                continue
            middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
            (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
            field = layers[f"blocks.{number}.{name}"].receptive_field
            assert field is not None
            rows.append((f"{name} {number + 1}", field[0], int((gradient[0, 0] != 0).any(1).sum())))
    return rows


@cache
def maps_of(side: int) -> tuple[tuple[int, ...], bool]:
    """Return the map that allconv makes of an image of `side` pixels, and whether LeNet, built for 28, takes it."""
    image = torch.zeros(1, 1, side, side)
    allconv, lenet = (_built((1, 28, 28), f"model={name}") for name in ("allconv", "lenet"))
    assert isinstance(allconv, ConvNet)
    with torch.no_grad():
        try:
            taken = bool(lenet(image).shape == (1, 10))
        except GeometryError:
            taken = False
        _, classes, height, width = allconv.logit_map(image).shape
    return (height, width, classes), taken


@cache
def accepts(name: str, side: int) -> bool:
    """Whether a network of configs/model/, built for CIFAR-10, takes an image of `side` pixels."""
    network = _built((3, 32, 32), f"model={name}")
    with torch.no_grad(), suppress(GeometryError, RuntimeError):  # torch's error for a window that does not fit
        return bool(network(torch.zeros(1, 3, side, side)).shape == (1, 10))
    return False


def smallest(name: str) -> int:
    """Return the smallest side, in pixels, of the images that a network takes."""
    return next(side for side in range(1, 33) if accepts(name, side))


@cache
def cost(*settings: str) -> tuple[int, int, int]:
    """Return multiplications for an image of 28 x 28 x 1, bytes that training keeps of it, and parameters of a network."""
    found = inspect_network(_built((1, 28, 28), *settings), (1, 28, 28))
    return sum(layer.multiplications for layer in found.layers), found.activation_bytes, found.parameters
