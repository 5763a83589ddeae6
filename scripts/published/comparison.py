"""Published and measured results: whether a figure is reproduced, and whether a repeated result is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from omegaconf import OmegaConf

from cnnlab import config
from cnnlab.comparison.statistics import LEVEL, Summary, half_width, summarize
from scripts.ledger import Entry

TOLERANCE = {"train": 0.02, "test": 0.010}  # how far a measured mean may be from the published accuracy
ENOUGH = 3  # seeds; with as many, their prediction interval decides
MADE_ON = ("device", "instructions", "torch", "threads")  # what the bits of a result depend on
REPRODUCED, WITHIN_TOLERANCE, NONE_PUBLISHED = "reproduced", "within tolerance", "none published"


@dataclass(frozen=True)
class Figure:
    """A published accuracy and the measured ones of n seeds. part: "train" or "test"."""

    part: str
    published: float
    measured: Summary
    n: int

    @property
    def difference(self) -> float:
        """The measured mean less the published accuracy."""
        return self.measured.mean - self.published

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return where one more seed falls with the probability 1 - `level`; None with fewer seeds than ENOUGH."""
        return prediction_interval(self.measured, self.n, level) if self.n >= ENOUGH else None

    def outside(self, level: float = LEVEL) -> str:
        """Return what is wrong, empty if nothing: a published figure is one draw, so it should fall where one of ours would.

        With fewer seeds than ENOUGH the spread is unknown, and the tolerance decides.
        """
        name = {"train": "training", "test": "test"}[self.part]
        if (interval := self.interval(level)) is not None:
            beyond = max(interval[0] - self.published, self.published - interval[1])
            side = "below" if self.published < interval[0] else "above"
            return f"{name} published {beyond:.4f} {side} our seeds' interval" if beyond > 0 else ""
        beyond = abs(self.difference) - TOLERANCE[self.part]
        side = "below" if self.difference < 0 else "above"
        return f"{name} measured {beyond:.4f} {side} the tolerance" if beyond > 1e-12 else ""


@dataclass(frozen=True)
class Comparison:
    """A published result and the measured ones of one precision, with n seeds. seconds: mean; date: of the latest run."""

    id: str
    precision: str
    published_train: float | None
    published_test: float | None
    n: int
    train: Summary
    test: Summary
    seconds: float
    device: str
    date: str

    @property
    def figures(self) -> list[Figure]:
        """The published figures, of training and test."""
        both = (("train", self.published_train, self.train), ("test", self.published_test, self.test))
        return [Figure(part, goal, measured, self.n) for part, goal, measured in both if goal is not None]

    @property
    def verdict(self) -> str:
        if not self.figures:
            return NONE_PUBLISHED
        amiss = [figure.outside() for figure in self.figures]
        return " and ".join(filter(None, amiss)) or (REPRODUCED if self.n >= ENOUGH else WITHIN_TOLERANCE)

    def fails(self, num_intervals: int) -> bool:
        """Whether a figure is outside its tolerance and outside our seeds' interval, corrected for `num_intervals` seen
        together: of twenty true figures, one is expected outside its own 95 % interval."""
        return any(
            abs(figure.difference) > TOLERANCE[figure.part] + 1e-12 and figure.outside(LEVEL / max(1, num_intervals))
            for figure in self.figures
        )


def prediction_interval(found: Summary, n: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return where one more value falls with the probability 1 - `level`, after `n` normal ones; None for a single value.

    mean ± t(1 - level / 2, n - 1) std sqrt(1 + 1 / n). Source: Hahn 1969, "Factors for calculating two-sided prediction
    intervals for samples from a normal distribution", Journal of the American Statistical Association 64.
    """
    if found.std is None:
        return None
    half = half_width(found.std * (1 + 1 / n) ** 0.5, n - 1, level)
    return found.mean - half, found.mean + half


def num_intervals(rows: Sequence[Comparison]) -> int:
    """Count the published figures of these comparisons that have an interval of our seeds."""
    return sum(figure.interval() is not None for row in rows for figure in row.figures)


def read_published(section: str) -> Any:
    """Return a section of configs/published.yaml."""
    return _published()[section]


@cache
def _published() -> Any:
    return OmegaConf.to_container(OmegaConf.load(config.config_dir() / "published.yaml"))


def compare(
    published: Mapping[str, Mapping[str, Any]], recipes: Mapping[tuple[str, str], str], entries: Sequence[Entry]
) -> list[Comparison]:
    """Return one comparison for each published id and precision with measured entries of its current recipe.

    Args:
        published: `results:` of configs/published.yaml.
        recipes: the current recipe of (id, precision).
        entries: of the ledger; those of other recipes are left out.
    """
    rows = []
    for (name, precision), recipe in recipes.items():
        runs = [entry for entry in entries if entry["id"] == name and entry["recipe"] == recipe]
        if not runs:
            continue
        train, test = (summarize([run[part] for run in runs]) for part in ("train", "test"))
        goal_train, goal_test = (published.get(name, {}).get(part) for part in ("train", "test"))
        devices = "; ".join(sorted({_device(run) for run in runs}))
        date = max(run["date"] for run in runs)
        seconds = fmean(run["seconds"] for run in runs)
        rows.append(Comparison(name, precision, goal_train, goal_test, len(runs), train, test, seconds, devices, date))
    return rows


def _device(run: Entry) -> str:
    return f"{run['device']}, {run['threads']} thread{'s' if run['threads'] > 1 else ''}"


def agreement(old: Entry, new: Entry) -> tuple[bool, str]:
    """Return whether a repeated result agrees, also in words: to every digit if MADE_ON is the same, otherwise within
    TOLERANCE, since sums in another order give another draw."""
    elsewhere = [key for key in MADE_ON if old.get(key) != new.get(key)]
    gap = {part: new[part] - old[part] for part in TOLERANCE}
    if not any(gap.values()):
        return True, "the same to every digit"
    far = ", ".join(f"{part} {gap[part]:+.4f}" for part in gap)
    if not elsewhere:
        return False, f"not the same: {far}, on the same {', '.join(MADE_ON)}"
    where = ", ".join(f"{key} {new.get(key)} here, {old.get(key, 'not recorded')} then" for key in elsewhere)
    same = all(abs(gap[part]) <= TOLERANCE[part] for part in gap)
    return same, f"{'within' if same else 'outside'} the tolerance: {far} ({where})"
