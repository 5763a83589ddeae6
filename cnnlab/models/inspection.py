"""What any network consists of, found by running it once on blank images: sizes, counts, receptive fields, memory."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab.models.geometry import conv_multiplications, left_over, padding_amounts, receptive_field
from cnnlab.models.layers import GlobalAveragePool2d, GlobalMaxPool2d, SameConv2d

WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
SEES_ALL = (nn.Linear, nn.Flatten, GlobalMaxPool2d, GlobalAveragePool2d)  # every position of their input


@dataclass
class Layer:
    """One call of a module without children.

    name: its place in the network. kind: its class. output: the shape for one image. counted: how the parameters come
    about. receptive_field: height and width in pixels of the image, None where branches or foreign operations hide it.
    left_over: rows and columns at the input's end that no window reaches.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    counted: str
    multiplications: int
    receptive_field: tuple[int, int] | None
    left_over: tuple[int, int]


@dataclass
class Inspection:
    """layers in the order of their calls. activation_bytes: what the backward pass of one more image needs kept."""

    layers: list[Layer]
    parameters: int
    trainable: int
    activation_bytes: int


def inspect_network(model: nn.Module, input_shape: tuple[int, int, int]) -> Inspection:
    """Run `model` on blank images of C x H x W and report every layer."""
    trace = _Trace(input_shape)
    hooks = [
        module.register_forward_hook(trace.hook(name)) for name, module in model.named_modules() if not list(module.children())
    ]
    trained = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *input_shape))
    for hook in hooks:
        hook.remove()
    saved = [_saved_bytes(model, input_shape, count) for count in (2, 3)]
    model.train(trained)
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return Inspection(trace.layers, total, trainable, saved[1] - saved[0])


def _saved_bytes(model: nn.Module, input_shape: tuple[int, int, int], count: int) -> int:
    """Bytes that autograd keeps for the backward pass of `count` images, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    model.train()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(count, *input_shape))
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])  # batch norm moved its running statistics
    return sum(kept.values())


class _Trace:
    """Collects the layers and follows the receptive field along the chain of calls."""

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        self.layers: list[Layer] = []
        self.seen: dict[int, Tensor] = {}  # every layer's output, kept alive
        self.latest: tuple[int, ...] = (1, *input_shape)
        self.fields: tuple[tuple[int, int], tuple[int, int]] | None = ((1, 1), (1, 1))  # (size, jump) of each side

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def called(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                self.layers.append(self._layer(name, module, inputs[0], output))

        return called

    def _layer(self, name: str, module: nn.Module, given: Tensor, output: Tensor) -> Layer:
        is_latest = not self.seen or id(given) == next(reversed(self.seen))
        if (id(given) in self.seen and not is_latest) or (self.fields and not self._continues(given)):
            self.fields = None  # a branch, or an operation outside any layer that changed the shape
        self.seen[id(output)] = output
        self.latest = tuple(output.shape)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        spare = (0, 0)
        if isinstance(module, WINDOWED) and given.ndim == 4:
            window, stride = _pair(module.kernel_size), _pair(module.stride)
            if self.fields:
                height, width = (
                    receptive_field(*side, size, move) for side, size, move in zip(self.fields, window, stride, strict=True)
                )
                self.fields = (height, width)
            spare = _left_over(module, given, window, stride)
        elif self.fields and given.ndim == 4 and isinstance(module, SEES_ALL):
            height, width = (receptive_field(*side, size, 1) for side, size in zip(self.fields, given.shape[2:], strict=True))
            self.fields = (height, width)
        seen = (self.fields[0][0], self.fields[1][0]) if self.fields else None
        counted, multiplications = _counts(module, output)
        return Layer(name, type(module).__name__, tuple(output.shape[1:]), parameters, counted, multiplications, seen, spare)

    def _continues(self, given: Tensor) -> bool:
        return tuple(given.shape) == self.latest or (given.ndim == 2 and given.numel() == prod(self.latest))


def _counts(module: nn.Module, output: Tensor) -> tuple[str, int]:
    """How a layer's parameters come about, and its multiplications for one image."""
    if isinstance(module, nn.Conv2d):
        (height, width), channels = _pair(module.kernel_size), module.in_channels // module.groups
        bias = " + 1" if module.bias is not None else ""
        counted = f"{module.out_channels} x ({channels} x {height} x {width}{bias})"
        sides = (output.shape[2], output.shape[3])
        return counted, conv_multiplications(channels, module.out_channels, (height, width), sides)
    if isinstance(module, nn.Linear):
        bias = " + 1" if module.bias is not None else ""
        return f"{module.out_features} x ({module.in_features}{bias})", module.in_features * output[0].numel()
    shapes = [" x ".join(map(str, parameter.shape)) for parameter in module.parameters()]
    return " + ".join(shapes), 0


def _left_over(module: nn.Module, given: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    if isinstance(module, SameConv2d):
        zeros = [padding_amounts(n, f, s, "same") for n, f, s in zip(given.shape[2:], window, stride, strict=True)]
        sides = [(n + sum(z), f, s) for n, z, f, s in zip(given.shape[2:], zeros, window, stride, strict=True)]
    else:
        padding = _pair(module.padding) if not isinstance(module.padding, str) else (0, 0)
        sides = [(n + 2 * p, f, s) for n, p, f, s in zip(given.shape[2:], padding, window, stride, strict=True)]
    height, width = (left_over(*side) for side in sides)
    return height, width


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)
