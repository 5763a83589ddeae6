#!/usr/bin/env python3
"""How often `compare` errs, and what it can find: simulated tables whose configurations are known to be equal, or not.

A score is its configuration's true one, plus an effect of the seed, plus what the run draws itself, normal with standard
deviation 1; the validation score of the same run correlates with it. The false alarm rate is the share of tables in which at
least one row that equals row 1 gets a verdict. Prints docs/VERDICTS.md: `python -m scripts.verdict_rates > docs/VERDICTS.md`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cnnlab.comparison.statistics import LEVEL, holm, mcnemar, paired_t

Floats = NDArray[np.float64]
CORRELATION = 0.83  # of a run's validation and test score, measured over 400 runs
PAGE = """\
# How far a verdict can be trusted

Written by `python -m scripts.verdict_rates`: {tables:,} simulated tables a cell.

`compare` puts the best row first and tests it against the others. The best row was chosen by scores of the same runs that are
tested, and a lucky run is lucky on validation and test images alike (correlation 0.83 over 400 runs). So p is corrected for
all pairs of the table by Holm's method, k (k - 1) / 2 of them for k rows: at most 5 % of all tables then hold even one verdict
between equal configurations, whichever row is first and why. Correcting for the k - 1 pairs with row 1 alone, as if it had been
named before training, does not keep that promise.

The family is the table that is shown. `--where` after a look at the scores chooses rows by their scores, too, and no correction
can know what was looked at: name the rows that you want to compare before you train them.

With one seed each the verdict is "this network is worse": about the two trained networks on images like these, by McNemar's
exact test. Equal settings with two seeds give networks that differ, too. Only seeds can tell settings apart.

In each cell: corrected for all pairs, as `compare` does / for the pairs with row 1 alone. First the percentage of tables of
equal configurations with a false verdict (ranked by validation, by test, and by validation with seeds that are partly in
common). Then, for one configuration that is truly better than all others by so many standard deviations of a run, the
percentage of the others that are told to be worse: what the honest correction costs. With two or three seeds it costs nearly
everything in a long table: run few configurations with more seeds.
"""
HARDNESS = (1.2, 0.4)  # of images, a beta distribution: right three times of four, a few images hard for every network


def all_pairs(p: Floats, first: int) -> NDArray[np.bool_]:
    """Which rows get a verdict against row `first`, K: corrected for all pairs that were tested, as `compare` does."""
    pairs = np.triu_indices(len(p), 1)
    tested = ~np.isnan(p[pairs])
    adjusted = np.full(p.shape, np.nan)
    adjusted[pairs[0][tested], pairs[1][tested]] = holm(p[pairs][tested])
    return np.fmin(adjusted[first], adjusted[:, first]) < LEVEL


def first_row_only(p: Floats, first: int) -> NDArray[np.bool_]:
    """The same corrected for the pairs with row `first` alone, as if it had not been chosen by its scores."""
    others = np.flatnonzero(~np.isnan(p[first]) & (np.arange(len(p)) != first))
    found = np.zeros(len(p), bool)
    found[others] = holm(p[first, others]) < LEVEL
    return found


def scores(rng: np.random.Generator, means: Floats, n: int, overlap: bool) -> tuple[Floats, Floats]:
    """Test and validation scores of a table, K x S, nan where a configuration was not run with a seed.

    means: the true scores, K. n: seeds of each configuration; overlap: they begin at 0, 1 or 2, so that some are in common.
    """
    starts = np.arange(len(means)) % 3 if overlap else np.zeros(len(means), int)
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
    """Of simulated tables of k configurations with n seeds each, ranked by validation (or by test): the share with at least one
    false verdict, and the share of true differences that were found.

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
    """The share of simulated tables of k equally good networks, ranked by test, with at least one false verdict."""
    rng = np.random.default_rng([k, images, seed])
    alarms = 0
    for _ in range(tables):
        right = rng.random((k, images)) < rng.beta(*HARDNESS, images)
        alarms += bool(judge(mcnemar(right), int(right.sum(1).argmax())).any())
    return alarms / tables


def main() -> None:
    tables, judges = 4000, (all_pairs, first_row_only)
    print(PAGE.format(tables=tables))
    print("| rows | seeds | by validation | by test | seeds partly in common | best row 2 std above | 5 std above |")
    print("|---" * 7 + "|")
    for k, n in ((k, n) for k in (2, 8, 20) for n in (2, 3, 5, 10)):
        cells = [
            " / ".join(f"{100 * rates(k, n, tables, 0, judge=judge, **how)[which]:.1f}" for judge in judges)
            for which, how in (
                (0, {}),
                (0, {"by_test": True}),
                (0, {"overlap": True}),
                (1, {"better": 2.0}),
                (1, {"better": 5.0}),
            )
        ]
        print(f"| {k} | {n} | {' | '.join(cells)} |", flush=True)
    print("\nEqually good networks with one seed each on 1,000 test images, ranked by test, McNemar's test:\n")
    print("| rows | false alarms |\n|---|---|")
    for k in (2, 8, 20):
        print(f"| {k} | {' / '.join(f'{100 * mcnemar_rate(k, 1000, tables, 0, judge):.1f}' for judge in judges)} |", flush=True)


if __name__ == "__main__":
    main()
