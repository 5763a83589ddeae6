"""Statistics and verdicts: what a handful of seeds can show, by rules that can also say "did not hold".

An interval contains the mean with 95 % confidence by Student's t; that of a difference is Welch's. Arms share the training
images of a seed, which makes the latter too wide rather than too narrow.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from cnnlab.comparison.statistics import half_width, summarize

SIGNS = {True: "yes", False: "no", None: "open"}


@dataclass(frozen=True)
class Estimate:
    """A mean (or a difference of two) and the half-width of its interval; None if a side has only one value."""

    mean: float
    half: float | None

    @property
    def low(self) -> float:
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half or 0.0)


@dataclass(frozen=True)
class Finding:
    """One part of a claim, tested. holds: None if the seeds cannot tell, or nothing is measured."""

    text: str
    holds: bool | None


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one or more values, with its interval."""
    found = summarize(values)
    return Estimate(found.mean, None if found.interval is None else found.interval[1] - found.mean)


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the mean of `first` minus that of `second`. Source: Welch 1947, with Satterthwaite's degrees of freedom."""
    mean = fmean(first) - fmean(second)
    if min(len(first), len(second)) < 2:
        return Estimate(mean, None)
    parts = [(variance(values) / len(values), len(values) - 1) for values in (first, second)]
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / count for part, count in parts) if total else 1.0
    return Estimate(mean, half_width(total**0.5, freedom))


def above(text: str, first: Sequence[float], second: Sequence[float], by: float = 0.0) -> Finding:
    """Whether `first` is more than `by` above `second`; a negative `by` asks whether it is at most that much below."""
    if not first or not second:
        return Finding(f"{text}: not measured yet", None)
    found = difference(first, second)
    return Finding(f"{text}: {signed(found)}", _told(found, found.low > by, found.high <= by))


def near(text: str, first: Sequence[float], second: Sequence[float], margin: float) -> Finding:
    """Whether the two differ by less than `margin`."""
    if not first or not second:
        return Finding(f"{text}: not measured yet", None)
    found = difference(first, second)
    inside, outside = -margin < found.low and found.high < margin, found.low >= margin or found.high <= -margin
    return Finding(f"{text}: {signed(found)}", _told(found, inside, outside))


def at_most(text: str, values: Sequence[float], limit: float) -> Finding:
    """Whether the mean of `values` is at most `limit`."""
    if not values:
        return Finding(f"{text}: not measured yet", None)
    found = estimate(values)
    return Finding(f"{text}: {plain(found)}", _told(found, found.high <= limit, found.low > limit))


def verdict(findings: Sequence[Finding]) -> str:
    """Return held | held in part | held as far as could be told | largely open | did not hold | could not be told, with the
    counts of mixed findings."""
    told = Counter(finding.holds for finding in findings)
    counts = ", ".join(f"{told[holds]} {word}" for holds, word in SIGNS.items() if told[holds])
    if told[False]:
        words = "held in part" if told[True] else "did not hold"
    elif told[True]:
        settled = "held" if not told[None] else "held as far as could be told"
        words = settled if told[True] >= told[None] else "largely open"
    else:
        words = "could not be told"
    return f"{words} ({counts})" if len(told) > 1 else words


def plain(found: Estimate) -> str:
    """Write an estimate as "0.8860 ± 0.0029", without an interval as "0.8860 (one seed)"."""
    return f"{found.mean:.4f} (one seed)" if found.half is None else f"{found.mean:.4f} ± {found.half:.4f}"


def signed(found: Estimate) -> str:
    """Write a difference as "+0.0312, 95 % interval +0.0290 to +0.0334"."""
    if found.half is None:
        return f"{found.mean:+.4f}, and one seed on a side gives no interval"
    return f"{found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"


def _told(found: Estimate, yes: bool, no: bool) -> bool | None:
    return None if found.half is None else True if yes else False if no else None
