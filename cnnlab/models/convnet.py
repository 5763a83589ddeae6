"""The convolutional network: built from a list of blocks, a head and hidden dense layers."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from cnnlab.errors import ConfigError, GeometryError
from cnnlab.models.blocks import Block, check_rate, parse_block
from cnnlab.models.geometry import Padding, output_size
from cnnlab.models.initializers import Initializer, initialize
from cnnlab.models.layers import (
    ACTIVATIONS,
    MONOTONE,
    Activation,
    GlobalAveragePool2d,
    GlobalMaxPool2d,
    SameConv2d,
    dense_stack,
)

Head = Literal["flatten", "global_max", "global_average", "conv"]


class ConvNet(nn.Module):
    """Blocks of convolution, batch norm, activation, pooling and dropout; then the head, hidden dense layers, the output.

    Args:
        blocks: a list of convolutions and poolings, see `cnnlab.models.blocks`; their own dropout and batch_norm come first.
        input_shape: C, H, W of the images.
        num_outputs: logits.
        head: flatten | global_max | global_average, to dense layers; conv: a 1 x 1 convolution to a map of logits, for
            images of any size.
        hidden: widths of the hidden dense layers; none with head conv.
        activation: after every convolution and every hidden dense layer.
        dropout: after every block; hidden_dropout: after every hidden dense layer.
        batch_norm: after every convolution, before its activation, with torch's momentum 0.1 and eps 1e-5 (Keras: 0.01 in
            these terms, 0.99 in its own, and 1e-3).
        width_factor: scales the number of filters and the hidden widths, rounded, at least 1.
        initializer: how the weights start, see `cnnlab.models.initializers`; initializer_std: the deviation of `normal`.

    Input shape: N x C x H x W, float. Output shape: N x num_outputs.

    Raises:
        ConfigError: a block or a value that cannot be used. GeometryError: the image is too small for a layer.
    """

    def __init__(
        self,
        blocks: Sequence[Mapping[str, Any]],
        input_shape: tuple[int, int, int],
        num_outputs: int,
        head: Head = "flatten",
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        batch_norm: bool = False,
        width_factor: float = 1.0,
        initializer: Initializer = "glorot_uniform",
        initializer_std: float = 0.01,
    ) -> None:
        super().__init__()
        for rate, name in ((dropout, "dropout"), (hidden_dropout, "hidden_dropout")):
            check_rate(rate, f"model.{name}")
        if width_factor <= 0:
            raise ConfigError(f"model.width_factor={width_factor}: expected more than 0")
        if any(width < 1 for width in hidden):
            raise ConfigError(f"model.hidden={list(hidden)}: expected widths of 1 or more")
        if head == "conv" and hidden:
            raise ConfigError(f"model.hidden={list(hidden)}: head conv has no dense layers; use hidden=[]")

        def scaled(width: int) -> int:
            return max(1, round(width * width_factor))

        parsed = [parse_block(keys, f"model.blocks[{number}]") for number, keys in enumerate(blocks)]
        parsed = [replace(block, conv=scaled(block.conv)) if block.conv else block for block in parsed]
        sizes = walk(parsed, input_shape)
        channels = input_shape[0]
        self.blocks = nn.Sequential()
        for number, block in enumerate(parsed):
            normed = batch_norm if block.batch_norm is None else block.batch_norm
            rate = dropout if block.dropout is None else block.dropout
            self.blocks.add_module(str(number), _block(block, channels, activation, normed, rate))
            channels = block.conv or channels
        self.input_shape, self.head_kind = input_shape, head
        self.head: nn.Module
        if head == "conv":
            self.head = nn.Conv2d(channels, num_outputs, 1)
        else:
            height, width = sizes
            pools = {"flatten": nn.Flatten, "global_max": GlobalMaxPool2d, "global_average": GlobalAveragePool2d}
            features = channels * height * width if head == "flatten" else channels
            widths = [scaled(size) for size in hidden]
            dense = dense_stack(features, widths, num_outputs, activation, hidden_dropout)
            self.head = nn.Sequential(OrderedDict([("pool", pools[head]()), *dense.named_children()]))
        initialize(self, initializer, initializer_std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_outputs; with head conv, the mean of the map."""
        if self.head_kind == "conv":
            return self.logit_map(images).mean((2, 3))
        if self.head_kind == "flatten" and tuple(images.shape[1:]) != self.input_shape:
            expected, got = (" x ".join(map(str, shape)) for shape in (self.input_shape, images.shape[1:]))
            raise GeometryError(f"images of {got} (C x H x W): flatten and dense layers were built for {expected}")
        logits: Tensor = self.head(self.blocks(images))
        return logits

    def logit_map(self, images: Tensor) -> Tensor:
        """Class scores at each place, N x num_outputs x H' x W', for images of any size; with head conv only."""
        if self.head_kind != "conv":
            raise ConfigError(f"model.head={self.head_kind}: only head conv gives a map of logits")
        logits: Tensor = self.head(self.blocks(images))
        return logits


def walk(blocks: Sequence[Block], input_shape: tuple[int, int, int]) -> tuple[int, int]:
    """The height and width after all blocks.

    Raises:
        GeometryError: a window that does not fit; the message walks through the layers' sizes to it.
    """
    channels, *sides = input_shape
    trail = [_size(sides, channels)]
    for block in blocks:
        steps: list[tuple[str, tuple[int, int], tuple[int, int], tuple[Padding, Padding], int]] = []
        if block.conv:
            steps.append((block.conv_name, block.kernel, block.stride, block.padding, block.conv))
        if block.pool:
            steps.append((block.pool_name, block.pool, block.pool_stride, ("valid", "valid"), block.conv or channels))
        for name, window, stride, padding, filters in steps:
            result = [output_size(*side) for side in zip(sides, window, stride, padding, strict=True)]
            if min(result) < 1:
                fits = f"a window of {window[0]} x {window[1]} does not fit into {sides[0]} x {sides[1]}"
                raise GeometryError(
                    f"model: {' -> '.join(trail)} -> {name}: {fits}; use larger images, fewer or smaller layers, or padding"
                )
            sides, channels = result, filters
            trail += [name, _size(sides, channels)]
    return sides[0], sides[1]


def _size(sides: Sequence[int], channels: int) -> str:
    return f"{sides[0]}x{sides[1]}x{channels}"


def _block(block: Block, channels: int, activation: Activation, batch_norm: bool, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if block.conv:
        if block.padding == ("same", "same"):
            layers["conv"] = SameConv2d(channels, block.conv, block.kernel, block.stride)
        else:
            zeros = tuple(
                window - 1 if padding == "full" else 0 if padding == "valid" else int(padding)
                for window, padding in zip(block.kernel, block.padding, strict=True)
            )
            layers["conv"] = nn.Conv2d(channels, block.conv, block.kernel, block.stride, (zeros[0], zeros[1]))
        if batch_norm:
            layers["norm"] = nn.BatchNorm2d(block.conv)
        layers["activation"] = ACTIVATIONS[activation]()
    if block.pool:
        pool = nn.MaxPool2d if block.pool_type == "max" else nn.AvgPool2d
        layers["pool"] = pool(block.pool, block.pool_stride)
        if "activation" in layers and block.pool_type == "max" and activation in MONOTONE:
            # The same values either way, but the activation then works on a quarter of them: 6 % of a Chollet epoch.
            layers.move_to_end("activation")
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(layers)
