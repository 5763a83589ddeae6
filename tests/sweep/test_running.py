import math
from pathlib import Path

import pytest

from cnnlab.errors import FailedJobsError
from cnnlab.status import Status
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.sweep.running import require_all_done
from cnnlab.sweep.telling import ranking, tell_end
from cnnlab.tracking.records import Result
from cnnlab.tracking.run import RunDirectory

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


@pytest.mark.parametrize(("higher_is_better", "order"), [(True, "bca"), (False, "acb")])
def test_configurations_are_ranked_by_the_mean_of_their_seeds(higher_is_better: bool, order: str, tmp_path: Path) -> None:
    scores = [("a", 0, 0.5), ("b", 0, 0.9), ("b", 1, 0.9), ("c", 0, 0.6), ("c", 1, 1.0)]
    done = (Status.FINISHED, None, "validation", "m")
    jobs = [Job(f"{recipe}{seed}", [], recipe, seed, *done, score) for recipe, seed, score in scores]
    jobs += [Job("d", [], "d", 0, Status.FAILED), Job("e", [], "e", 0, *done, math.nan)]
    (tmp_path / "a0").mkdir()
    RunDirectory(tmp_path / "a0").write_result(Result(Status.FINISHED, higher_is_better=higher_is_better))
    ranked = ranking(Manifest(tmp_path), jobs)
    assert "".join(row.jobs[0].recipe for row in ranked) == order
    assert {row.jobs[0].recipe: pytest.approx(row.score) for row in ranked} == {"a": 0.5, "b": 0.9, "c": 0.8}


def test_the_end_names_the_best_and_commands_that_can_be_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "a (night)"
    jobs = [Job(name, [], name, 0, Status.FINISHED, None, "validation", "accuracy", 0.1 * ord(name)) for name in "abcdef"]
    tell_end(Manifest(directory), jobs)
    said = capsys.readouterr().out
    assert f"'{directory}/f'" in said
    assert [name for name in "abcde" if f"  {name}\n" in said] == ["c", "d", "e"]  # the three next
    for command in ("python -m cnnlab.compare", "tensorboard --logdir"):
        assert f"{command} '{directory}'\n" in said
