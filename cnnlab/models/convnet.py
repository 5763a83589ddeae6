"""A convolutional network built from a list of blocks, a head and hidden dense layers."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Literal, cast

from torch import Tensor, nn

from cnnlab.errors import ConfigError, GeometryError
from cnnlab.models.blocks import Block, check_rate, parse_block, parse_sides
from cnnlab.models.geometry import Padding, output_size
from cnnlab.models.initializers import Initializer, initialize
from cnnlab.models.layers import (
    ACTIVATIONS,
    BATCH_NORMS,
    CONVOLUTIONS,
    MONOTONE,
    POOLS,
    SAME_CONVOLUTIONS,
    Activation,
    GlobalAveragePool,
    GlobalMaxPool,
    dense_stack,
    require_count,
)

Head = Literal["flatten", "global_max", "global_average", "conv"]
AXES = {1: "C x L", 2: "C x H x W", 3: "C x D x H x W"}  # by the number of sides


class ConvNet(nn.Module):
    """Blocks of convolution, batch norm, activation, pooling and dropout; then the head, hidden dense layers, the output.

    Args:
        blocks: each a mapping with conv (filters), kernel (3), stride (1), padding (valid | same | full | zeros per side),
            pool (window), pool_stride (the window), pool_type (max | average), and dropout and batch_norm, which override
            those below; [height, width] where the two differ.
        input_shape: C, H, W of images; C, L of signals, for which the layers are one-dimensional; or C, D, H, W of clips and
            voxels, for which they are three-dimensional.
        num_outputs: the number of logits.
        head: flatten | global_max | global_average, followed by dense layers, or conv, a convolution to a map of logits, for
            images of any size.
        head_kernel: kernel size of the head conv; [height, width] where the two differ.
        hidden: widths of the hidden dense layers; none with head conv.
        activation: after every convolution and every hidden dense layer.
        dropout: the share of values set to zero after every block.
        hidden_dropout: the share of values set to zero after every hidden dense layer.
        batch_norm: after every convolution, before its activation, with torch's momentum 0.1 and eps 1e-5 (Keras has
            0.01, which it calls 0.99, and 1e-3).
        width_factor: scales the number of filters and the hidden widths, rounded, at least 1.
        initializer: how weights are drawn: glorot_uniform | he | normal | torch (its own defaults).
        initializer_std: the standard deviation of `normal`.

    Input shape: N x `input_shape`, float. Output shape: N x num_outputs.

    Raises:
        ConfigError: an invalid block or value. GeometryError: the image is too small for a layer.
    """

    def __init__(
        self,
        blocks: Sequence[Mapping[str, Any]],
        input_shape: tuple[int, ...],
        num_outputs: int,
        head: Head = "flatten",
        head_kernel: int | Sequence[int] = 1,
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
        if head != "conv" and head_kernel != 1:
            raise ConfigError(f"model.head_kernel={head_kernel}: has no meaning without model.head=conv")

        require_count(blocks, "blocks")

        def scaled(width: int) -> int:
            return max(1, round(width * width_factor))

        parsed = [parse_block(keys, f"model.blocks[{number}]", len(input_shape) - 1) for number, keys in enumerate(blocks)]
        parsed = [replace(block, conv=scaled(block.conv)) if block.conv else block for block in parsed]
        channels, num_sides = input_shape[0], len(input_shape) - 1
        window = parse_sides(head_kernel, "model.head_kernel", num_sides)
        last = [parse_block({"conv": num_outputs, "kernel": window}, "model.head", num_sides)] if head == "conv" else []
        sizes = walk([*parsed, *last], input_shape)
        self.blocks = nn.Sequential()
        for number, block in enumerate(parsed):
            normed = batch_norm if block.batch_norm is None else block.batch_norm
            rate = dropout if block.dropout is None else block.dropout
            self.blocks.add_module(str(number), _block(block, channels, num_sides, activation, normed, rate))
            channels = block.conv or channels
        self.input_shape, self.head_kind = input_shape, head
        self.head: nn.Module
        if head == "conv":
            self.head = CONVOLUTIONS[num_sides](channels, num_outputs, window)
        else:
            pools = {"flatten": nn.Flatten, "global_max": GlobalMaxPool, "global_average": GlobalAveragePool}
            features = channels * prod(sizes) if head == "flatten" else channels
            widths = [scaled(size) for size in hidden]
            dense = dense_stack(features, widths, num_outputs, activation, hidden_dropout)
            self.head = nn.Sequential(OrderedDict([("pool", pools[head]()), *dense.named_children()]))
        initialize(self, initializer, initializer_std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_outputs; with head conv, the mean of the map."""
        if self.head_kind == "conv":
            return self.logit_map(images).mean(tuple(range(2, images.ndim)))
        if self.head_kind == "flatten" and tuple(images.shape[1:]) != self.input_shape:
            expected, got = (" x ".join(map(str, shape)) for shape in (self.input_shape, images.shape[1:]))
            raise GeometryError(f"images of {got} ({AXES[images.ndim - 2]}): flatten and dense layers need {expected}")
        logits: Tensor = self.head(self.blocks(images))
        return logits

    def logit_map(self, images: Tensor) -> Tensor:
        """Class scores at each position, N x num_outputs x H' x W', for images of any size.

        With global pooling they are the dense layers applied to each position alone; with global_average and no hidden
        layers their mean is the logits (Zhou et al. 2016, arXiv:1512.04150).

        Raises:
            ConfigError: the head is flatten, which discards positions.
        """
        if self.head_kind == "flatten":
            raise ConfigError("model.head=flatten: gives no map of logits; convert the network first, with `cnnlab convert`")
        maps: Tensor = self.blocks(images)
        if isinstance(self.head, nn.Sequential):  # after the pooling
            return cast(Tensor, self.head[1:](maps.movedim(1, -1))).movedim(-1, 1)
        return cast(Tensor, self.head(maps))


