"""Conversion of a network with flatten and dense layers to an equivalent fully convolutional one, for images of any size.

A dense layer on maps of C x H x W is an H x W convolution without padding, whose output is 1 x 1; the dense layers after it
are 1 x 1 convolutions. (Long, Shelhamer and Darrell 2015, arXiv:1411.4038, section 3.1.)
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab.errors import ConfigError
from cnnlab.models.convnet import ConvNet
from cnnlab.models.mlp import MLP
from cnnlab.models.pretrained import Pretrained


def as_convolutions(
    section: Mapping[str, Any], network: nn.Module, input_shape: tuple[int, ...]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert a network; returns the `model` section of the convolutional network and its weights by name.

    Args:
        section: the config's `model`. network: the network built from it, with its weights. input_shape: of its images.

    Raises:
        ConfigError: a network without a flatten layer, or the user's own.
    """
    if isinstance(network, Pretrained) or (isinstance(network, ConvNet) and network.head_kind != "flatten"):
        name = network.name if isinstance(network, Pretrained) else f"model.head={network.head_kind}"
        raise ConfigError(f"{name}: has no flatten layer to convert; predict --map and evaluate data.size=N use it as it is")
    if not isinstance(network, ConvNet | MLP):
        raise ConfigError(f"model._target_={section['_target_']}: only a ConvNet with head=flatten and an MLP can be converted")
    body = network.blocks if isinstance(network, ConvNet) else nn.Sequential()
    with torch.no_grad():
        _, *sides = body(torch.zeros(1, *input_shape))[0].shape
    hidden = section.get("hidden", inspect.signature(type(network)).parameters["hidden"].default)
    dense = {"kernel": 1, "batch_norm": False, "dropout": section.get("hidden_dropout", 0.0)}
    blocks = [dict(block) for block in section.get("blocks", ())]
    made = [*blocks, *({"conv": width} | dense for width in hidden)]
    if hidden:
        made[len(blocks)]["kernel"] = sides
    changed = {"_target_": "cnnlab.models.ConvNet", "blocks": made, "head": "conv", "hidden": []}
    weights = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("blocks.")}
    names = [*(f"blocks.{len(blocks) + number}.conv" for number in range(len(hidden))), "head"]
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    for number, (name, layer) in enumerate(zip(names, layers, strict=True)):
        window = sides if number == 0 else [1] * len(sides)
        weights[f"{name}.weight"] = layer.weight.detach().reshape(layer.out_features, -1, *window)  # flattened as C x H x W
        weights[f"{name}.bias"] = layer.bias.detach()
    return {**section, **changed, "head_kernel": 1 if hidden else sides}, weights
