"""The weights that a new run begins with, where they are not drawn: those of a file, or of another run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab.config import targets
from cnnlab.errors import ConfigError, note
from cnnlab.models import Pretrained, transferred
from cnnlab.tracking.run import RunDirectory, find_run
from cnnlab.training.checkpoint import read_network, require_trained
from cnnlab.training.optimizer_state import kind_of


def load_initial(model: nn.Module, section: Mapping[str, Any], download: bool) -> None:
    """Load what a `model` section says that its network begins with; nothing for most. download: what is not there yet.

    Raises:
        ConfigError, DataError, CheckpointError: it is not there, cannot be read, or does not fit.
    """
    if targets.locate(section, "model") is transferred:
        take_over(model, section["run"])
    elif isinstance(model, Pretrained):
        model.load_initial(download)


def take_over(model: nn.Module, run: str) -> None:
    """Copy into `model` those layers of a run's network that have the same name, shapes and types in both, and tell which.

    The weights are those of the run's test score, of a run without one the last.

    Raises:
        CheckpointError: no checkpoint there, or one of numbers that are none. ConfigError: no layer fits.
    """
    place = RunDirectory(find_run(run))
    result = place.read_result()
    checkpoint = place.best if result is not None and result.weights == "best" else place.last
    held, flat = read_network(checkpoint, model), model.state_dict()
    given, own = _by_layer(held), _by_layer(flat)
    taken = [name for name, tensors in own.items() if _kinds(given.get(name, {})) == _kinds(tensors)]
    new = [name for name in own if name not in taken]
    if not taken:
        raise ConfigError(f"model.run={run}: no layer of it fits: {', '.join(own)}; the images differ too much, or the network")
    require_trained(held, model, checkpoint)
    with torch.no_grad():
        for name in taken:
            for key, tensor in own[name].items():
                tensor.copy_(given[name][key])
    note(f"taken from {place.name} ({checkpoint.name}): {_briefly(taken, new)}; new: {_briefly(new, taken) or 'nothing'}")


def _briefly(layers: Sequence[str], others: Sequence[str]) -> str:
    """The names of layers: "backbone.*" where none of the others is in it."""
    mixed = {name.partition(".")[0] for name in others}
    named = []
    for name in layers:
        top, dot, _ = name.partition(".")
        named.append(f"{top}.*" if dot and top not in mixed else name)
    return ", ".join(dict.fromkeys(named))


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, key = name.rpartition(".")
        layers.setdefault(layer or name, {})[key] = tensor
    return layers


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: kind_of(tensor) for key, tensor in tensors.items()}
