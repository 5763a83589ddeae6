"""The stages of a network, each a convolution with the layers up to the next one, and what they make of images."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnlab.errors import ConfigError, suggest


@dataclass
class Stage:
    """A convolution and the normalization, activation and pooling after it, as called on N images.

    name: of the convolution in the network. convolution: the layer. kinds: the classes of the called layers, in order.
    linear: N x C x H x W, before the activation: the output of the convolution, or of its batch normalization.
    maps: N x C x H x W, the input of the next stage.
    """

    name: str
    convolution: nn.Conv2d
    linear: Tensor
    maps: Tensor
    kinds: list[str] = field(default_factory=list)

    @property
    def size(self) -> str:
        """The number and size of its maps, in words."""
        count, height, width = self.maps.shape[1:]
        return f"{count} maps of {height} x {width}"


class _FoundError(Exception):
    """The one requested stage has been run."""


@dataclass
class Trace:
    """A network's run on images. outputs: empty if it was run only up to one stage. stages: in the order of their calls.
    features: N x D, the input of the last layer; of maps, the mean over their places."""

    outputs: Tensor
    stages: list[Stage]
    features: Tensor


def trace(model: nn.Module, images: Tensor, only: str | None = None) -> Trace:
    """Run `model` on images (N x C x H x W) and keep the outputs of its stages, with gradients if they are enabled.

    only: the name of the one stage to keep, after which nothing is run; "" for none, which saves memory.
    """
    stages: list[Stage] = []
    current: Stage | None = None
    given = images

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def called(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal current, given
            if not isinstance(output, Tensor):
                return
            if inputs and isinstance(inputs[0], Tensor):
                given = inputs[0]
            if isinstance(module, nn.Conv2d) and output.ndim == 4:
                if only and stages and name != only:
                    raise _FoundError
                current = None
                if only in (None, name):  # a clone, since the activation may be in place
                    current = Stage(name, module, output.clone(), output, ["Conv2d"])
                    stages.append(current)
            elif current and output.ndim == 4 and (output.shape[2:].numel() > 1 or current.maps.shape[2:].numel() == 1):
                current.maps = output
                current.kinds.append(type(module).__name__)
                if isinstance(module, _BatchNorm) and len(current.kinds) == 2:
                    current.linear = output.clone()

        return called

    hooks = [
        module.register_forward_hook(hook(name.removeprefix("network.")))  # which follows its preprocessing
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    outputs = images.new_empty(0)
    try:
        with suppress(_FoundError):
            outputs = model(images)
    finally:
        for one in hooks:
            one.remove()
    return Trace(outputs, stages, given.mean((2, 3)) if given.ndim == 4 else given.flatten(1))


def chosen(stages: list[Stage], pattern: str | None, at_most: int) -> list[Stage]:
    """Return the stages whose names begin with `pattern`; without it at most `at_most`, evenly spread from first to last.

    Raises:
        ConfigError: no name begins with it.
    """
    if pattern is not None:
        found = [one for one in stages if one.name == pattern or one.name.startswith(f"{pattern}.")]
        if not found:
            parts = [one.name.split(".") for one in stages]
            names = dict.fromkeys(".".join(one[:depth]) for one in parts for depth in range(len(one), 0, -1))
            which = f"--layers lists the {len(stages)}, {stages[0].name} to {stages[-1].name}"
            raise ConfigError(f"--layer {pattern}: no such convolution.{suggest(pattern, names)} {which}")
        return found
    if len(stages) <= at_most:
        return stages
    return [stages[round(index * (len(stages) - 1) / max(1, at_most - 1))] for index in range(at_most)]


def spatial(stages: list[Stage]) -> list[Stage]:
    """Return the stages whose maps have more than one place."""
    return [one for one in stages if one.maps.shape[2:].numel() > 1]


def unit_images(images: Tensor) -> Tensor:
    """Convert images to float32 pixels from 0 to 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
