"""`--where KEY=VALUE`: which runs a person asked for."""

from collections.abc import Sequence
from typing import Any

import yaml

from cnnlab.errors import ConfigError, suggest
from cnnlab.sweep.runs import Run


def matching(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """The runs for which all conditions hold: `model=lenet`, `optimizer.lr=1e-2`, `seed=0,1` (either).

    Values are compared as values: 1e-2 is 0.01. A run without the key does not match.

    Raises:
        ConfigError: a key that no run has, or a value that cannot be read.
    """
    keys = dict.fromkeys(key for run in runs for key in (*run.choices, *run.settings))
    kept = list(runs)
    for condition in conditions:
        key, _, text = condition.partition("=")
        if runs and key not in keys:
            raise ConfigError(f"--where {condition}: no run has the setting {key}.{suggest(key, keys)}")
        wanted = _alternatives(condition, text)
        kept = [run for run in kept if any(_equal(_value(run, key), one) for one in wanted)]
        if runs and not kept:
            found = sorted({str(_value(run, key)) for run in runs if _value(run, key) is not None})
            raise ConfigError(f"--where {condition}: no run matches; there are {key}={','.join(found[:20])}")
    return kept


def _value(run: Run, key: str) -> Any:
    return run.choices.get(key, run.settings.get(key))


def _alternatives(condition: str, text: str) -> list[Any]:
    """ "a,b" as two values; commas within brackets separate nothing."""
    try:
        read = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        raise ConfigError(f"--where {condition}: cannot be read as a value; quote it: KEY='\"VALUE\"'") from None
    return [text] if not isinstance(read, list) or not read else read


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list) and isinstance(value, str):  # a list of choices
        value = yaml.safe_load(value)
    if isinstance(value, list) or isinstance(wanted, list):
        same_kind = isinstance(value, list) and isinstance(wanted, list) and len(value) == len(wanted)
        return same_kind and all(_equal(a, b) for a, b in zip(value, wanted, strict=True))
    if isinstance(value, bool) or isinstance(wanted, bool) or value is None or wanted is None:
        return value is wanted
    try:
        return float(value) == float(wanted)
    except (TypeError, ValueError):
        return str(value) == str(wanted)
