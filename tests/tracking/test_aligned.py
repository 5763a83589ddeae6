"""Columns of text in the width of a terminal."""

import pytest

from cnnlab.tracking import aligned


def columns() -> aligned.Columns:
    return {"layer": ["layer", "a", "bcdefg"], "size": ["size", "10", "2"], "kind": ["kind", "漢字", "x"]}  # two cells a sign


def test_columns_end_below_each_other() -> None:
    lines = aligned.lines(columns(), ["layer", "kind"])
    assert lines == ["layer   size  kind", "a         10  漢字", "bcdefg     2  x"]
    assert aligned.width(columns()) == 18


@pytest.mark.parametrize(("limit", "removed"), [(None, []), (18, []), (17, ["kind"]), (5, ["kind", "size"])])
def test_columns_are_left_out_in_their_order_until_the_rest_fits(limit: int | None, removed: list[str]) -> None:
    given = columns()
    assert aligned.drop(given, ["kind", "none", "size"], limit) == removed
    assert list(given) == [name for name in columns() if name not in removed]
