"""What can be said of scores over seeds: their spread, paired tests, Holm's correction. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # of the tests; the intervals are of 1 - LEVEL


@dataclass(frozen=True)
class Summary:
    """std: the sample's, with n - 1. interval: of the mean, 95 %. Both are None for a single value. As text: 0.89 ± 0.01."""

    mean: float
    std: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


def summarize(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and interval of one or more values; the interval is mean ± t(0.975, n - 1) std / sqrt(n).

    Source: Student 1908, "The probable error of a mean".
    """
    mean = fmean(values)
    if len(values) < 2:
        return Summary(mean, None, None)
    std = stdev(values)
    half = half_width(std / len(values) ** 0.5, len(values) - 1)
    return Summary(mean, std, (mean - half, mean + half))


def half_width(standard_error: float, freedom: float) -> float:
    """Of the interval of a mean or of a difference of means, by Student's t with `freedom` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - LEVEL / 2)) * standard_error


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """The exact, two-sided p-value that two networks are right equally often.

    Of the images that only one of the two has right, each has the same chance to be right: a binomial test with 1/2.

    Args:
        first, second: whether each image is right, N, in the same order.

    Source: McNemar 1947; the exact form in Dietterich 1998, doi:10.1162/089976698300017197, section 3.1.
    """
    from scipy.special import bdtr

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first == only_second:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def paired_t(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's paired t-test, of two or more pairs.

    None where every pair has the same difference but 0: the test has no spread to go by, and would say p = 0. Where all
    differences are 0, p is 1.
    """
    from scipy.special import stdtr

    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, std = fmean(differences), stdev(differences)
    if std < 1e-12 * max(1.0, *map(abs, first), *map(abs, second)):  # the rounding of scores is no spread
        return 1.0 if abs(mean) < 1e-12 else None
    t = mean / (std / len(differences) ** 0.5)
    return min(1.0, 2 * float(stdtr(len(differences) - 1, -abs(t))))


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the given order: the chance of even one false alarm stays below LEVEL.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted
