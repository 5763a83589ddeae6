"""Networks, and how to build the one that a config names."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from cnnlab import seeding
from cnnlab.config import targets
from cnnlab.errors import CnnlabError, ConfigError, as_known
from cnnlab.models.convnet import ConvNet
from cnnlab.models.mlp import MLP
from cnnlab.models.pretrained import Pretrained
from cnnlab.models.transfer import transferred

__all__ = ["MLP", "ConvNet", "Pretrained", "build_model", "rehearse", "transferred"]


def build_model(
    section: Mapping[str, Any],
    input_shape: tuple[int, ...],
    num_outputs: int,
    seed: int,
    memory_formats: Sequence[torch.memory_format] = (torch.channels_last, torch.contiguous_format),
) -> tuple[nn.Module, torch.memory_format]:
    """Build a network on the CPU, draw its weights from the random stream "weights", and try it on two blank images.

    Args:
        section: the config's `model`. Its target gets `input_shape` and `num_outputs` if it takes arguments of these names.
        input_shape: C, H, W of the images, or C and other sides.
        num_outputs: the number that the task needs.
        seed: the run's.
        memory_formats: formats of the input, tried in this order: channels-last (1.2 to 1.6 times faster convolutions on a
            CPU), then contiguous, for networks that reshape their input with `view`.

    Returns:
        The network, and the first memory format that works.

    Raises:
        ConfigError: the target is not a network or refuses its arguments, or its output is not N x `num_outputs`.
    """
    name = section.get("_target_")
    with torch.random.fork_rng(devices=[]):
        seeding.reseed_default(seed, "weights", 0, torch.device("cpu"))
        model = targets.instantiate(section, "model", input_shape=input_shape, num_outputs=num_outputs)
    targets.require(model, nn.Module, section, "model")
    trained = model.training
    model.eval()
    try:
        memory_format, output = _first_that_fits(model, input_shape, memory_formats)
    except CnnlabError:
        raise
    except Exception as error:
        if as_known(error) is not None:  # out of memory
            raise
        shape = " x ".join(map(str, input_shape))
        raise ConfigError(f"model: {name} fails on images of {shape} (channels first): {targets.failure(error)}") from error
    if getattr(output, "shape", None) != (2, num_outputs):
        got = " x ".join(map(str, output.shape)) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"model: {name} returns {got} for 2 images, expected 2 x {num_outputs} (images x outputs)")
    built: nn.Module = model.train(trained)
    return built, memory_format


def rehearse(model: nn.Module, input_shape: tuple[int, ...], memory_format: torch.memory_format, count: int) -> None:
    """Try a forward and backward pass of `count` blank images in training mode, then restore the network's state.

    Raises:
        ConfigError: it fails, the output has no gradient, or the state does not consist of tensors only.
    """
    before = {name: value.clone() if isinstance(value, torch.Tensor) else None for name, value in model.state_dict().items()}
    odd = [name for name, value in before.items() if value is None]
    if odd:
        raise ConfigError(f"model: {odd[0]} in its state_dict is not a tensor, but a checkpoint holds only tensors")
    model.train()
    try:
        with torch.random.fork_rng(devices=[]):
            model(torch.zeros(count, *input_shape).to(memory_format=memory_format)).sum().backward()
    except Exception as error:
        if as_known(error) is not None:
            raise
        mend = "; choose another trainer.batch_size or data.limit" if count == 1 else ""
        images = f"a batch of {count} image{'s' if count > 1 else ''}"
        raise ConfigError(f"model: training fails on {images}: {targets.failure(error)}{mend}") from error
    model.zero_grad()
    model.load_state_dict(before)


def _first_that_fits(
    model: nn.Module, input_shape: tuple[int, ...], memory_formats: Sequence[torch.memory_format]
) -> tuple[torch.memory_format, Any]:
    for memory_format in memory_formats[:-1]:
        with suppress(RuntimeError):
            return memory_format, _try(model, input_shape, memory_format)
    return memory_formats[-1], _try(model, input_shape, memory_formats[-1])


def _try(model: nn.Module, input_shape: tuple[int, ...], memory_format: torch.memory_format) -> Any:
    with torch.no_grad():
        return model.to(memory_format=memory_format)(torch.zeros(2, *input_shape).to(memory_format=memory_format))
