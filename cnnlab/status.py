"""How a run, a job of a sweep or a compared run stands, and why a run stops: one vocabulary for all. Loads no torch."""

from dataclasses import dataclass
from enum import StrEnum

from cnnlab.errors import CnnlabError


class Status(StrEnum):
    """Of a run, in result.json; of a job, in manifest.json, in this order on the display; of a run that compare leaves out."""

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
        """Whether the run came to its end, and has its final scores."""
        return self in (Status.FINISHED, Status.EARLY_STOPPED)

    @property
    def is_final(self) -> bool:
        """Whether a sweep leaves the job as it is; the others it runs again."""
        return self.is_scored or self is Status.PRUNED


@dataclass(frozen=True)
class Stop:
    """Why a run stops. cause: in words, empty where it came to its end. signal_number: that interrupted it."""

    status: Status
    cause: str = ""
    signal_number: int = 0


class StoppedError(CnnlabError):
    """A run diverged, or a signal interrupted it; `stop` says which. An interrupted one can be resumed."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.cause)
        self.stop = stop
        self.exit_code = 3 if stop.status is Status.DIVERGED else 128 + stop.signal_number
