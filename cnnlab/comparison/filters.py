"""`--where KEY=VALUE`: select runs by their settings."""

from collections.abc import Sequence
from typing import Any

import yaml

from cnnlab.comparison import columns
from cnnlab.comparison.runs import LeftOut, Run
from cnnlab.errors import ConfigError, suggest


def matching(runs: Sequence[Run | LeftOut], conditions: Sequence[str]) -> list[Run | LeftOut]:
    """Return the runs for which all conditions hold: `model=lenet`, `optimizer.lr=1e-2`, `seed=0,1` (either).

    Values are compared as values: 1e-2 is 0.01, and a missing key is null. Runs whose settings cannot be read are kept, so that
    they are reported.

    Raises:
        ConfigError: a key that no run has, a value that none has, or one that cannot be read.
    """
    kept = list(runs)
    for condition in conditions:
        key, _, text = condition.partition("=")
        wanted = _alternatives(condition, text)
        values = [columns.value(run, key) for run in runs if key in run.choices or key in run.settings]
        if not values:
            keys = dict.fromkeys(key for run in runs for key in (*run.choices, *run.settings))
            raise ConfigError(f"--where {condition}: no run has the setting {key}.{suggest(key, keys)}")
        if not any(_equal(value, one) for value in values for one in wanted):
            found = ",".join(sorted({str(value) for value in values})[:20])
            raise ConfigError(f"--where {condition}: no run matches; the runs have {key}={found}")
        kept = [run for run in kept if not run.settings or any(_equal(columns.value(run, key), one) for one in wanted)]
    return kept


def _alternatives(condition: str, text: str) -> list[Any]:
    """Split "a,b" into two values, but not at commas within brackets."""
    try:
        read = yaml.safe_load(f"[{text}]")
    except (yaml.YAMLError, ValueError, RecursionError):  # 5,000 digits, a month 13, a thousand brackets
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
