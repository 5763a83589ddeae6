"""Inspection of any network by running it on blank images: sizes, counts, receptive fields, memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from cnnlab.models.geometry import conv_multiplications, left_over, padding_amounts, receptive_field
from cnnlab.models.layers import CONVOLUTIONS, POOLS, SAME_CONVOLUTIONS, GlobalAveragePool, GlobalMaxPool

WINDOWED: tuple[type[nn.Module], ...] = (*CONVOLUTIONS.values(), *(kind for kinds in POOLS.values() for kind in kinds.values()))
SEES_ALL = (nn.Linear, nn.Flatten, GlobalMaxPool, GlobalAveragePool)  # of their input


@dataclass
class Layer:
    """One call of a module without children.

    name: its path in the network. kind: its class. output: the shape for one image. counted: how the parameters are counted.
    receptive_field: its sides in pixels of the image, height first; None if branches or unknown operations hide it.
    left_over: how many pixels at the end of each side of the input no window reaches: rows and columns.
    sizing: the calculation of each side of the output, "(28 - 5 + 2 x 2) / 1 + 1 = 28"; multiplied: that of the
    multiplications; dense: the weights that a dense layer would need in a convolution's place. Empty or 0 where they do not
    apply. strides_past: it has a stride, but its input is a single pixel.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    counted: str
    multiplications: int
    receptive_field: tuple[int, ...] | None
    left_over: tuple[int, ...]
    sizing: tuple[str, ...]
    multiplied: str
    dense: int
    strides_past: bool


@dataclass
class Inspection:
    """A network's layers in the order called, and its totals. activation_bytes: kept for the backward pass, per image."""

    layers: list[Layer]
    parameters: int
    trainable: int
    activation_bytes: int


def inspect_network(model: nn.Module, input_shape: tuple[int, ...], bf16: bool = False) -> Inspection:
    """Run `model` on blank images of C x H x W and report every layer; bf16: measure activations under autocast."""
    layers, trained = layers_of(model, input_shape), model.training
    saved = [_saved_bytes(model, input_shape, count, bf16) for count in (2, 3)]
    model.train(trained)
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return Inspection(layers, total, trainable, saved[1] - saved[0])


def layers_of(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Run `model` on a blank image of C x H x W in evaluation mode, on its device; return its layers in the order called."""
    trace, trained = _Trace(), model.training
    device = next((parameter.device for parameter in model.parameters()), None)
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(trace.hook(name)) for name, module in leaves]
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *input_shape, device=device))
    for hook in hooks:
        hook.remove()
    model.train(trained)
    return trace.layers


def _saved_bytes(model: nn.Module, input_shape: tuple[int, ...], count: int, bf16: bool) -> int:
    """Bytes that autograd keeps for the backward pass of `count` images, without parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    alive = []  # so that no address is reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    model.train()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), autocast, hooks:
        model(torch.zeros(count, *input_shape))
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])  # batch norm moved its running statistics
    return sum(kept.values())


Fields = tuple[tuple[int, int], ...]  # (size, jump) of each side


class _Trace:
    """Collects the layers and follows the receptive field from tensor to tensor.

    A tensor that is not the output of a layer (the sum of a residual connection, a concatenation, a functional activation) is
    assumed to come from the outputs not yet used, if their shapes allow it; it sees what the widest of them sees.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.fields: dict[int, Fields | None] = {}
        self.unused: dict[int, Tensor] = {}
        self.alive: list[Tensor] = []  # so that no id() is reused

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def called(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                self.layers.append(self._layer(name, module, inputs[0], output))

        return called

    def _layer(self, name: str, module: nn.Module, given: Tensor, output: Tensor) -> Layer:
        if id(given) not in self.fields:
            self.fields[id(given)] = self._origin(given)
        self.unused.pop(id(given), None)
        fields = _through(module, given, output, self.fields[id(given)])
        self.fields[id(output)] = fields
        self.unused[id(output)] = output
        self.alive += [given, output]
        parameters = sum(parameter.numel() for parameter in module.parameters())
        counted, multiplications, multiplied = _counts(module, output)
        sees = tuple(size for size, _ in fields) if fields else None
        spare = _left_over(module, given)
        shape = tuple(output.shape[1:])
        windowed = isinstance(module, WINDOWED) and given.ndim > 2
        sizing = _sizing(module, given, output) if windowed else ()
        dense = prod(given.shape[1:]) * prod(shape) if isinstance(module, _ConvNd) else 0
        past = windowed and prod(given.shape[2:]) == 1 and max(_sides(module.stride, given.ndim - 2)) > 1
        kind = type(module).__name__
        return Layer(name, kind, shape, parameters, counted, multiplications, sees, spare, sizing, multiplied, dense, past)

    def _origin(self, given: Tensor) -> Fields | None:
        """The fields of a tensor that is not the output of a layer; the first such is the image itself."""
        if not self.layers:
            return ((1, 1),) * (given.ndim - 2)
        alike = [out for out in self.unused.values() if out.ndim == given.ndim and out.shape[2:] == given.shape[2:]]
        channels = {out.shape[1] for out in alike}
        added, joined = channels == {given.shape[1]}, sum(out.shape[1] for out in alike) == given.shape[1]
        if alike and (added or joined):
            found = [self.fields[id(out)] for out in alike]
        else:  # flattened by a function
            flat = [out for out in self.unused.values() if given.ndim == 2 and out.ndim > 2 and out.numel() == given.numel()]
            alike, found = flat, [_seeing_all(self.fields[id(out)], out) for out in flat]
        for out in alike:
            del self.unused[id(out)]
        known = [fields for fields in found if fields is not None]
        if not known or len(known) < len(found):
            return None
        return tuple(max(side) for side in zip(*known, strict=True))


def _through(module: Any, given: Tensor, output: Tensor, fields: Fields | None) -> Fields | None:
    """The fields of a layer's output, given those of its input."""
    if fields is None:
        return None
    if isinstance(module, WINDOWED) and given.ndim > 2:
        sides = zip(fields, _window(module, len(fields)), _sides(module.stride, len(fields)), strict=True)
        return tuple(receptive_field(*side, window, stride) for side, window, stride in sides)
    has_sides = given.ndim - 2 == len(fields)  # not so the tokens of a transformer
    if has_sides and (isinstance(module, SEES_ALL) or prod(output.shape[2:]) == 1):
        return _seeing_all(fields, given)
    if has_sides and output.shape[2:] != given.shape[2:]:
        return None  # upsampling and the like
    return fields


