"""Statistics against scipy.stats, printed examples and values computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnnlab.comparison.statistics import holm, mcnemar, paired_t, smallest_difference, summarize

scores = st.floats(0, 1, allow_subnormal=False)


def test_one_value_has_no_spread() -> None:
    found = summarize([0.9])
    assert (found.mean, found.std, found.interval) == (0.9, None, None)


def test_the_interval_by_hand() -> None:
    found = summarize([0.90, 0.92, 0.94])
    assert found.interval is not None
    assert (found.mean, found.std) == (pytest.approx(0.92), pytest.approx(0.02))
    # t(0.975, 2) = 4.30265 in every printed table; 4.30265 x 0.02 / sqrt(3) = 0.049683
    assert found.interval == (pytest.approx(0.92 - 0.049683, abs=1e-6), pytest.approx(0.92 + 0.049683, abs=1e-6))


@given(st.lists(scores, min_size=2, max_size=30))
def test_the_interval_is_scipys(values: list[float]) -> None:
    found = summarize(values)
    error = stats.sem(values) if np.ptp(values) else 0.0
    if error:
        expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert found.interval == pytest.approx(expected, rel=1e-6, abs=1e-9)


def right(count: int, *wrong: int) -> np.ndarray:
    answers = np.ones(count, bool)
    answers[list(wrong)] = False
    return answers


def mcnemar_of(first: np.ndarray, second: np.ndarray) -> float:
    return float(mcnemar(np.stack([first, second]))[0, 1])


def test_mcnemar_by_hand() -> None:
    # Only the first is right on 5 images, only the second on 1: 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    assert mcnemar_of(right(20, 0), right(20, 1, 2, 3, 4, 5)) == pytest.approx(14 / 64)


def test_mcnemar_of_equals_is_certain_of_nothing() -> None:
    assert mcnemar_of(right(9, 1), right(9, 1)) == 1
    assert mcnemar_of(right(9, 1), right(9, 2)) == 1


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True, False])
    second = np.array([False] * only_first + [True] * only_second + [True, False])
    expected = stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1
    found = mcnemar(np.stack([first, second]))
    assert found[0, 1] == found[1, 0] == pytest.approx(expected, rel=1e-9)


def paired_t_of(first: list[float], second: list[float]) -> float:
    return float(paired_t(np.array([first, second]))[0, 1])


def test_the_paired_test_of_students_sleep_data() -> None:
    # Student 1908 with the printed t = 4.0621, 9 degrees of freedom, p = 0.002833 (R's documentation of `sleep`).
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert paired_t_of(first, second) == pytest.approx(0.002833, abs=5e-7)


@given(st.lists(st.tuples(scores, scores), min_size=2, max_size=20))
def test_the_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    differences = np.subtract(first, second)
    if differences.std(ddof=1) > 1e-6:
        assert paired_t_of(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-6, abs=1e-12)


def test_every_pair_is_tested_over_its_common_seeds() -> None:
    scores = np.random.default_rng(1).normal(size=(4, 6))
    scores[0, 4:] = scores[1, :2] = scores[2, 1:] = np.nan  # row 2 has a single seed
    found = paired_t(scores)
    for one, other in ((0, 1), (0, 3), (1, 3)):
        both = ~np.isnan(scores[one] + scores[other])
        expected = stats.ttest_rel(scores[one, both], scores[other, both]).pvalue
        assert found[one, other] == found[other, one] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(found[2]).all()


def test_differences_without_spread_say_nothing() -> None:
    assert paired_t_of([0.9, 0.8, 0.7], [0.9, 0.8, 0.7]) == 1
    assert np.isnan(paired_t_of([0.92, 0.82, 0.72], [0.91, 0.81, 0.71]))  # the differences differ in the last bit only


def test_the_smallest_difference_by_hand() -> None:
    # t(0.975, 2) / sqrt(3) = 4.30265 / 1.73205; of 28 pairs t(1 - 0.05 / 56, 2) = 23.6326
    assert smallest_difference(3, 1) == pytest.approx(2.48414, abs=1e-5)
    assert smallest_difference(3, 28) == pytest.approx(stats.t.ppf(1 - 0.05 / 56, 2) / 3**0.5)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.03])).tolist() == [0.03]


@given(st.lists(scores, min_size=1, max_size=12))
def test_holm_lies_between_the_raw_values_and_bonferronis(values: list[float]) -> None:
    adjusted = holm(np.array(values)).tolist()
    assert all(p <= q <= min(1, p * len(values)) + 1e-12 for p, q in zip(values, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(values, kind="stable")] == sorted(adjusted)
