"""The overrides on a command line: made fit for Hydra before it, and its complaints made fit for a person after it."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cnnlab import targets
from cnnlab.errors import ConfigError, suggest
from cnnlab.schema import key_types


def prepare(overrides: Sequence[str], choices: Mapping[str, Sequence[str]], sweep: bool = False) -> list[str]:
    """Check overrides such as `model=lenet` against the groups' choices and the schema, and rewrite them for Hydra.

    Keys of sections with a `_target_` are forced in (`++`), since their legal keys are those of the target's signature,
    which is checked later. `model._target_=...` without a choice of `model` starts from the empty `model=custom`, and so do
    `optimizer._target_`, `schedule._target_` and `data.source._target_`.

    Raises:
        ConfigError: not `key=value`, an unknown key, group or choice, or several values where one is expected (no `sweep`).
    """
    keys = key_types()
    sections = {part for key in keys for part in _parents(key)} | set(choices)
    ready: list[str] = []
    for text, override in zip(overrides, _parse(overrides), strict=True):
        name = override.key_or_group
        if text == "experiment=null":  # the default, which Hydra cannot be given
            continue
        if override.is_sweep_override() and not sweep:
            values = text.partition("=")[2]
            raise ConfigError(f"{text}: several values; add -m to run each of them, or write a list: '{name}=[{values}]'")
        if name in choices and not override.is_delete():
            _check_choice(name, override, choices[name])
            ready.append(text)
        elif name.startswith("hydra") or override.is_add() or override.is_force_add() or override.is_delete():
            ready.append(text)
        elif any(name.startswith(f"{key}.") for key, hint in keys.items() if get_origin(hint) is dict):
            ready.append(f"++{text}")
        elif name in keys:
            ready.append(text)
        elif name in sections:
            inside = ", ".join(key for key in keys if key.startswith(f"{name}."))
            raise ConfigError(f"{text}: {name} is a section; change one of its keys: {inside}")
        else:
            raise ConfigError(f"{name or text}: no such key.{_near_key(name, [*keys, *choices])}")
    changed = {override.key_or_group for override in _parse(overrides)}
    for group in choices:
        named = {f"{group}._target_", f"{group}.source._target_"} & changed
        if named and group not in changed and "custom" in choices[group]:
            ready.insert(0, f"{group}=custom")
    return ready


def explain(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """One line for an exception of Hydra or OmegaConf."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    if isinstance(cause, MissingMandatoryValue):
        return ConfigError(f"{key}: needs a value; add {key}=VALUE")
    if key in key_types() and isinstance(cause, OmegaConfBaseException):
        given = next((text.split("=", 1)[1] for text in overrides if text.lstrip("+").startswith(f"{key}=")), None)
        what = f"{key}={given}" if given is not None else key
        return ConfigError(f"{what}: expected {targets.type_name(key_types()[key])}")
    # OmegaConf appends lines with internals, Hydra a hint that is wrong for a typo.
    internals = r"\n\s*(full_key|object_type|reference_type|To append to your config)\b.*"
    texts = dict.fromkeys(re.sub(internals, "", str(one)).strip() for one in (error, cause))
    return ConfigError(": ".join(text.removesuffix(".") for text in texts))


def quoted(value: object) -> str:
    """A value as Hydra's grammar reads it back unchanged."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            key, equals, value = text.partition("=")
            if not equals:
                expected = "expected key=value"
            elif value.endswith(","):
                expected = "ends in a comma; expected a value, or for a sweep two or more with commas between"
            else:
                expected = f"{value!r} cannot be read as a value; quote it: '{key}=\"...\"'"
            raise ConfigError(f"{text}: {expected}") from error
    return parsed


def _check_choice(group: str, override: Override, choices: Sequence[str]) -> None:
    for value in _values(override):
        if value not in choices:
            raise ConfigError(f"{group}={value}: no such {group}.{suggest(value, choices)} Choices: {', '.join(choices)}.")


def _values(override: Override) -> list[str]:
    """The choices that an override of a group names; of a sweep, those of all its jobs."""
    if override.is_sweep_override() and not override.is_choice_sweep():  # range, interval, glob: Hydra and its sweeper know
        return []
    value: Any = override.value()
    items = value.list if isinstance(value, ChoiceSweep) else [value]
    names = [name for item in items for name in (item if isinstance(item, list) else [item])]
    return ["null" if name is None else name.text if isinstance(name, QuotedString) else str(name) for name in names]


def _parents(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _near_key(name: str, legal: Iterable[str]) -> str:
    """The nearest legal keys, by the whole dotted name or by its last part (`epochs` for `trainer.epochs`)."""
    legal = list(legal)
    last = name.rpartition(".")[2]
    by_last = [key for key in legal if difflib.get_close_matches(last, [key.rpartition(".")[2]], 1, 0.75)]
    near = list(dict.fromkeys([*difflib.get_close_matches(name, legal, 2, 0.7), *by_last]))[:3]
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return " `python -m cnnlab.train --help` lists the keys."
