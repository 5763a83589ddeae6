"""A configuration: the runs of one recipe, and their numbers over the seeds."""

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from cnnlab.comparison.runs import Run
from cnnlab.comparison.statistics import Summary, summarize


@dataclass(frozen=True)
class Configuration:
    """The runs of one recipe, one per seed, in the order of their seeds."""

    runs: tuple[Run, ...]

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @cached_property
    def test(self) -> Summary:
        return summarize([run.test for run in self.runs])

    @cached_property
    def validation_mean(self) -> float | None:
        """The mean over the seeds, or None if a run had no validation split."""
        scores = [run.validation for run in self.runs if run.validation is not None]
        return fmean(scores) if len(scores) == self.n else None

    @cached_property
    def seconds(self) -> float:
        """The mean over the seeds."""
        return fmean(run.seconds for run in self.runs)

    @property
    def parameters(self) -> int:
        return self.runs[0].parameters
