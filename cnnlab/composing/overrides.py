"""The overrides on a command line: checked and rewritten for Hydra, whose errors are rewritten for people."""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cnnlab.config import config_dir, targets
from cnnlab.config.schema import ParameterGroup, PhaseConfig, key_types
from cnnlab.errors import KERAS, ConfigError, suggest

MAX_NESTING = 30  # of lists and mappings in a value; their readers are recursive, and a run's file may hold 50
NOT_OURS = {"joblib": "hydra-joblib-launcher", "submitit": "'cnnlab[slurm]'"}  # launchers, and the packages to install


def prepare(overrides: Sequence[str], choices: Mapping[str, Sequence[str]], sweep: bool = False) -> list[str]:
    """Check overrides such as `model=lenet` against the groups' choices and the schema, and rewrite them for Hydra.

    Keys of sections with a `_target_` are forced in (`++`), since the target's signature determines which are legal; that is
    checked later. `model._target_=...` without a choice of `model` starts from the empty `model=custom`; so do
    `optimizer._target_`, `schedule._target_` and `data.source._target_`.

    Raises:
        ConfigError: not `key=value`, an unknown key, group or choice, or several values where one is expected (no `sweep`).
    """
    keys = key_types()
    sections = {part for key in keys for part in _parents(key)} | set(choices)
    ready: list[str] = []
    for text, override in zip(overrides, _parse(overrides), strict=True):
        name = override.key_or_group
        if name == "hydra":
            raise ConfigError(f"{text}: hydra is a section; change one of its keys, such as hydra.run.dir=DIR")
        if text == "experiment=null":  # the default, which Hydra does not accept
            continue
        if override.is_sweep_override() and not sweep:
            hints = (keys.get(name), *get_args(keys.get(name)))
            takes_list = name == "augment" or any(get_origin(hint) is list for hint in hints)
            or_list = f", or write a list: '{name}=[{text.partition('=')[2]}]'" if takes_list else ""
            raise ConfigError(f"{text}: several values; add -m to run each of them{or_list}")
        if name in choices and not override.is_delete():
            _check_choice(name, override, choices[name])
            ready.append(text)
        elif name.startswith("hydra") or override.is_delete():
            ready.append(text)
        elif any(name.startswith(f"{key}.") for key, hint in keys.items() if get_origin(hint) is dict):
            ready.append(text if override.is_add() or override.is_force_add() else f"++{text}")
        elif name in keys:
            ready.append(text)
        elif name in sections:
            inside = ", ".join(key for key in keys if key.startswith(f"{name}."))
            raise ConfigError(f"{text}: {name} is a section; change one of its keys: {inside}")
        else:
            raise ConfigError(f"{name or text}: no such key.{near_key(name)}")
    changed = {override.key_or_group for override in _parse(overrides)}
    for group in choices:
        named = {f"{group}._target_", f"{group}.source._target_"} & changed
        if named and group not in changed and "custom" in choices[group]:
            ready.insert(0, f"{group}=custom")
    return ready


def values(overrides: Sequence[str]) -> dict[str, Any]:
    """The value that each override sets, by key.

    Raises:
        ConfigError: not `key=value`, or several values.
    """
    found: dict[str, Any] = {}
    for text, override in zip(overrides, _parse(overrides), strict=True):
        if override.is_sweep_override():
            raise ConfigError(f"{text}: several values, but one is expected")
        found[override.key_or_group] = override.value()
    return found


