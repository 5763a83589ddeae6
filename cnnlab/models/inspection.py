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


def inspect_network(model: nn.Module, input_shape: tuple[int, int, int], bf16: bool = False) -> Inspection:
    """Run `model` on blank images of C x H x W and report every layer; bf16: count activations under autocast."""
    trace = _Trace()
    hooks = [
        module.register_forward_hook(trace.hook(name)) for name, module in model.named_modules() if not list(module.children())
    ]
    trained = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *input_shape))
    for hook in hooks:
        hook.remove()
    saved = [_saved_bytes(model, input_shape, count, bf16) for count in (2, 3)]
    model.train(trained)
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return Inspection(trace.layers, total, trainable, saved[1] - saved[0])


def _saved_bytes(model: nn.Module, input_shape: tuple[int, int, int], count: int, bf16: bool) -> int:
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
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), autocast, hooks:
        model(torch.zeros(count, *input_shape))
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])  # batch norm moved its running statistics
    return sum(kept.values())


Fields = tuple[tuple[int, int], tuple[int, int]]  # (size, jump) of rows and of columns


class _Trace:
    """Collects the layers and follows the receptive field from tensor to tensor.

    A tensor that no layer made (the sum of a residual connection, a concatenation, a functional activation) is taken to come
    from those layers' outputs that no layer has used yet, where their shapes explain it; it sees what the widest of them sees.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.fields: dict[int, Fields | None] = {}
        self.unused: dict[int, Tensor] = {}
        self.alive: list[Tensor] = []  # so that no identity is used twice

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
        counted, multiplications = _counts(module, output)
        sees = (fields[0][0], fields[1][0]) if fields else None
        spare = _left_over(module, given)
        shape = tuple(output.shape[1:])
        return Layer(name, type(module).__name__, shape, parameters, counted, multiplications, sees, spare)

    def _origin(self, given: Tensor) -> Fields | None:
        """The fields of a tensor that no layer made; the first one is the image itself."""
        if not self.layers:
            return (1, 1), (1, 1)
        alike = [out for out in self.unused.values() if out.ndim == given.ndim and out.shape[2:] == given.shape[2:]]
        channels = {out.shape[1] for out in alike}
        added, joined = channels == {given.shape[1]}, sum(out.shape[1] for out in alike) == given.shape[1]
        if alike and (added or joined):
            found = [self.fields[id(out)] for out in alike]
        else:  # flattened by a function
            flat = [out for out in self.unused.values() if given.ndim == 2 and out.ndim == 4 and out.numel() == given.numel()]
            alike, found = flat, [_seeing_all(self.fields[id(out)], out) for out in flat]
        for out in alike:
            del self.unused[id(out)]
        known = [fields for fields in found if fields is not None]
        if not known or len(known) < len(found):
            return None
        rows, columns = (max(side) for side in zip(*known, strict=True))
        return rows, columns


def _through(module: nn.Module, given: Tensor, output: Tensor, fields: Fields | None) -> Fields | None:
    """The fields of a layer's output from those of its input."""
    if fields is None:
        return None
    if isinstance(module, WINDOWED) and given.ndim == 4:
        sides = zip(fields, _window(module), _pair(module.stride), strict=True)
        rows, columns = (receptive_field(*side, window, stride) for side, window, stride in sides)
        return rows, columns
    if given.ndim == 4 and (isinstance(module, SEES_ALL) or prod(output.shape[2:]) == 1):
        return _seeing_all(fields, given)
    if given.ndim == 4 and output.shape[2:] != given.shape[2:]:
        return None  # upsampling and the like
    return fields


def _seeing_all(fields: Fields | None, given: Tensor) -> Fields | None:
    """The fields of what sees every position of `given`, N x C x H x W."""
    if fields is None:
        return None
    rows, columns = (receptive_field(*side, size, 1) for side, size in zip(fields, given.shape[2:], strict=True))
    return rows, columns


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


def _left_over(module: nn.Module, given: Tensor) -> tuple[int, int]:
    """Rows and columns at the end of the input, zeros included, that no window reaches."""
    if not isinstance(module, WINDOWED) or given.ndim != 4 or getattr(module, "ceil_mode", False):
        return 0, 0
    window, stride, sizes = _window(module), _pair(module.stride), given.shape[2:]
    if isinstance(module, SameConv2d) or module.padding == "same":
        zeros = [sum(padding_amounts(n, f, s, "same")) for n, f, s in zip(sizes, window, stride, strict=True)]
    else:
        zeros = [0, 0] if module.padding == "valid" else [2 * amount for amount in _pair(module.padding)]
    height, width = (left_over(n + z, f, s) for n, z, f, s in zip(sizes, zeros, window, stride, strict=True))
    return height, width


def _window(module: Any) -> tuple[int, int]:
    """Height and width of what one output sees of the input, dilation included."""
    kernel, dilation = _pair(module.kernel_size), _pair(getattr(module, "dilation", 1))
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)
