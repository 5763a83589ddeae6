"""How often a table of equal configurations gets a verdict, by simulation: in at most 5 of 100 tables, however row 1 is chosen.

The simulations are `scripts.verdict_rates`; `first_row_only`, which is what fails here, shows that they can fail.
"""

from pathlib import Path

import numpy as np
import pytest

from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.runs import MeasuredOn, Run
from cnnlab.comparison.verdicts import judge
from cnnlab.tracking.run import RunDirectory
from scripts.verdict_rates import first_row_only, mcnemar_rate, rates, scores

TABLES = 1000
LIMIT = 0.05 + 3 * (0.05 * 0.95 / TABLES) ** 0.5  # three standard errors of the simulation: 0.0707


@pytest.mark.parametrize("chosen", [{}, {"by_test": True}, {"overlap": True}], ids=["validation", "test", "overlap"])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("k", [2, 20])  # 8 through the tables themselves, below
def test_equal_configurations_over_seeds(k: int, n: int, chosen: dict[str, bool]) -> None:
    false, _ = rates(k, n, TABLES, 0, **chosen)
    assert false <= LIMIT


@pytest.mark.parametrize("k", [2, 8, 20])
def test_equally_good_networks_with_one_seed_each(k: int) -> None:
    assert mcnemar_rate(k, 500, TABLES, 0) <= LIMIT


def test_correcting_for_the_pairs_with_row_1_alone_is_not_enough() -> None:
    assert rates(20, 10, TABLES, 0, by_test=True, judge=first_row_only)[0] > LIMIT
    assert mcnemar_rate(20, 500, TABLES, 0, judge=first_row_only) > LIMIT


def test_a_large_difference_is_found() -> None:
    _, found = rates(8, 10, 200, 0, better=4.0)
    assert found > 0.9


@pytest.mark.parametrize("overlap", [False, True])
def test_the_tables_themselves(overlap: bool) -> None:
    """The same through `judge`, as compare calls it, with configurations of 5 seeds in 8 rows."""
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(200):
        test, validation = scores(rng, np.zeros(8), 5, overlap)
        order = np.nanmean(validation, axis=1).argsort()[::-1]
        rows = [
            Configuration(tuple(run(seed, test[row, seed]) for seed in np.flatnonzero(~np.isnan(test[row])).tolist()))
            for row in order
        ]
        alarms += any("worse" in verdict.text or "better" in verdict.text for verdict in judge(rows).rows)
    assert alarms / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def run(seed: int, score: float) -> Run:
    images = MeasuredOn("digits", 100, (), "a")
    return Run(RunDirectory(Path("x")), {"seed": seed}, {}, images, "accuracy", True, score, None, None, None, 0.0)
