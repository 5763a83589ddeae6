"""One vocabulary of statuses: what each means for a sweep, and the exit code of each reason to stop."""

import signal

import pytest

from cnnlab.status import Status, Stop, StoppedError


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (Stop(Status.DIVERGED, "at step 3"), 3),
        (Stop(Status.INTERRUPTED, "saved", signal.SIGINT), 130),
        (Stop(Status.INTERRUPTED, "saved", signal.SIGTERM), 143),
    ],
)
def test_exit_codes(stop: Stop, code: int) -> None:
    error = StoppedError(stop)
    assert (error.exit_code, str(error), error.stop) == (code, stop.cause, stop)


def test_scored_runs_and_pruned_ones_are_final() -> None:
    assert {status for status in Status if status.is_scored} == {Status.FINISHED, Status.EARLY_STOPPED}
    assert {status for status in Status if status.is_final} == {Status.FINISHED, Status.EARLY_STOPPED, Status.PRUNED}
