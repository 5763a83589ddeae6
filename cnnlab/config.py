"""Composing a run's configuration from `configs/`, and reading and writing it as one file. Loads no torch."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnlab import overrides
from cnnlab.errors import CheckpointError, ConfigError, suggest
from cnnlab.schema import Config, check_training, check_values

# Settings that say where, how fast and how visibly a run goes, not what it computes; and the seed.
NOT_THE_RECIPE = ("seed", "console", "data.root", "data.download", "trainer.device", "trainer.threads", "trainer.log_every",
                  "trainer.log_gradients", "evaluation.batch_size", "checkpoint.every_s")  # fmt: skip


def config_dir() -> Path:
    """Where `configs/` lies: beside the modules in an installed wheel, else in the repository."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def groups(extra: Sequence[Path] = ()) -> dict[str, list[str]]:
    """The config groups and their choices, from `configs/` and from further config directories."""
    found: dict[str, set[str]] = {}
    for root in (config_dir(), *extra):
        for path in root.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {name: sorted(found[name]) for name in sorted(found)}


def compose(changes: Sequence[str] = (), extra: Sequence[Path] = (), with_hydra: bool = False) -> DictConfig:
    """Compose `configs/config.yaml` with changes as on the command line.

    Args:
        changes: such as `["model=lenet", "trainer.epochs=2"]`.
        extra: further directories of choices.
        with_hydra: keep the node `hydra`, which tells the run's directory and the choices by name.

    Raises:
        ConfigError: a key, group, choice or value that does not exist.
    """
    GlobalHydra.instance().clear()
    prepared = overrides.prepare(changes, groups(extra))
    if extra:
        prepared.append(f"hydra.searchpath=[{','.join(overrides.quoted(path.resolve()) for path in extra)}]")
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose("config", prepared, return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise overrides.explain(error, changes) from error


def typed(node: DictConfig, to_train: bool = True) -> Config:
    """Turn a composed node into a checked `Config`; every interpolation is resolved.

    to_train: whether the values must also go together in training.

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
        raise overrides.explain(error, ()) from error
    check_values(cfg)
    if to_train:
        check_training(cfg)
    return cfg


def read(path: Path) -> Config:
    """Read the `config.yaml` of a run.

    Raises:
        CheckpointError: missing, not YAML, or not a cnnlab configuration.
    """
    try:
        return typed(cast(DictConfig, OmegaConf.load(path)))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: not a run, it has no {path.name}") from None
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # YAML's own errors have many classes
        raise CheckpointError(f"{path}: cannot be read as a configuration: {error}") from error


def read_flat(path: Path) -> dict[str, Any]:
    """The settings in a run's `config.yaml` as `flat` gives them, but unchecked: fifty times faster than `read`.

    Raises:
        CheckpointError: cannot be read, not YAML, or not a mapping with a seed and a model.
    """
    try:
        node = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as a configuration: {error}") from error
    if not isinstance(node, dict) or not {"seed", "model"} <= set(node):
        raise CheckpointError(f"{path}: not a configuration of cnnlab")
    return dict(_leaves(node))


def to_yaml(cfg: Config) -> str:
    """The configuration as YAML, which `read` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(cfg))


def flat(cfg: Config) -> dict[str, Any]:
    """Dotted keys and plain values; lists stay whole."""
    return dict(_leaves(dataclasses.asdict(cfg)))


def recipe(cfg: Config | Mapping[str, Any]) -> dict[str, Any]:
    """What a run computes, but for its seed: `flat` without NOT_THE_RECIPE. Runs of equal recipes are one configuration.

    cfg: typed, or flat already.
    """
    settings = flat(cfg) if isinstance(cfg, Config) else cfg
    return {key: value for key, value in settings.items() if key not in NOT_THE_RECIPE}


def recipe_hash(cfg: Config) -> str:
    """16 hexadecimal digits, equal for equal recipes."""
    return hashlib.blake2b(json.dumps(recipe(cfg), sort_keys=True).encode(), digest_size=8).hexdigest()


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
