"""A run's configuration as one file: writing it, reading it, and comparing runs by it. Loads neither Hydra nor torch."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cnnlab.config.checking import check_training, check_values
from cnnlab.config.schema import Config, from_plain
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.reading import parse_yaml, read_yaml

# Settings of where a run is, how fast it is and what it shows, not of what it computes; those implied by data.source; the seed.
NOT_THE_RECIPE = ("seed", "console", "data.root", "data.download", "data.shape", "data.num_classes", "data.memory_gb",
                  "trainer.device", "trainer.threads", "trainer.log_every", "trainer.log_gradients", "trainer.log_images",
                  "evaluation.batch_size", "checkpoint.every_s")  # fmt: skip
# Keys added after the first version: a run whose file does not have one did what is now the default.
ADDED = (
    "phases",
    "data.size",
    "data.resize",
    "data.on_error",
    "data.memory_gb",
    "trainer.cache_features",
    "trainer.log_images",
)


def config_dir() -> Path:
    """The location of `configs/`: next to the modules in an installed wheel, else in the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def read(path: Path) -> Config:
    """Read the `config.yaml` of a run. Everything in it is data: an interpolation such as `${oc.env:HOME}` is not resolved.

    Raises:
        CheckpointError: the file is missing, not YAML, or not a cnnlab configuration.
    """
    try:
        node = read_yaml(path)
        for key in ADDED:
            section, _, name = key.rpartition(".")
            inside = node.get(section) if section else node
            if isinstance(inside, dict):
                inside.setdefault(name, defaults()[key])
        cfg = from_plain(Config, node)
        check_values(cfg)
        check_training(cfg)
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: not a run, it has no {path.name}") from None
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return cfg


def read_flat(path: Path) -> dict[str, Any]:
    """Read the settings in a run's `config.yaml` in the form of `flat`, but unchecked.

    Raises:
        CheckpointError: the file cannot be read, is not YAML, or is not a mapping with a seed and a model.
    """
    node = read_yaml(path)
    if not {"seed", "model"} <= set(node):
        raise CheckpointError(f"{path}: not a configuration of cnnlab")
    return dict(_leaves(node))


def to_yaml(cfg: Config) -> str:
    """The configuration as YAML, in the form that `read` takes."""
    return yaml.safe_dump(dataclasses.asdict(cfg), sort_keys=False, allow_unicode=True)


def flat(cfg: Config) -> dict[str, Any]:
    """The configuration as dotted keys and plain values; lists are not taken apart."""
    return dict(_leaves(dataclasses.asdict(cfg)))


@cache
def defaults() -> dict[str, Any]:
    """The default values in `configs/config.yaml`, by dotted key."""
    path = config_dir() / "config.yaml"
    node = parse_yaml(path.read_bytes(), path)
    return dict(_leaves({key: value for key, value in node.items() if key not in ("defaults", "hydra")}))


def recipe(cfg: Config | Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine what a run computes, without its seed. Runs with equal recipes are one configuration.

    Leaves out NOT_THE_RECIPE and values at their defaults, so that a key that a later version adds changes no recipe; if a
    version changed a default, the old value would have to be written into older recipes.

    cfg: typed or already flat.
    """
    settings, plain = flat(cfg) if isinstance(cfg, Config) else cfg, defaults()
    return {
        key: value
        for key, value in settings.items()
        if key not in NOT_THE_RECIPE and not (key in plain and value == plain[key])
    }


def recipe_hash(cfg: Config) -> str:
    """A hash of the recipe: 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(recipe(cfg), sort_keys=True).encode(), digest_size=8).hexdigest()


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