def explain(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Turn an exception of Hydra or OmegaConf into an error of one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    if isinstance(cause, MissingMandatoryValue):
        return ConfigError(f"{key}: needs a value; add {key}=VALUE")
    if key in key_types() and isinstance(cause, OmegaConfBaseException):
        written = [text.split("=", 1)[1] for text in overrides if text.lstrip("+").startswith(f"{key}=")]
        refused = re.match("Value '(.*)' ", str(cause))
        refused_text = refused[1] if refused else "null"
        given = next((text for text in written if text.strip("'\"") == refused_text), next(iter(written), None))
        what = f"{key}={given}" if given is not None else key
        return ConfigError(f"{what}: expected {targets.type_name(key_types()[key])}")
    missing = re.search(r"Could not find '(.+)/(\S+)'\s+Available options in '.+':\s+((?:\t.+\n?)+)", str(error))
    if missing:
        group, name, listed = missing.groups()
        package = NOT_OURS.get(name.partition("_")[0])
        if package:
            return ConfigError(f"{group}={name}: is not installed: pip install {package}")
        options = listed.split()
        return ConfigError(f"{group}={name}: no such choice.{suggest(name, options)} Choices: {', '.join(options)}.")
    unknown = re.search(r"Key '(\w+)' not in '(ParameterGroup|PhaseConfig)'", str(cause))
    if unknown:
        where, kind = ("parameters", ParameterGroup) if unknown[2] == "ParameterGroup" else ("phases", PhaseConfig)
        known = [item.name for item in dataclasses.fields(kind)]
        return ConfigError(f"{where}: no such key: {unknown[1]}.{suggest(unknown[1], known)} Keys: {', '.join(known)}.")
    # OmegaConf appends lines about internals, and Hydra a hint that does not suit a typo.
    internals = r"\n\s*(full_key|object_type|reference_type|To append to your config)\b.*"
    texts = dict.fromkeys(re.sub(internals, "", str(one)).strip() for one in (error, cause))
    named = [key] if key and not any(key in text for text in texts) else []
    return ConfigError(": ".join([*named, *(text.removesuffix(".") for text in texts)]))


def quoted(value: object) -> str:
    """Quote a value so that Hydra's grammar reads it back unchanged."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        if max(accumulate((char in "[{(") - (char in "]})") for char in text), default=0) > MAX_NESTING:
            raise ConfigError(f"{text[:200]}...: nested more than {MAX_NESTING} levels deep, which no setting needs")
        try:
            parsed.append(parser.parse_override(text))
        except (HydraException, ValueError) as error:  # ValueError: a number of thousands of digits
            key, equals, value = text.partition("=")
            if not equals:
                expected = "expected key=value"
            elif value.endswith(","):
                expected = "ends in a comma; expected a value, or for a sweep two or more, separated by commas"
            else:
                expected = f"{value[:200]!r} cannot be read as a value; quote it: '{key}=\"...\"'"
            raise ConfigError(f"{text if len(text) < 200 else text[:200] + '...'}: {expected}") from error
    return parsed


def _check_choice(group: str, override: Override, choices: Sequence[str]) -> None:
    for value in _values(override):
        if value not in choices:
            near = _as_backbone(value) if group == "model" else ""
            near = near or suggest(value, choices)
            raise ConfigError(f"{group}={value}: no such {group}.{near} Choices: {', '.join(choices)}.")


def _as_backbone(name: str) -> str:
    from torchvision import models

    listed = models.list_models(module=models)
    return f" Did you mean model=pretrained model.backbone={name.lower()}?" if name.lower() in listed else ""


def _values(override: Override) -> list[str]:
    """The choices that an override of a group names; for a sweep, those of all its jobs."""
    if override.is_sweep_override() and not override.is_choice_sweep():  # range, interval, glob: left to Hydra
        return []
    value: Any = override.value()
    items = value.list if isinstance(value, ChoiceSweep) else [value]
    names = [name for item in items for name in (item if isinstance(item, list) else [item])]
    return ["null" if name is None else name.text if isinstance(name, QuotedString) else str(name) for name in names]


def _parents(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def near_key(name: str, value: str = "") -> str:
    """Suggest the nearest keys, by the whole name or its last part: `" Did you mean trainer.epochs?"`; else name the help.

    value: shown after each key, such as `=3`.
    """
    known = [*key_types(), *sorted({path.parent.name for path in config_dir().glob("*/*.yaml")}), *_keys_of_choices(), "resume"]
    last = name.rpartition(".")[2]
    last = KERAS.get(last, last)
    near = [key for key in known if key.rpartition(".")[2] == last]
    if not near:
        whole = [key for key in known if ("." in key) == ("." in name)]
        near = difflib.get_close_matches(name, whole, 2, 0.7)
        near += [key for key in known if _resemble(last, key.rpartition(".")[2])]
    if not near and last in targets.parameters_of({"_target_": "cnnlab.models.ConvNet"}, "model"):  # which loads torch
        near = [f"model.{last}"]
    if near:
        return f" Did you mean {' or '.join(f'{key}{value}' for key in list(dict.fromkeys(near))[:3])}?"
    return " `python -m cnnlab.train --help` lists the keys."


def _keys_of_choices() -> list[str]:
    """The keys that the choices of the open sections set: optimizer.lr, model.hidden, ..."""
    return [
        f"{group}.{key}"
        for group in ("optimizer", "model", "task", "schedule")
        for path in sorted(config_dir().glob(f"{group}/*.yaml"))
        for key in re.findall(r"^([a-z]\w*):", path.read_text(), re.MULTILINE)
    ]


def _resemble(word: str, key: str) -> bool:
    return (len(word) > 2 and key.startswith(word)) or bool(difflib.get_close_matches(word, [key], 1, 0.75))
