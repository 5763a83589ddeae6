#!/usr/bin/env python3
"""Measure how often `compare` errs, and what it can find, on simulated tables of equal and of different configurations.

A score is the configuration's true score plus an effect of the seed plus the run's own noise, normal with standard deviation 1;
the run's validation score correlates with it. The false alarm rate is the share of tables in which at least one row that equals
row 1 gets a verdict. Prints docs/VERDICTS.md: `python -m scripts.verdict_rates > docs/VERDICTS.md`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlab.comparison.statistics import LEVEL, corrected, holm, mcnemar, paired_t

Floats = NDArray[np.float64]
CORRELATION = 0.83  # of a run's validation and test score, measured over 400 runs
PAGE = """\
# How far a verdict can be trusted

Written by `python -m scripts.verdict_rates`: {tables:,} simulated tables per cell, so that 5.0 has a standard error of 0.3.

`compare` puts the best row first and tests it against the others. The best row was chosen by scores of the same runs that are
tested, and a lucky run is lucky on validation and test images alike (correlation 0.83 over 400 runs). So p is corrected by
Holm's method for all pairs of the table, k (k - 1) / 2 for k rows. Of tables whose rows have two or more seeds in common, at
most 5 % then contain even one verdict between equal configurations, whichever row is first and why. Correcting for only k - 1
pairs, those with row 1, as if it had been named before training, does not keep that promise.

The promise assumes that the table is the one that was planned. Choosing rows with `--where`, naming runs on the command line,
or adding one more seed until a verdict appears, after a look at the scores, also chooses by the scores, and no correction can
know about that (one seed more until there is a verdict, from 3 to 10: about one table in six is wrong). It also assumes that
scores vary about normally over the seeds: if one run in five fails to learn, more verdicts are wrong. Configurations of which
unlucky seeds diverged are compared by their survivors, as the notes of the table say.

With one seed each the verdict is "this network is worse": it is about the two trained networks on images like these, by
McNemar's exact test, and appears in at most 5 % of tables of equally good *networks*. Equal settings with two different seeds
give networks that differ, and more than half of the tables of equal *settings* with one seed each contain such a verdict.
Only several seeds can tell settings apart.
"""
HEADS = """
## {title}

{text} The first number is corrected for all pairs, as `compare` does, the one in parentheses only for the pairs with row 1.
"""
HARDNESS = (1.2, 0.4)  # beta distribution of how easy images are: right three times in four, a few hard for every network


def all_pairs(p: Floats, first: int) -> NDArray[np.bool_]:
    """Return which rows get a verdict against row `first`, K: corrected for all pairs that were tested, as `compare` does."""
    verdicts: NDArray[np.bool_] = corrected(p, np.zeros(p.shape, bool))[0][first] < LEVEL
    return verdicts


def first_row_only(p: Floats, first: int) -> NDArray[np.bool_]:
    """Return the same, corrected only for the pairs with row `first`, as if it had not been chosen by its scores."""
    others = np.flatnonzero(~np.isnan(p[first]) & (np.arange(len(p)) != first))
    found = np.zeros(len(p), bool)
    found[others] = holm(p[first, others]) < LEVEL
    return found


def scores(rng: np.random.Generator, means: Floats, n: int, overlap: bool) -> tuple[Floats, Floats]:
    """Draw test and validation scores of a table, K x S, nan if a configuration was not run with a seed.

    means: the true scores, K. n: common seeds of each pair of configurations. overlap: each has two more, which it shares
        with some of the others.
    """
    starts = np.arange(len(means)) % 3 if overlap else np.zeros(len(means), int)
    n += 2 if overlap else 0
    seeds = np.arange(n + starts.max())
    run = rng.standard_normal((2, len(means), len(seeds)))
    run[1] = CORRELATION * run[0] + (1 - CORRELATION**2) ** 0.5 * run[1]
    test, validation = run + means[:, None] + rng.standard_normal((2, 1, len(seeds)))
    outside = (seeds < starts[:, None]) | (seeds >= starts[:, None] + n)
    test[outside] = validation[outside] = np.nan
    return test, validation


def rates(
    k: int, n: int, tables: int, seed: int, by_test: bool = False, overlap: bool = False, better: float = 0.0,
    judge: Callable[[Floats, int], NDArray[np.bool_]] = all_pairs,
) -> tuple[float, float]:  # fmt: skip
    """Simulate tables of k configurations with n seeds each, ranked by validation (or by test), and return the share with at
    least one false verdict and the share of true differences that were found.

    better: how much the first configuration's true score is above all others', in standard deviations of a run.
    """
    rng = np.random.default_rng([k, n, seed])
    means = np.zeros(k)
    means[0] = better
    alarms, found = 0, 0.0
    for _ in range(tables):
        test, validation = scores(rng, means, n, overlap)
        first = int(np.nanmean(test if by_test else validation, axis=1).argmax())
        verdicts = judge(paired_t(test), first)
        alarms += bool((verdicts & (means == means[first])).any())
        found += float(verdicts[1:].mean()) if first == 0 else 0.0
    return alarms / tables, found / tables


def mcnemar_rate(
    k: int, images: int, tables: int, seed: int, judge: Callable[[Floats, int], NDArray[np.bool_]] = all_pairs
) -> float:
    """Return the share of simulated tables of k equally good networks, ranked by test, with at least one false verdict."""
    rng = np.random.default_rng([k, images, seed])
    alarms = 0
    for _ in range(tables):
        right = rng.random((k, images)) < rng.beta(*HARDNESS, images)
        alarms += bool(judge(mcnemar(right), int(right.sum(1).argmax())).any())
    return alarms / tables


def main() -> None:
    tables, judges = 4000, (all_pairs, first_row_only)

    def table(columns: dict[str, dict[str, Any]], which: int) -> None:
        print(f"| rows | seeds | {' | '.join(columns)} |\n{'|---' * (2 + len(columns))}|")
        for k, n in ((k, n) for k in (2, 8, 20) for n in (2, 3, 5, 10)):
            found = [[100 * rates(k, n, tables, 0, judge=judge, **how)[which] for judge in judges] for how in columns.values()]
            print(f"| {k} | {n} | {' | '.join(f'{ours:.1f} ({other:.1f})' for ours, other in found)} |", flush=True)

    print(PAGE.format(tables=tables), end="")
    print(HEADS.format(title="False verdicts", text="Tables of equal configurations with at least one verdict, in %."))
    more = "two seeds not in common"
    table({"ranked by validation": {}, "ranked by test": {"by_test": True}, more: {"overlap": True}}, 0)
    print("\nEqually good networks with one seed each on 1,000 test images, ranked by test:\n")
    print("| rows | McNemar's test |\n|---|---|")
    for k in (2, 8, 20):
        ours, other = (100 * mcnemar_rate(k, 1000, tables, 0, judge) for judge in judges)
        print(f"| {k} | {ours:.1f} ({other:.1f}) |", flush=True)
    text = "One configuration is truly better than all others: the share of the others that are called worse, in %."
    print(HEADS.format(title="Differences found", text=text))
    table({f"better by {better:g} standard deviations of a run": {"better": better} for better in (2.0, 5.0)}, 1)
    print("\nWith two or three seeds the honest correction hides nearly all differences in long tables: few rows, more seeds.")


if __name__ == "__main__":
    main()
