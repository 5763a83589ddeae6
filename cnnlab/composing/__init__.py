"""Composition of a run's configuration from `configs/` with Hydra. Loads no torch."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab.composing.inherit import with_network
from cnnlab.composing.overrides import explain, prepare, quoted, values
from cnnlab.config import config_dir
from cnnlab.config.checking import check_training, check_values
from cnnlab.config.schema import Config, from_plain
from cnnlab.errors import ConfigError, suggest

ConfigStore.instance().store(name="schema", node=Config)


def groups(extra: Sequence[Path] = ()) -> dict[str, list[str]]:
    """The config groups and their choices, from `configs/` and from further config directories."""
    found: dict[str, set[str]] = {}
    for root in (config_dir(), *extra):
        for path in root.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {name: sorted(found[name]) for name in sorted(found)}


def compose(overrides: Sequence[str] = (), extra: Sequence[Path] = (), with_hydra: bool = False) -> DictConfig:
    """Compose `configs/config.yaml` with overrides, written as on the command line.

    Args:
        overrides: such as `["model=lenet", "trainer.epochs=2"]`.
        extra: further config directories.
        with_hydra: keep the node `hydra`, which has the run's directory and the choices by name.

    Raises:
        ConfigError: a key, group, choice or value that does not exist.
    """
    prepared = prepare(overrides, groups(extra))
    if extra:
        prepared.append(f"hydra.searchpath=[{','.join(quoted(path.resolve()) for path in extra)}]")
    callers = GlobalHydra.instance().hydra  # the caller may use Hydra itself
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose("config", prepared, return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, overrides) from error
    finally:
        GlobalHydra.instance().hydra = callers


def typed(node: DictConfig) -> Config:
    """Turn a composed node into a checked `Config`, with every interpolation and `model.run` resolved.

    Raises:
        ConfigError: an illegal value, an unknown key of a `_target_`, or values that exclude each other.
    """
    for key in node:
        if key not in Config.__dataclass_fields__:
            raise ConfigError(f"{key!s}: no such key.{suggest(str(key), Config.__dataclass_fields__)}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), node)
        OmegaConf.resolve(merged)
        cfg = cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise explain(error, ()) from error
    check_values(cfg)
    check_training(cfg)
    cfg.model = with_network(cfg.model)
    return cfg


@dataclass(frozen=True)
class NewRun:
    """A run that has not begun.

    choices: the choice made in each config group, by name. directory: its planned location; may_rename: whether another one
    next to it may be used instead, which is so unless it was given explicitly.
    """

    cfg: Config
    choices: dict[str, str]
    directory: Path
    may_rename: bool


def new_run(overrides: Sequence[str], extra: Sequence[Path] = ()) -> NewRun:
    """Compose and check a run, before anything is loaded or written.

    Raises:
        ConfigError: see `compose` and `typed`.
    """
    node = compose(overrides, extra, with_hydra=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(node)  # the directory's name uses ${hydra:runtime.choices.model}
    try:
        directory = Path(node.hydra.run.dir)
    except OmegaConfBaseException as error:
        raise explain(error, overrides) from error
    finally:
        HydraConfig.instance().cfg = before
    may_rename = not any(override.startswith("hydra.run.dir=") for override in overrides)
    return NewRun(typed(own_node(node)), named_choices(node.hydra.runtime.choices), directory, may_rename)


def own_node(node: DictConfig) -> DictConfig:
    """A composed node without the node `hydra`."""
    return OmegaConf.masked_copy(node, [str(key) for key in node if key != "hydra"])


def named_choices(recorded: Mapping[str, Any]) -> dict[str, str]:
    """The choice made in each config group, by name, from Hydra's record; without Hydra's own groups."""
    return {str(key): str(value) for key, value in recorded.items() if "/" not in str(key)}


def with_overrides(recorded: Config, overrides: Sequence[str], to_train: bool = True) -> Config:
    """Apply overrides such as `trainer.epochs=20` to a recorded configuration, whose own values are not interpolated.

    Raises:
        ConfigError: an illegal value.
    """
    node = OmegaConf.create()
    try:
        for key, value in values(overrides).items():
            OmegaConf.update(node, key, value)
        new = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise explain(error, overrides) from error
    cfg = from_plain(Config, _merged(dataclasses.asdict(recorded), new))
    check_values(cfg)
    if to_train:
        check_training(cfg)
    return cfg


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old.get(key), value) for key, value in new.items()}
    return new
