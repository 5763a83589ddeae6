"""Initial weights of a new run that are not drawn at random: loaded from a file or from another run."""

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
    """Load the initial weights that a `model` section names; most sections name none. download: fetch missing files.

    Raises:
        ConfigError, DataError, CheckpointError: the weights are missing, cannot be read, or do not fit.
    """
    if targets.locate(section, "model") is transferred:
        take_over(model, section["run"])
    elif isinstance(model, Pretrained):
        model.load_initial(download)


def take_over(model: nn.Module, run: str) -> None:
    """Copy the layers of a run's network whose name, shapes and dtypes are the same in `model`, and report which.

    The weights are those that got the run's test score, or the last ones if it has none.

    Raises:
        CheckpointError: no checkpoint, or one with values that are not finite. ConfigError: no layer fits.
    """
    place = RunDirectory(find_run(run))
    result = place.read_result()
    checkpoint = place.best if result is not None and result.weights == "best" else place.last
    held, flat = read_network(checkpoint, model), model.state_dict()
    given, own = _by_layer(held), _by_layer(flat)
    taken = [name for name, tensors in own.items() if _kinds(given.get(name, {})) == _kinds(tensors)]
    new = [name for name in own if name not in taken]
    if not taken:
        raise ConfigError(f"model.run={run}: no layer of it fits: {', '.join(own)}; the images or the networks differ too much")
    require_trained(held, model, checkpoint)
    with torch.no_grad():
        for name in taken:
            for key, tensor in own[name].items():
                tensor.copy_(given[name][key])
    note(f"taken from {place.name} ({checkpoint.name}): {_briefly(taken, new)}; new: {_briefly(new, taken) or 'nothing'}")


def _briefly(layers: Sequence[str], others: Sequence[str]) -> str:
    """Names of layers, shortened to "backbone.*" where `others` has no layer in the backbone."""
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
