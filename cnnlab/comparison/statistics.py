"""Statistics of scores over seeds: their spread, paired tests, Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # of significance; the intervals have the confidence 1 - LEVEL


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (with n - 1) and 95 % interval of the mean; the last two None for a single value."""

    mean: float
    std: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


def summarize(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and interval of one or more values; the interval is mean ± t(0.975, n - 1) std / sqrt(n).

    Source: Student 1908, "The probable error of a mean".
    """
    mean = fmean(values)
    if len(values) < 2:
        return Summary(mean, None, None)
    std = stdev(values)
    half = half_width(std / len(values) ** 0.5, len(values) - 1)
    return Summary(mean, std, (mean - half, mean + half))


def half_width(standard_error: float, freedom: float, level: float = LEVEL) -> float:
    """Return the half-width of the 1 - `level` interval of a mean or difference, by Student's t with `freedom` degrees."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - level / 2)) * standard_error


def mcnemar(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the exact, two-sided p-value that two networks are right equally often, for each pair of K networks.

    If they are, each image that only one of the two gets right is equally likely to be either's: a binomial test with 1/2.

    Args:
        right: whether each network gets each image right, K x N.

    Returns:
        K x K, symmetric.

    Source: McNemar 1947; the exact form in Dietterich 1998, doi:10.1162/089976698300017197, section 3.1.
    """
    from scipy.special import bdtr

    numbers = right.astype(np.float32)  # counts below 2^24 are exact
    only = (numbers @ (1 - numbers).T).astype(np.float64)  # only[i, j]: i is right and j is not
    few, total = np.minimum(only, only.T), only + only.T
    with np.errstate(invalid="ignore"):  # 0 of 0 images
        p = np.where(only == only.T, 1.0, 2 * bdtr(few, total.astype(np.int64), 0.5))
    return np.minimum(p, 1.0)


def paired_t(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two-sided p-value of Student's paired t-test for each pair of K configurations.

    Args:
        scores: K x S, of each configuration with each seed; nan if a seed was not run.

    Returns:
        K x K, symmetric; nan for a pair with fewer than two common seeds, and if the difference is the same for every seed but
        not 0: without any spread, the test would say p = 0. If all differences are 0, p is 1.
    """
    from scipy.special import stdtr

    p = np.full((len(scores), len(scores)), np.nan)
    largest = np.maximum(1.0, np.nan_to_num(np.abs(scores)).max(1, initial=0.0))
    for row, own in enumerate(scores):
        differences = scores[row:] - own
        held = ~np.isnan(differences)
        n = held.sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(held, differences, 0.0).sum(1) / n
            std = np.sqrt((np.where(held, differences - mean[:, None], 0.0) ** 2).sum(1) / (n - 1))
            found = 2 * stdtr(n - 1.0, -np.abs(mean) / (std / np.sqrt(n)))
        rounding = 1e-12 * np.maximum(largest[row:], largest[row])  # errors of the scores, which are not spread
        found = np.where(std < rounding, np.where(np.abs(mean) < rounding, 1.0, np.nan), found)
        p[row, row:] = p[row:, row] = np.where(n > 1, found, np.nan)
    return p


def smallest_difference(n: int, num_tests: int) -> float:
    """Return the smallest mean difference of `n` pairs, in standard deviations of the differences, that is significant as the
    largest of `num_tests` by Holm's correction: t(1 - LEVEL / (2 num_tests), n - 1) / sqrt(n)."""
    return half_width(n**-0.5, n - 1, LEVEL / num_tests)


def corrected(p: NDArray[np.float64], spreadless: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Apply Holm's correction to the p-values of all pairs (K x K, symmetric; nan for a pair that was not tested).

    Args:
        spreadless: K x K, the pairs whose test gave no answer; they count as p = 1, since otherwise the scores themselves
            would decide for how many tests the others are corrected.

    Returns:
        The corrected values, K x K, nan where p is, and the number of tests.
    """
    rows, columns = np.triu_indices(len(p), 1)
    family = np.where(spreadless, 1.0, p)[rows, columns]
    tested = ~np.isnan(family)
    result = np.full(p.shape, np.nan)
    result[rows[tested], columns[tested]] = result[columns[tested], rows[tested]] = holm(family[tested])
    return np.where(spreadless, np.nan, result), int(tested.sum())


def holm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values (M) for their number, in the given order: the chance of even one false alarm stays below LEVEL.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return adjusted
