"""Checks of a configuration: values out of range, and values that exclude each other. Loads no torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlab.config import targets
from cnnlab.config.schema import Config, ParameterGroup, fields_of, sections
from cnnlab.errors import ConfigError, suggest


def check_values(cfg: Config) -> None:
    """Raise ConfigError for a value out of range."""
    for key, value, meta in fields_of(cfg):
        if value is None:
            continue
        if meta.get("choices") and value not in meta["choices"]:
            near = suggest(str(value), meta["choices"])
            raise ConfigError(f"{key}={value}: expected one of {', '.join(meta['choices'])}.{near}")
        if meta.get("minimum") is not None and not value >= meta["minimum"]:
            raise ConfigError(f"{key}={value}: expected {meta['minimum']} or more")
        if meta.get("above") is not None and not value > meta["above"]:
            raise ConfigError(f"{key}={value}: expected more than {meta['above']}")
        if meta.get("maximum") is not None and not value <= meta["maximum"]:
            raise ConfigError(f"{key}={value}: expected at most {meta['maximum']:,}")
    for where, _, section in sections(cfg):
        for key in _keys(section):
            if not isinstance(key, str):  # read back, it would be refused or be another key
                raise ConfigError(f"{where}: the key {key} of a mapping is not text; expected a word")
    check_groups(cfg.parameters)
    for number, phase in enumerate(cfg.phases):
        if phase.epochs < 1 or not 0 < phase.lr_factor < math.inf:
            raise ConfigError(
                f"phases[{number}]: epochs={phase.epochs}, lr_factor={phase.lr_factor}: expected 1 or more, above 0"
            )
        check_groups(phase.parameters, f"phases[{number}].parameters")
    for name, section in cfg.augment.items():
        if not isinstance(section, dict) or not section.get("_target_"):
            raise ConfigError(
                f"augment.{name}: is not chosen; add 'augment=[{name}]', or name its function in augment.{name}._target_"
            )
    if cfg.data.shape is not None and (not 2 <= len(cfg.data.shape) <= 4 or min(cfg.data.shape) < 1):
        raise ConfigError(
            f"data.shape={cfg.data.shape}: expected [channels, height, width], each 1 or more; for signals [channels, length], "
            "for clips [channels, frames, height, width]"
        )


def _keys(value: Any) -> Iterator[Any]:
    """The keys of all mappings in a value."""
    if isinstance(value, Mapping):
        yield from value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _keys(inner)


def check_groups(groups: Sequence[ParameterGroup], key: str = "parameters") -> None:
    """Raise ConfigError for a value in `parameters` that is out of range or contradicts another; `key` is the list's key."""
    for number, group in enumerate(groups):
        where = f"{key}[{number}]"
        for key, value in (("lr_factor", group.lr_factor), ("weight_decay", group.weight_decay)):
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{where}.{key}={value}: expected 0 or more")
        if group.frozen and (group.lr_factor != 1 or group.weight_decay is not None):
            raise ConfigError(f"{where}: frozen parameters have no lr_factor and no weight_decay")


def check_training(cfg: Config) -> None:
    """Raise ConfigError for values that exclude each other in training."""
    held_out = cfg.data.validation
    if isinstance(held_out, float) and held_out >= 1:
        raise ConfigError(f"data.validation={held_out}: expected a count (5000), a fraction below 1 (0.1), or 0")
    if not held_out:
        needs = "needs a validation split, but data.validation=0 leaves none; set data.validation=5000, for example"
        if cfg.evaluation.weights == "best":
            raise ConfigError(f"evaluation.weights=best {needs}")
        if cfg.trainer.patience is not None:
            raise ConfigError(f"trainer.patience={cfg.trainer.patience} (early stopping) {needs}")
    if cfg.trainer.cache_features and cfg.augment:
        first = next(iter(cfg.augment))
        raise ConfigError(f"augment.{first}: changes the images, but trainer.cache_features needs them fixed; remove one")
    if cfg.phases:
        check_phases(cfg)


def check_phases(cfg: Config) -> None:
    """Raise ConfigError for settings of the whole run that contradict its phases."""
    epochs = [phase.epochs for phase in cfg.phases]
    if cfg.trainer.steps is not None or cfg.trainer.epochs != sum(epochs):
        key, value = ("steps", cfg.trainer.steps) if cfg.trainer.steps else ("epochs", cfg.trainer.epochs)
        total = " + ".join(map(str, epochs))
        raise ConfigError(
            f"trainer.{key}={value}: the phases last {total} epochs; set trainer.epochs={sum(epochs)}, or change them"
        )
    if cfg.parameters:
        raise ConfigError("parameters: with phases, each phase has its own; move them to phases[0].parameters and so on")
    if cfg.trainer.patience is not None:
        raise ConfigError(f"trainer.patience={cfg.trainer.patience}: could end the run before its later phases; remove it")


def check_targets(cfg: Config) -> None:
    """Check every section with a `_target_` and import what it names.

    Raises:
        ConfigError: no such module or name, an unknown or missing key, a value of the wrong type.
    """
    for where, kind, section in sections(cfg):
        targets.check(section, where, kind.provided)
