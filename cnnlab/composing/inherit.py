"""model=transfer: adds the `model` section of the run that it names. Loads no torch for other networks."""

from typing import Any

from cnnlab import config
from cnnlab.config import trust
from cnnlab.config.schema import Model, sections
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.tracking.run import RunDirectory, find_run

TARGET = "cnnlab.models.transferred"


def with_network(section: dict[str, Any]) -> dict[str, Any]:
    """Complete a `model` section: for model=transfer, with the full path of its run and the network of that run.

    The new run's record is then complete: it can be opened when the other run is gone. A network that is given is kept.

    Raises:
        CheckpointError: that run has no network. ConfigError: `model.run` is not a run, or its network is not trusted.
    """
    if section.get("_target_") != TARGET or not isinstance(section.get("run"), str):
        return section
    try:
        run = RunDirectory(find_run(section["run"]).resolve())
    except CheckpointError as error:
        raise ConfigError(f"model.run={section['run']}: {error}") from error
    network = section.get("network")
    if network is None:
        network = config.read(run.config).model
        if network.get("_target_") == TARGET:  # a run that was itself a transfer
            network = network.get("network")
            if not isinstance(network, dict):
                raise CheckpointError(f"{run.config}: model.network: needs a value, the section of the network")
        for where, kind, inner in sections(network, Model, "model"):
            try:
                trust.check_section(where, kind, inner)
            except ConfigError as error:
                name = network.get("_target_")
                raise ConfigError(f"{run.config}: {error}, or here, name the network yourself: model.network._target_={name}"
                                  ) from error  # fmt: skip
    return section | {"run": str(run.path), "network": network}
