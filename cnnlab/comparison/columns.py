"""Which settings tell configurations apart, in as few words as possible.

A config group that the runs chose differently is a column of names: model is lenet or mlp. A dotted setting is a column only if
it differs and no such name explains it. A group's name explains a setting of its section (model.hidden) if all runs with that
name agree on the setting; an experiment's name explains other names and all settings in the same way. If some run chose no
name, the group explains nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnlab import config
from cnnlab.comparison.runs import LeftOut, Run

GROUPS = ("experiment", "data", "model", "task", "optimizer", "schedule", "augment")


def differing(runs: Sequence[Run | LeftOut]) -> list[str]:
    """Return the columns for one run of each configuration: groups first, then settings in their order."""
    chosen = list(dict.fromkeys([*GROUPS, *sorted({group for run in runs for group in run.choices})]))
    names = {group: [run.choices.get(group) for run in runs] for group in chosen}
    recipes = [config.recipe(run.settings) for run in runs]
    columns = [
        group
        for group in chosen
        if len(set(names[group])) > 1 and (group == "experiment" or not _explains(names["experiment"], names[group]))
    ]
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [comparable(recipe, key) for recipe in recipes]
        if len(set(values)) > 1 and not any(
            _explains(names[group], values) for group in (key.partition(".")[0], "experiment") if group in names
        ):
            columns.append(key)
    return columns


def common(runs: Sequence[Run | LeftOut]) -> dict[str, str]:
    """Return the groups for which all runs chose the same name, with the names."""
    groups = [group for group in GROUPS if len({run.choices.get(group) for run in runs}) == 1]
    return {group: runs[0].choices[group] for group in groups if group in runs[0].choices}


def comparable(settings: Mapping[str, Any], key: str) -> str:
    """Return a text that is equal for equal values, "" if the key is missing."""
    return json.dumps(settings[key], sort_keys=True, default=str) if key in settings else ""


def value(run: Run | LeftOut, column: str) -> Any:
    """Return a run's value in a column, the name of a choice or a setting, or None if it has neither."""
    return run.choices.get(column, run.settings.get(column))


def text(run: Run | LeftOut, column: str) -> str:
    """Return the value as written on a command line, "" if the run has no such setting."""
    if column in run.choices or column not in run.settings:
        return run.choices.get(column, "")
    found = run.settings[column]
    return found if isinstance(found, str) else json.dumps(found, default=str)


def short(run: Run | LeftOut, column: str) -> str:
    """Return the value for a table: on one line, a number such as 0.00031622776601683794 with six digits."""
    found = value(run, column)
    return f"{found:.6g}" if isinstance(found, float) else " ".join(text(run, column).split())


def label(run: Run, columns: Iterable[str]) -> str:
    """Describe a configuration on one line, such as "model=lenet optimizer.lr=0.01"."""
    return " ".join(f"{column}={shown}" for column in columns if (shown := short(run, column)))


def _explains(names: Sequence[str | None], values: Sequence[object]) -> bool:
    """Whether all values under the same name are equal, and every one has a name."""
    return None not in names and len(set(zip(names, values, strict=True))) == len(set(names))
