"""The status of runs and of jobs of a sweep, and why a run stops: one vocabulary for all. Does not import torch."""

from dataclasses import dataclass
from enum import StrEnum

from cnnlab.errors import CnnlabError


class Status(StrEnum):
    """Status of a run, in result.json; of a job, in manifest.json, displayed in this order; of a run that compare leaves
    out."""

    FINISHED = "finished"
    EARLY_STOPPED = "stopped early"
    PRUNED = "pruned"
    RUNNING = "running"
    PENDING = "pending"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def is_scored(self) -> bool:
        """Whether the run was completed and has its final scores."""
        return self in (Status.FINISHED, Status.EARLY_STOPPED)

    @property
    def is_final(self) -> bool:
        """Whether a sweep leaves the job as it is; it runs the others again."""
        return self.is_scored or self is Status.PRUNED


@dataclass(frozen=True)
class Stop:
    """Why a run stops. cause: in words, empty if it was completed. signal_number: the signal that interrupted it."""

    status: Status
    cause: str = ""
    signal_number: int = 0


class StoppedError(CnnlabError):
    """A run diverged, or a signal interrupted it; `stop` says which. An interrupted one can be resumed."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.cause)
        self.stop = stop
        self.exit_code = 3 if stop.status is Status.DIVERGED else 128 + stop.signal_number
