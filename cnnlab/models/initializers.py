"""Initial weights of convolutions and dense layers; biases start at zero (except with `torch`)."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Initializer = Literal["glorot_uniform", "he", "normal", "torch"]


def initialize(network: nn.Module, initializer: Initializer, std: float) -> None:
    """Draw the weights of every convolution and Linear in `network` from the default generator, in the order of its modules.

    glorot_uniform: U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16; Keras's default).
    he: N(0, 2 / fan_in) (He et al. 2015, arXiv:1502.01852, section 2.2). normal: N(0, std^2). torch: torch's own defaults,
    biases included.
    """
    fill: dict[str, Callable[[Tensor], Tensor]] = {
        "glorot_uniform": nn.init.xavier_uniform_,
        "he": lambda weight: nn.init.normal_(weight, std=math.sqrt(2 / weight[0].numel())),
        "normal": lambda weight: nn.init.normal_(weight, std=std),
    }
    if initializer == "torch":
        return
    for module in network.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            fill[initializer](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
