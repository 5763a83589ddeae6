"""Fit a table into a terminal: abbreviate headings and verdicts, drop columns, cut long names; no line is wrapped."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from cnnlab.comparison import presentation
from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.tables import Table
from cnnlab.tracking import aligned

FIRST_OUT = ("95 % interval", "seconds", "parameters", "std", "difference", "p")  # dropped in this order until the table fits
SETTING, NAME = 16, 12  # cells to which settings and run names are cut


def lines(table: Table, order: Sequence[tuple[int, Configuration]], width: int | None) -> tuple[list[str], list[str]]:
    """Return the rows as lines, the headings first, and the columns that were dropped.

    Args:
        order: ranks and configurations, in the order of display.
        width: of the terminal, in cells; None: no limit.
    """
    names, settings = presentation.headings(table), table.columns
    left = (*settings, presentation.VERDICT_HEADINGS[-1], presentation.RUN)
    rows = [names, *(presentation.cells(table, row, rank) for rank, row in order), *presentation.unfinished(table)]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    if width is None or aligned.width(columns) <= width:
        return aligned.lines(columns, left), []
    rows = [
        presentation.headings(table, short=True),
        *(presentation.cells(table, row, rank, short=True) for rank, row in order),
        *presentation.unfinished(table, short=True),
    ]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}

    def cut(name: str, least: int) -> None:
        room = max(least, width - (aligned.width(columns) - aligned.widest(columns[name])))
        columns[name] = [_cut(cell, room) for cell in columns[name]]

    aligned.drop(columns, [name for name in settings if len(set(columns[name][1:])) == 1], width)  # with --top
    if set(columns["n"][1:]) <= {"1", ""}:
        aligned.drop(columns, ["n"], width)
    aligned.drop(columns, FIRST_OUT, width)
    cut(presentation.RUN, NAME)
    for name in settings:
        cut(name, SETTING)
    if len({*columns[presentation.RUN]}) < len({row[-1] for row in rows}):  # cut names look the same
        aligned.drop(columns, [presentation.RUN], 0)
    aligned.drop(columns, [presentation.RUN, *reversed(settings)], width)
    return aligned.lines(columns, left), [name for name in names if name not in columns]


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"
