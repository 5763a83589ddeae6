"""The multilayer perceptron, the baseline without convolutions."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from cnnlab.errors import ConfigError
from cnnlab.models.blocks import check_rate
from cnnlab.models.initializers import Initializer, initialize
from cnnlab.models.layers import Activation, dense_stack


class MLP(nn.Module):
    """A multilayer perceptron: flatten, hidden dense layers, the output.

    Args:
        input_shape: C, H, W of the images, or any other shape.
        num_outputs: the number of logits.
        hidden: widths of the hidden dense layers.
        activation: after each hidden layer.
        hidden_dropout: the share of values set to zero after each activation.
        initializer: how weights are drawn: glorot_uniform | he | normal | torch (its own defaults).
        initializer_std: the standard deviation of `normal`.

    Input shape: N x `input_shape`, float. Output shape: N x num_outputs.

    Raises:
        ConfigError: an invalid value.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        hidden: Sequence[int] = (128,),
        activation: Activation = "relu",
        hidden_dropout: float = 0.0,
        initializer: Initializer = "glorot_uniform",
        initializer_std: float = 0.01,
    ) -> None:
        super().__init__()
        check_rate(hidden_dropout, "model.hidden_dropout")
        if any(width < 1 for width in hidden):
            raise ConfigError(f"model.hidden={list(hidden)}: expected widths of 1 or more")
        self.flatten = nn.Flatten()
        self.dense = dense_stack(prod(input_shape), hidden, num_outputs, activation, hidden_dropout)
        initialize(self, initializer, initializer_std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_outputs."""
        logits: Tensor = self.dense(self.flatten(images))
        return logits