def walk(blocks: Sequence[Block], input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sides after all blocks; for images, height and width.

    Raises:
        GeometryError: a window does not fit; the message lists the sizes of the layers up to it, and says
            which size would be enough.
    """
    try:
        return _sizes(blocks, input_shape)
    except GeometryError as error:
        channels, num_sides = input_shape[0], len(input_shape) - 1
        needed = next((size for size in range(1, 2049) if _fits(blocks, (channels, *[size] * num_sides))), None)
        mend = f"; folders: data.size={needed}" if num_sides == 2 else ""
        enough = f" ({' x '.join([str(needed)] * num_sides)} would do{mend})" if needed else ""
        raise GeometryError(f"{error}; use larger images{enough}, fewer or smaller layers, or padding") from None


def _fits(blocks: Sequence[Block], input_shape: tuple[int, ...]) -> bool:
    try:
        _sizes(blocks, input_shape)
    except GeometryError:
        return False
    return True


def _sizes(blocks: Sequence[Block], input_shape: tuple[int, ...]) -> tuple[int, ...]:
    channels, *sides = input_shape
    unpadded: tuple[Padding, ...] = (0,) * len(sides)
    trail = [_size(sides, channels)]
    for block in blocks:
        steps: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[Padding, ...], int]] = []
        if block.conv:
            steps.append((block.conv_name, block.kernel, block.stride, block.padding, block.conv))
        if block.pool:
            steps.append((block.pool_name, block.pool, block.pool_stride, unpadded, block.conv or channels))
        for name, window, stride, padding, filters in steps:
            result = [output_size(*side) for side in zip(sides, window, stride, padding, strict=True)]
            if min(result) < 1:
                fits = f"a window of {' x '.join(map(str, window))} does not fit into {' x '.join(map(str, sides))}"
                raise GeometryError(f"model: {' -> '.join(trail)} -> {name}: {fits}")
            sides, channels = result, filters
            trail += [name, _size(sides, channels)]
    return tuple(sides)


def _size(sides: Sequence[int], channels: int) -> str:
    return "x".join(map(str, (*sides, channels)))


def _block(
    block: Block, channels: int, num_sides: int, activation: Activation, batch_norm: bool, dropout: float
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if block.conv:
        if "same" in block.padding:
            layers["conv"] = SAME_CONVOLUTIONS[num_sides](channels, block.conv, block.kernel, block.stride)
        else:
            zeros = tuple(
                window - 1 if padding == "full" else 0 if padding == "valid" else int(padding)
                for window, padding in zip(block.kernel, block.padding, strict=True)
            )
            layers["conv"] = CONVOLUTIONS[num_sides](channels, block.conv, block.kernel, block.stride, zeros)
        if batch_norm:
            layers["norm"] = BATCH_NORMS[num_sides](block.conv)
        layers["activation"] = ACTIVATIONS[activation]()
    if block.pool:
        layers["pool"] = POOLS[block.pool_type][num_sides](block.pool, block.pool_stride)
        if "activation" in layers and block.pool_type == "max" and activation in MONOTONE:
            # The same values either way, but the activation then computes a quarter as many: 6 % of a Chollet epoch.
            layers.move_to_end("activation")
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(layers)
