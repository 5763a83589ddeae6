"""Intervals against scipy and printed tables; findings and verdicts that can go either way."""

import pytest
from scipy import stats

from scripts.lesson.rules import Estimate, Finding, above, at_most, difference, estimate, near, verdict

HIGH, LOW, WIDE = [0.90, 0.91, 0.92], [0.80, 0.81, 0.82], [0.7, 0.9, 1.1]


def test_a_mean_has_students_interval() -> None:
    # Mean 0.91, standard deviation 0.01; t(0.975, 2) = 4.303 in printed tables.
    found = estimate(HIGH)
    assert (found.mean, found.half) == (pytest.approx(0.91), pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4))
    assert estimate([0.5]).half is None


@pytest.mark.parametrize(("first", "second"), [(HIGH, WIDE), (HIGH, [0.1, 0.2]), (LOW, [0.8, 0.9, 0.7, 0.75, 0.83])])
def test_a_difference_has_welchs_interval(first: list[float], second: list[float]) -> None:
    reference = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    found = difference(first, second)
    assert (found.low, found.high) == (pytest.approx(reference.low), pytest.approx(reference.high))


def test_equal_numbers_have_no_width() -> None:
    assert difference([1.0, 1.0], [0.5, 0.5]) == Estimate(0.5, 0.0)


@pytest.mark.parametrize(
    ("finding", "holds"),
    [
        (above("", HIGH, LOW), True),
        (above("", LOW, HIGH), False),
        (above("", HIGH, WIDE), None),  # chance could do it
        (above("", HIGH, LOW, 0.05), True),
        (above("", HIGH, LOW, 0.2), False),
        (above("", LOW, HIGH, -0.2), True),  # at most 0.2 below
        (above("", HIGH, [0.8]), None),  # no interval
        (above("", HIGH, []), None),
        (near("", HIGH, LOW, 0.2), True),
        (near("", HIGH, LOW, 0.05), False),
        (near("", HIGH, WIDE, 0.05), None),
        (at_most("", LOW, 0.9), True),
        (at_most("", HIGH, 0.8), False),
        (at_most("", WIDE, 0.9), None),
        (at_most("", [0.5], 0.9), None),
        (at_most("", [], 0.9), None),
    ],
)
def test_findings(finding: Finding, holds: bool | None) -> None:
    assert finding.holds is holds


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((True, True), "held"),
        ((True, None, True), "held as far as could be told (2 yes, 1 open)"),
        ((True, None), "held as far as could be told (1 yes, 1 open)"),
        ((True, None, None), "largely open (1 yes, 2 open)"),
        ((True, False), "held in part (1 yes, 1 no)"),
        ((True, False, None), "held in part (1 yes, 1 no, 1 open)"),
        ((False, False), "did not hold"),
        ((False, None), "did not hold (1 no, 1 open)"),
        ((None, None), "could not be told"),
    ],
)
def test_verdicts(told: tuple[bool | None, ...], expected: str) -> None:
    assert verdict([Finding("", holds) for holds in told]) == expected
