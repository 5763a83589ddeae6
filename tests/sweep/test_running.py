from pathlib import Path

import pytest

from cnnlab.errors import FailedJobsError
from cnnlab.status import Status
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.sweep.running import require_all_done, tell_end

DONE = Job("a", [], "r", 0, Status.FINISHED)


def test_alike_causes_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job(name, [], "r", 0, Status.FAILED, f"outputs/s/{name}: the disk is full", exit_code=4) for name in ("a", "b")]
    tell_end(Manifest(tmp_path), [*jobs, Job("c", [], "r", 0, Status.FAILED, "outputs/s/c: no such thing", exit_code=2)])
    said = capsys.readouterr().out
    assert (said.count("the disk is full"), said.count("outputs/s/c: no such thing")) == (1, 1)


@pytest.mark.parametrize(
    ("status", "code", "worth_repeating"),
    [(Status.FAILED, 4, True), (Status.INTERRUPTED, 130, True), (Status.DIVERGED, 3, False)],  # to the bit, again
)
def test_a_sweep_ends_with_the_exit_code_of_what_is_not_done(status: Status, code: int, worth_repeating: bool) -> None:
    bad = Job("b", [], "r", 0, status, "why", exit_code=code)
    assert bad.worth_repeating is worth_repeating
    with pytest.raises(FailedJobsError) as caught:
        require_all_done([DONE, bad])
    assert caught.value.exit_code == code
    require_all_done([DONE, Job("c", [], "r", 0, Status.PRUNED)])