def _seeing_all(fields: Fields | None, given: Tensor) -> Fields | None:
    """The fields of an output that sees every position of `given`, N x C x sides."""
    if fields is None:
        return None
    return tuple(receptive_field(*side, size, 1) for side, size in zip(fields, given.shape[2:], strict=True))


def _counts(module: Any, output: Tensor) -> tuple[str, int, str]:
    """How a layer's parameters are counted, its multiplications for one image, and how those are counted."""
    if isinstance(module, _ConvNd):
        channels = module.in_channels // module.groups
        bias = " + 1" if module.bias is not None else ""
        counted = f"{module.out_channels} x ({_times((channels, *module.kernel_size))}{bias})"
        factors = (*module.kernel_size, channels, *output.shape[2:], module.out_channels)
        product = conv_multiplications(channels, module.out_channels, module.kernel_size, output.shape[2:])
        return counted, product, f"{_times(factors)} = {product:,}"
    if isinstance(module, nn.Linear):
        bias = " + 1" if module.bias is not None else ""
        product = module.in_features * output[0].numel()
        counted = f"{module.out_features} x ({module.in_features}{bias})"
        return counted, product, f"{_times((module.in_features, *output.shape[1:]))} = {product:,}"
    return " + ".join(_times(parameter.shape) for parameter in module.parameters()), 0, ""


def _sizing(module: Any, given: Tensor, output: Tensor) -> tuple[str, ...]:
    """The calculation of each side of the output of a convolution or pooling, written as in the lecture notes."""
    windows, strides = _window(module, given.ndim - 2), _sides(module.stride, given.ndim - 2)
    texts = []
    for size, window, (before, after), stride, made in zip(
        given.shape[2:], windows, zeros(module, given), strides, output.shape[2:], strict=True
    ):
        added = f" + 2 x {before}" if before == after > 0 else f" + {before} + {after}" if before + after else ""
        steps = (size - window + before + after) / stride + 1
        exact = "" if steps == made else f"{steps:.2f}, rounded {'down' if steps > made else 'up'}: "
        texts.append(f"({size} - {window}{added}) / {stride} + 1 = {exact}{made}")
    return tuple(texts)


def _times(factors: Sequence[int]) -> str:
    return " x ".join(map(str, factors))


def _left_over(module: Any, given: Tensor) -> tuple[int, ...]:
    """The pixels, zeros included, at the end of each side of the input that no window reaches."""
    if not isinstance(module, WINDOWED) or given.ndim < 3 or getattr(module, "ceil_mode", False):
        return (0,) * max(given.ndim - 2, 0)
    sides = zip(
        given.shape[2:],
        zeros(module, given),
        _window(module, given.ndim - 2),
        _sides(module.stride, given.ndim - 2),
        strict=True,
    )
    return tuple(left_over(size + sum(pair), window, stride) for size, pair, window, stride in sides)


def zeros(module: Any, given: Tensor) -> list[tuple[int, int]]:
    """The zeros before and after each side of the input of a convolution or pooling."""
    num_sides = given.ndim - 2
    if isinstance(module, tuple(SAME_CONVOLUTIONS.values())) or module.padding == "same":
        sides = zip(given.shape[2:], _window(module, num_sides), _sides(module.stride, num_sides), strict=True)
        return [padding_amounts(*side, "same") for side in sides]
    if module.padding == "valid":
        return [(0, 0)] * num_sides
    return [(amount, amount) for amount in _sides(module.padding, num_sides)]


def _window(module: Any, num_sides: int) -> tuple[int, ...]:
    """The pixels that one output sees along each side of the input, dilation included."""
    sides = zip(_sides(module.kernel_size, num_sides), _sides(getattr(module, "dilation", 1), num_sides), strict=True)
    return tuple(dilation * (kernel - 1) + 1 for kernel, dilation in sides)


def _sides(value: Any, num_sides: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * num_sides
