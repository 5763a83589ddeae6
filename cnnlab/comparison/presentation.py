"""A table of configurations as text: headings, cells and notes for the terminal, Markdown and HTML; plain values for files."""

import os
from collections.abc import Sequence
from typing import Any

from cnnlab.comparison import columns
from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.runs import LeftOut, Run
from cnnlab.comparison.statistics import smallest_difference
from cnnlab.comparison.tables import Table
from cnnlab.comparison.verdicts import MCNEMAR, PAIRED_T

NUMBER_HEADINGS = ("n", "test", "std", "95 % interval", "validation", "seconds", "parameters")
FAR = 10  # standard deviations, more than any realistic difference
VERDICT_HEADINGS = ("difference", "p", "against row 1")
RUN = "run"
SHORT_HEADINGS = {"validation": "val", "parameters": "params", "difference": "diff", "against row 1": "vs row 1"}


def title(table: Table) -> str:
    """Return a title such as "digits: test accuracy on 2,000 images", with the classes if they are few, and with the digest of
    the images if another table has different ones."""
    on = table.measured_on
    classes = f" ({', '.join(on.classes)})" if 0 < len(on.classes) < 5 else ""
    images = f" ({_which_images(table)})" if table.is_ambiguous else ""
    return f"{on.data}{classes}: test {table.metric} on {on.images:,} images{images}"


def _which_images(table: Table) -> str:
    """Return the digest of the test images, and the directory that the first run read."""
    root, digest = table.rows[0].runs[0].settings.get("data.root"), table.measured_on.digest
    return f"digest {'not recorded' if digest.startswith('root ') else digest}, data.root {root}"


def shared(table: Table) -> list[str]:
    """Return a line with the choices common to all rows, and one with the folder of their runs."""
    common = {group: name for group, name in table.common.items() if group != "data" or name != table.measured_on.data}
    what = " ".join(f"{group}={name}" for group, name in common.items())
    told = [f"{'all with' if len(table.rows) > 1 else 'with'} {what}"] if what else []
    return [*told, f"runs in {where}"] if (where := _folder(table)) else told


def headings(table: Table, short: bool = False) -> list[str]:
    """Return the headings: rank, settings, numbers, verdict and run. short: abbreviated."""
    settings = table.columns
    if short:
        last = [column.rpartition(".")[2] for column in settings]
        settings = [end if last.count(end) == 1 else column for end, column in zip(last, settings, strict=True)]
    names = [*NUMBER_HEADINGS, *(VERDICT_HEADINGS if table.verdicts.rows else ()), RUN]
    return ["", *settings, *(SHORT_HEADINGS.get(name, name) if short else name for name in names)]


def cells(table: Table, row: Configuration, rank: int, short: bool = False) -> list[str]:
    """Return a row's cells, one per heading."""
    test, settings = row.test, _settings(table, row.runs[0], short)
    interval = f"{test.interval[0]:.4f} – {test.interval[1]:.4f}" if test.interval else "-"
    return [
        str(rank), *settings, str(row.n), number(test.mean), number(test.std), interval, number(row.validation_mean),
        f"{row.seconds:,.1f}", f"{row.parameters:,}", *_verdict(table, rank, short), _run(table, row),
    ]  # fmt: skip


def unfinished(table: Table, short: bool = False) -> list[list[str]]:
    """Return a row for each unfinished run: its validation score so far, and its status in place of a verdict."""
    found = []
    for one in table.unfinished[: table.top]:
        empty = dict.fromkeys(NUMBER_HEADINGS, "") | {"validation": number(one.validation)}
        stands, name = f"{one.status}, epoch {one.epochs}", _below(table, one)
        last = ["", "", stands, name] if table.verdicts.rows else [f"{name} ({stands})"]
        found.append(["", *_settings(table, one, short), *empty.values(), *last])
    return found


def _settings(table: Table, run: Run | LeftOut, short: bool) -> list[str]:
    settings = [columns.short(run, column) for column in table.columns]
    if not short:
        return settings
    named = zip(table.columns, settings, strict=True)
    return [text if "." in column else text.rpartition(".")[2] for column, text in named]  # mine.Net is Net


def _verdict(table: Table, rank: int, short: bool) -> list[str]:
    """Return difference, p and verdict: empty for the first row, none for a table of one row."""
    if not table.verdicts.rows or rank == 1:
        return [""] * (3 if table.verdicts.rows else 0)
    verdict = table.verdicts.rows[rank - 2]
    p = "-" if verdict.p is None else "<0.0001" if verdict.p < 0.0001 else f"{verdict.p:.4f}"
    return [f"{verdict.difference:+.4f}", p, verdict.short if short else verdict.text]


def folder(runs: Sequence[Run]) -> str:
    """Return the folder that contains all runs, "" if it is the current one or there is none."""
    folders = [os.path.dirname(run.name) for run in runs]
    return os.path.commonpath(folders) if len({os.path.isabs(name) for name in folders}) == 1 else ""


def _folder(table: Table) -> str:
    return folder([run for row in table.rows for run in row.runs])


