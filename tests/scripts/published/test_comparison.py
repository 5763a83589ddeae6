"""Published against measured: the tolerance, prediction intervals by hand, a result that is measured again."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from cnnlab.comparison.statistics import summarize
from scripts.ledger import Entry
from scripts.published import page
from scripts.published.comparison import (
    NONE_PUBLISHED,
    REPRODUCED,
    WITHIN_TOLERANCE,
    Comparison,
    agreement,
    compare,
    prediction_interval,
)  # fmt: skip


def entry(seed: int, test: float, **more: object) -> Entry:
    base = {"id": "x", "recipe": "r", "seed": seed, "train": 0.9, "test": test, "seconds": 10.0}
    return base | {"device": "CPU", "threads": 2, "date": "2026-11-21", "torch": "2", "instructions": "AVX2"} | more


def compared(tests: Sequence[float], train: float, goals: dict[str, float | None]) -> Comparison:
    (row,) = compare({"x": goals}, {("x", "fp32"): "r"}, [entry(seed, test, train=train) for seed, test in enumerate(tests)])
    return row


def test_the_prediction_interval_by_hand() -> None:
    # 0.92 ± 4.30265 x 0.02 x sqrt(1 + 1/3) = 0.92 ± 0.099366, with t(0.975, 2) of every printed table
    found = summarize([0.90, 0.92, 0.94])
    assert prediction_interval(found, 3) == pytest.approx((0.820634, 1.019366), abs=1e-6)
    # of 20 intervals together, each of 1 - 0.05 / 20: t(0.99875, 2) = 19.9625
    assert prediction_interval(found, 3, 0.05 / 20) == pytest.approx((0.92 - 0.461014, 0.92 + 0.461014), abs=1e-5)
    assert prediction_interval(summarize([0.9]), 1) is None


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_further_value_falls_into_the_prediction_interval(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.9, 0.01, (4000, n + 1))
    intervals = [prediction_interval(summarize(row[:-1]), n) for row in draws.tolist()]
    inside = [low <= value <= high for (low, high), value in zip(intervals, draws[:, -1], strict=True)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.011)  # 3 standard errors of 4,000 tables


@pytest.mark.parametrize(
    ("tests", "train", "good"),
    [
        ((0.890, 0.892), 0.90, True),
        ((0.8801, 0.8801), 0.90, True),  # 0.0099 below
        ((0.8790,), 0.90, False),
        ((0.9010,), 0.90, False),
        ((0.89, 0.89), 0.8790, False),  # training: 0.021 below
    ],
)
def test_one_or_two_seeds_against_the_tolerance(tests: tuple[float, ...], train: float, good: bool) -> None:
    row = compared(tests, train, {"train": 0.90, "test": 0.89})
    assert (row.verdict == WITHIN_TOLERANCE, row.fails(1), row.fails(20)) == (good, not good, not good)
    assert [figure.difference for figure in row.figures] == pytest.approx([train - 0.90, fmean(tests) - 0.89])
    assert [figure.interval() for figure in row.figures] == [None, None]


@pytest.mark.parametrize(
    ("goal", "inside", "fails", "fails_of_28"),
    [
        # 0.88, 0.89, 0.90: 0.89 ± 4.30265 x 0.01 x sqrt(4 / 3) = 0.89 ± 0.049683; of 28 figures t(1 - 0.025 / 28, 2) = 23.6326
        (0.9396, True, False, False),
        (0.8404, True, False, False),
        (0.9407, False, True, False),
        (0.8393, False, True, False),
        (0.6000, False, True, True),  # 0.89 - 23.6326 x 0.011547 = 0.6171
    ],
)
def test_three_seeds_against_their_prediction_interval(goal: float, inside: bool, fails: bool, fails_of_28: bool) -> None:
    row = compared((0.88, 0.89, 0.90), 0.9, {"train": None, "test": goal})
    assert (row.verdict == REPRODUCED, row.fails(1), row.fails(28)) == (inside, fails, fails_of_28)
    assert row.figures[0].interval() == pytest.approx((0.89 - 0.049683, 0.89 + 0.049683), abs=1e-6)


def test_a_narrow_interval_alone_is_no_failure() -> None:
    """Three seeds may agree by chance; a figure that is within its tolerance is not contradicted by that."""
    row = compared((0.8900, 0.8901, 0.8902), 0.9, {"train": None, "test": 0.8950})
    assert (row.verdict == REPRODUCED, row.fails(1)) == (False, False)


def test_pooled_seeds_of_mlp_cifar_1_by_hand() -> None:
    # An audit's figures for seeds 0 to 9: 0.4653 ± 0.0121, interval 0.437 to 0.494.
    tests = (0.4581, 0.4825, 0.4549, 0.4667, 0.4517, 0.4648, 0.4814, 0.4746, 0.4481, 0.4703)
    row = compared(tests, 0.5, {"train": None, "test": 0.4748})
    assert str(row.test) == "0.4653 ± 0.0121"
    assert row.figures[0].interval() == pytest.approx((0.437, 0.494), abs=5e-4)


def test_only_the_present_recipe_counts_and_nothing_published_is_no_verdict() -> None:
    assert compare({}, {("x", "fp32"): "new"}, [entry(0, 0.9)]) == []
    (row,) = compare({}, {("x", "fp32"): "r"}, [entry(0, 0.9)])
    assert (row.fails(1), row.verdict, row.figures) == (False, NONE_PUBLISHED, [])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"seconds": 99.0, "date": "2027-01-01", "torch": "3"}, True),
        ({"test": 0.5001}, False),  # on the same machine every digit counts
        ({"test": 0.5001, "torch": "3"}, True),
        ({"test": 0.5001, "instructions": "AVX512"}, True),
        ({"test": 0.4899, "threads": 1}, False),
        ({"train": 0.93, "device": "other"}, False),
    ],
)
def test_a_result_measured_again(change: dict[str, Any], same: bool) -> None:
    old = entry(0, 0.5)
    assert agreement(old, old | change)[0] is same


def test_an_entry_without_an_instruction_set_is_of_another_machine() -> None:
    new = entry(0, 0.501)
    assert agreement({key: value for key, value in entry(0, 0.5).items() if key != "instructions"}, new)[0]


def test_both_precisions_side_by_side() -> None:
    recipes = {(name, precision): name + precision for name in ("x", "y", "z") for precision in ("fp32", "bf16")}
    scores = {"xfp32": (0.50, 0.70), "xbf16": (0.62,), "yfp32": (0.80,), "ybf16": (0.78,), "zfp32": (0.9,)}
    entries = [
        entry(seed, test, id=recipe[0], recipe=recipe) for recipe, tests in scores.items() for seed, test in enumerate(tests)
    ]
    text = page.text(compare({}, recipes, entries), {})
    # +0.02 and -0.02: mean 0, standard deviation 0.02 * sqrt(2), so that the half-width is t(0.975, 1) * 0.02 = 12.7062 * 0.02
    for part in ("-0.2541 to +0.2541", "| x | 0.6000 ± 0.1414 | 0.6200 | +0.0200 |", "| y | 0.8000 | 0.7800 | -0.0200 |"):
        assert part in text
    assert "| z | 0.9" not in text
