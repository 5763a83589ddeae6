"""Group the seeds of each configuration, rank the configurations, and test the first against the others."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cnnlab import config
from cnnlab.comparison import columns
from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.runs import LeftOut, MeasuredOn, Run
from cnnlab.comparison.verdicts import Verdicts, judge
from cnnlab.errors import ConfigError, suggest
from cnnlab.status import Status

LOST = (Status.DIVERGED, Status.FAILED, Status.PRUNED)


@dataclass(frozen=True)
class Table:
    """Configurations that were measured on the same test images in the same way.

    rows: ranked, those without a validation score last. columns: the settings that differ. common: the groups for which all
    chose the same name. lost: for each row, how many of its runs diverged, failed or were pruned. is_ambiguous: whether only
    the digest of the test images tells it from another table. unfinished: runs that will be measured in this way, the best
    validation score so far first. top: how many rows are shown, None: all; all rows are tested.
    """

    measured_on: MeasuredOn
    metric: str
    higher_is_better: bool
    rows: list[Configuration]
    columns: list[str]
    common: dict[str, str]
    lost: list[int]
    is_ambiguous: bool
    unfinished: Sequence[LeftOut] = ()
    top: int | None = None

    @cached_property
    def verdicts(self) -> Verdicts:
        """The first row tested against each of the others; reads predictions if the tests need them."""
        return judge(self.rows)


def configurations(runs: Sequence[Run | LeftOut]) -> tuple[list[Configuration], list[LeftOut]]:
    """Group runs by recipe and test images, and return those not counted: of runs with the same seed, the last to end
    counts."""
    groups: dict[Any, dict[int, Run]] = {}
    left_out = [run for run in runs if isinstance(run, LeftOut)]
    scored = [run for run in runs if isinstance(run, Run)]
    for run in sorted(scored, key=lambda run: (run.ended, str(run.directory.path))):
        seeds = groups.setdefault((_recipe(run), run.measured_on, run.metric), {})
        if run.seed in seeds:
            cause = f"counted already: the same configuration and seed {run.seed} as {run.directory.name}, which ended later"
            left_out.append(LeftOut(seeds[run.seed].directory.name, Status.FINISHED, cause))
        seeds[run.seed] = run
    return [Configuration(tuple(seeds[seed] for seed in sorted(seeds))) for seeds in groups.values()], left_out


def _recipe(run: Run | LeftOut) -> str:
    return json.dumps(config.recipe(run.settings), sort_keys=True, default=str)


def tables(rows: Sequence[Configuration], left_out: Sequence[LeftOut] = (), top: int | None = None) -> list[Table]:
    """Return one table for each set of test images and metric, in the order of their names.

    left_out: runs without a score, which each table counts for its rows. top: as in Table.
    """
    lost = Counter(_recipe(run) for run in left_out if run.settings and run.status in LOST)
    groups: dict[tuple[MeasuredOn, str, bool], list[Configuration]] = {}
    for row in rows:
        first = row.runs[0]
        groups.setdefault((first.measured_on, first.metric, first.higher_is_better), []).append(row)
    names = Counter((replace(measured_on, digest=""), metric) for measured_on, metric, _ in groups)
    made = []
    for (measured_on, metric, higher), group in groups.items():
        firsts = [row.runs[0] for row in group]
        ambiguous = names[replace(measured_on, digest=""), metric] > 1
        unfinished = _unfinished(left_out, measured_on, metric, higher)
        differing, common = columns.differing([*firsts, *unfinished]), columns.common([*firsts, *unfinished])
        order = ranked(group, higher)
        gone = [lost[_recipe(row.runs[0])] for row in order]
        made.append(Table(measured_on, metric, higher, order, differing, common, gone, ambiguous, unfinished, top))

    def place(table: Table) -> tuple[Any, ...]:
        on = table.measured_on
        return on.data, table.metric, -on.images, on.classes, on.digest.startswith("root "), on.digest

    return sorted(made, key=place)


def _unfinished(left_out: Iterable[LeftOut], measured_on: MeasuredOn, metric: str, higher_is_better: bool) -> list[LeftOut]:
    """Return a table's unfinished runs that have a validation score so far, the best first."""
    found = [
        one
        for one in left_out
        if one.is_unfinished and one.validation is not None and one.last is not None
        if (one.measured_on, one.last.metric) == (measured_on, metric)
    ]
    return sorted(found, key=lambda one: one.validation or 0.0, reverse=higher_is_better)


def ranked(rows: Iterable[Configuration], higher_is_better: bool) -> list[Configuration]:
    """Sort by validation score, then rows without one by test score; of equals, the one with fewer parameters first."""
    sign = -1 if higher_is_better else 1

    def key(row: Configuration) -> tuple[Any, ...]:
        score = row.test.mean if row.validation_mean is None else row.validation_mean
        return row.validation_mean is None, sign * score, row.parameters, str(row.runs[0].directory.path)

    return sorted(rows, key=key)


NUMBERS: dict[str, Callable[[Configuration], float | None]] = {
    "n": lambda row: row.n,
    "test": lambda row: row.test.mean,
    "std": lambda row: row.test.std,
    "validation": lambda row: row.validation_mean,
    "seconds": lambda row: row.seconds,
    "parameters": lambda row: row.parameters,
}


def sort_rows(rows: Sequence[Configuration], column: str, settings: Sequence[str]) -> list[Configuration]:
    """Sort by a number of NUMBERS or by one of `settings`: scores best first, all else ascending, empty cells last.

    Raises:
        ConfigError: no such column.
    """
    if column not in NUMBERS and column not in settings:
        legal = [*NUMBERS, *settings]
        raise ConfigError(f"--sort {column}: no such column.{suggest(column, legal)} Columns: {', '.join(legal)}.")

    def key(row: Configuration) -> tuple[Any, ...]:
        found: Any = NUMBERS[column](row) if column in NUMBERS else columns.value(row.runs[0], column)
        if found is None:
            return (2,)
        if not isinstance(found, int | float):
            return 1, str(found)
        return 0, -found if column in ("test", "validation") and row.runs[0].higher_is_better else found

    return sorted(rows, key=key)


def in_order(table: Table, sort: str | None = None) -> list[tuple[int, Configuration]]:
    """Return the rows that are shown, with their ranks, in the order of display."""
    if sort is None or (sort not in NUMBERS and sort not in table.columns):
        return list(enumerate(table.rows, 1))[: table.top]
    ranks = {id(row): rank for rank, row in enumerate(table.rows, 1)}
    return [(ranks[id(row)], row) for row in sort_rows(table.rows, sort, table.columns)][: table.top]
