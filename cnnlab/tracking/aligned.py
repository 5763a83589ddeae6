"""Aligned columns of text, some of them left out if the terminal is too narrow. Does not import torch."""

from collections.abc import Collection, Sequence

from rich.cells import cell_len

GAP = "  "
Columns = dict[str, list[str]]  # by name: the cells from top to bottom, the first is the heading


def lines(columns: Columns, left: Collection[str]) -> list[str]:
    """Return the rows as lines; columns in `left` are aligned to the left, the others to the right."""
    padded = []
    for name, cells in columns.items():
        size = widest(cells)
        spaces = [" " * (size - cell_len(cell)) for cell in cells]
        padded.append([cell + space if name in left else space + cell for cell, space in zip(cells, spaces, strict=True)])
    return [GAP.join(cells).rstrip() for cells in zip(*padded, strict=True)]


def drop(columns: Columns, candidates: Sequence[str], limit: int | None) -> list[str]:
    """Remove candidates in order until the rest fits into `limit` terminal cells (None: no limit); return those removed."""
    removed = []
    for name in candidates:
        if limit is not None and name in columns and width(columns) > limit:
            del columns[name]
            removed.append(name)
    return removed


def width(columns: Columns) -> int:
    """Return the width of a line in terminal cells, of which a Chinese character takes two."""
    return sum(map(widest, columns.values())) + len(GAP) * (len(columns) - 1)


def widest(cells: Sequence[str]) -> int:
    return max(map(cell_len, cells))