def _run(table: Table, row: Configuration) -> str:
    """Return the directory of the first seed, below the table's folder, and the number of further seeds: "mlp-seed0 +2"."""
    return _below(table, row.runs[0]) + (f" +{row.n - 1}" if row.n > 1 else "")


def _below(table: Table, run: Run | LeftOut) -> str:
    """Return the directory of a run below the table's folder."""
    where = _folder(table)
    return os.path.relpath(run.name, where) if where else run.name


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def first_without_validation(table: Table) -> int | None:
    """Return the index of the first row without a validation score (such rows come last), or None without such rows."""
    if len(table.rows) < 2:
        return None
    return next((index for index, row in enumerate(table.rows) if row.validation_mean is None), None)


def section_line(table: Table) -> str:
    return f"without validation, so ranked by test {table.metric}, which makes the first look too good:"


def notes(table: Table) -> list[str]:
    """How the rows were ranked and tested, and what that can tell."""
    shown = min(len(table.rows), table.top or len(table.rows))
    direction = "" if table.higher_is_better else " (lower is better)"
    by = "test" if first_without_validation(table) == 0 else "validation"
    lines = [f"Ranked by {by} {table.metric}{direction}."] if len(table.rows) > 1 else []
    if table.unfinished:
        lines.append("Rows without a rank are runs that have not ended, with the validation score of their last epoch.")
    if shown < len(table.rows):
        lines.append(f"{shown:,} of {len(table.rows):,} rows shown (--top {table.top}); all are tested.")
    if len(table.rows) > 2:
        lines.append(
            "Row 1 was chosen by the scores of these runs, so its mean is a little too good: to report a score, train it with "
            "new seeds."
        )
    lost = [f"row {rank}: {count}" for rank, count in enumerate(table.lost, 1) if count]
    if lost:
        lines.append(f"Runs that diverged, failed or were pruned are not in n ({', '.join(lost)}): it counts the survivors.")
    if table.measured_on.digest.startswith("root "):
        lines.append(
            "These runs were made by a version of cnnlab that recorded no digest of the test images. They are grouped by the "
            "directory that they read, since nobody can know whether their images were those of other runs."
        )
    if any(row.n > 1 for row in table.rows):
        lines.append("std and interval are over the seeds; the interval is Student's t for the mean.")
    used = [test for test in (MCNEMAR, PAIRED_T) if any(verdict.test == test for verdict in table.verdicts.rows)]
    if not used:
        return lines
    lines.append(f"Tested on the test {table.metric} against row 1: {' and '.join(used)}, two-sided.")
    tests = table.verdicts.num_tests
    if tests > 1:
        lines.append(
            f"p is corrected for all {tests:,} pairs of this table (Holm), so it is valid however row 1 was chosen; but not if "
            "rows, runs or the number of seeds were chosen after a look at the scores (--where, one more seed)."
        )
    if MCNEMAR in used:
        lines.append(
            "McNemar's test is about these trained networks, not about their settings: equal settings with two seeds also "
            "give different networks."
        )
    if (n := table.verdicts.num_seeds) is not None:
        least, with_ten = (smallest_difference(seeds, tests) for seeds in (n, 10))
        more = f" ({with_ten:.1f} times with 10 seeds)" if n < 10 else ""
        needed = f"a difference must be at least {least:.1f} times the standard deviation of the paired differences{more}"
        lines.append(
            f"With {n} seeds {needed} to be distinguished from chance."
            if least < FAR
            else f"{n} seeds are too few for so many rows: {needed}."
        )
    return lines


def as_values(table: Table, rank: int, settings: Sequence[str]) -> dict[str, Any]:
    """Return a row (`rank` counts from 1) for --json and --csv, unrounded; the verdict is against row 1, whose own is null."""
    row, verdict = table.rows[rank - 1], table.verdicts.rows[rank - 2] if rank > 1 else None
    return {
        "settings": {column: columns.value(row.runs[0], column) for column in settings},
        "data": table.measured_on.data,
        "test_images": table.measured_on.images,
        "test_digest": table.measured_on.digest,
        "metric": table.metric,
        "rank": rank,
        "seeds": row.seeds,
        "n": row.n,
        "test_mean": row.test.mean,
        "test_std": row.test.std,
        "test_interval": row.test.interval,
        "validation_mean": row.validation_mean,
        "seconds": row.seconds,
        "parameters": row.parameters,
        "runs": [run.directory.name for run in row.runs],
        "difference": verdict and verdict.difference,
        "p": verdict and verdict.p,
        "verdict": verdict and verdict.text,
    }


def as_run(run: Run | LeftOut, settings: Sequence[str]) -> dict[str, Any]:
    """Return a single run, unrounded; without a test score, it has its validation score so far."""
    scored = run if isinstance(run, Run) else None
    metric = scored.metric if scored else run.last.metric if isinstance(run, LeftOut) and run.last else None
    return {
        "settings": {column: columns.value(run, column) for column in settings},
        "run": run.name,
        "status": str(run.status),
        "data": run.settings.get("data.name"),
        "metric": metric,
        "seed": run.settings.get("seed"),
        "epochs": run.epochs,
        "test": scored and scored.test,
        "validation": run.validation,
        "seconds": scored and scored.seconds,
        "parameters": scored and scored.parameters,
    }
