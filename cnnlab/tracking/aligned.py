"""Columns of text, aligned, and left out where a terminal is too narrow for all. Loads no torch."""

from collections.abc import Collection, Sequence

from rich.cells import cell_len

GAP = "  "
Columns = dict[str, list[str]]  # the cells below each other by name, the first being the heading


def lines(columns: Columns, left: Collection[str]) -> list[str]:
    """The rows as lines; cells of the columns in `left` begin at the left, the others end at the right."""
    padded = []
    for name, cells in columns.items():
        size = widest(cells)
        spaces = [" " * (size - cell_len(cell)) for cell in cells]
        padded.append([cell + space if name in left else space + cell for cell, space in zip(cells, spaces, strict=True)])
    return [GAP.join(cells).rstrip() for cells in zip(*padded, strict=True)]


def drop(columns: Columns, candidates: Sequence[str], limit: int | None) -> list[str]:
    """Remove candidates, in their order, until the rest fits into `limit` cells (None: no limit); those removed."""
    removed = []
    for name in candidates:
        if limit is not None and name in columns and width(columns) > limit:
            del columns[name]
            removed.append(name)
    return removed


def width(columns: Columns) -> int:
    """Cells that a line takes."""
    return sum(map(widest, columns.values())) + len(GAP) * (len(columns) - 1)


def widest(cells: Sequence[str]) -> int:
    return max(map(cell_len, cells))
