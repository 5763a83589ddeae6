"""A table in the width of a terminal: headings and verdicts abbreviated, columns left out, long names cut; no line broken."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from cnnlab.comparison import presentation
from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.tables import Table

GAP = "  "
FIRST_OUT = ("95 % interval", "seconds", "parameters", "std", "difference", "p")  # in this order, while the width asks for it
SETTING, NAME = 16, 12  # cells that a long setting and a run's name keep


def lines(table: Table, order: Sequence[tuple[int, Configuration]], width: int | None) -> tuple[list[str], list[str]]:
    """The rows as lines, the first being the headings, and the columns left out for the width.

    Args:
        order: ranks and configurations, as they are to follow each other.
        width: of the terminal, in cells; None: no limit.
    """
    names, settings = presentation.headings(table), table.columns
    left = {name: name in (*settings, presentation.VERDICT_HEADINGS[-1], presentation.RUN) for name in names}
    rows = [names, *(presentation.cells(table, row, rank) for rank, row in order)]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    if width is None or _width(columns) <= width:
        return _aligned(columns, left), []
    rows = [
        presentation.headings(table, short=True),
        *(presentation.cells(table, row, rank, short=True) for rank, row in order),
    ]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}

    def drop(candidates: Sequence[str]) -> None:
        for name in candidates:
            if name in columns and _width(columns) > width:
                del columns[name]

    def cut(name: str, least: int) -> None:
        room = max(least, width - (_width(columns) - _widest(columns[name])))
        columns[name] = [_cut(cell, room) for cell in columns[name]]

    drop([name for name in settings if len(set(columns[name][1:])) == 1])  # with --top
    if set(columns["n"][1:]) == {"1"}:
        drop(["n"])
    drop(FIRST_OUT)
    cut(presentation.RUN, NAME)
    for name in settings:
        cut(name, SETTING)
    drop([*reversed(settings), presentation.RUN])
    if presentation.RUN in columns:  # with the room of what was left out after it was cut
        columns[presentation.RUN] = [row[-1] for row in rows]
        cut(presentation.RUN, NAME)
    return _aligned(columns, left), [name for name in names if name not in columns]


def _aligned(columns: dict[str, list[str]], left: dict[str, bool]) -> list[str]:
    padded = []
    for name, cells in columns.items():
        widest = _widest(cells)
        spaces = [" " * (widest - cell_len(cell)) for cell in cells]
        padded.append([cell + space if left[name] else space + cell for cell, space in zip(cells, spaces, strict=True)])
    return [GAP.join(cells).rstrip() for cells in zip(*padded, strict=True)]


def _width(columns: dict[str, list[str]]) -> int:
    return sum(map(_widest, columns.values())) + len(GAP) * (len(columns) - 1)


def _widest(cells: Sequence[str]) -> int:
    return max(map(cell_len, cells))


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"
