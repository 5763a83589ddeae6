"""The network of another run, to be trained on other images."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from cnnlab.config import targets


def transferred(run: str, network: Mapping[str, Any], input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Build the network of `run` for images of another shape and another number of outputs.

    Args:
        run: the directory of the run. A new run takes from its checkpoint the layers that fit (`cnnlab.training.initial`);
            building the network does not read it.
        network: the `model` section of that run, which `cnnlab.composing.inherit` fills in.
        input_shape: C, H, W of the images.
        num_outputs: the number of logits.

    Raises:
        ConfigError: the network cannot be built for this shape and number.
    """
    built: nn.Module = targets.instantiate(network, "model.network", input_shape=input_shape, num_outputs=num_outputs)
    return built
