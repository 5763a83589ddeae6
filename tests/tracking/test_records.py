"""The records of a run come back from its files as they were; damaged ones are told."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnlab.errors import CheckpointError
from cnnlab.status import Status
from cnnlab.tracking import files
from cnnlab.tracking.records import Epoch, Result, Score
from cnnlab.tracking.run import RunDirectory

EPOCH = Epoch(2, 8, 0.1 + 0.2, "mae", {"train": Score(0.5, 2.0), "validation": Score(1 / 3, 3.0)}, 1.25, 80.5)
RESULT = Result(Status.EARLY_STOPPED, "", 2, 8, 61_706, 1.5, "mae", False, "best", {"test": Score(0.25, 1 / 3)})


def through_the_file(run: RunDirectory, epoch: Epoch) -> Epoch:
    files.write_json_lines(run.metrics, [epoch.line()])
    (read,) = run.read_epochs()
    return read


@pytest.mark.parametrize("metric", ["accuracy", "mae"])
@pytest.mark.parametrize("splits", [("train",), ("train", "validation"), ("train", "validation", "test")])
def test_an_epoch_comes_back(metric: str, splits: tuple[str, ...], tmp_path: Path) -> None:
    scores = {split: Score(0.1 * number, 1 / number) for number, split in enumerate(splits, 1)}
    epoch = Epoch(3, 17, 0.1 + 0.2, metric, scores, 0.125, 1234.5)
    assert through_the_file(RunDirectory(tmp_path), epoch) == epoch
    keys = {f"{split}_{name}" for split in splits for name in ("loss", metric)}
    assert epoch.line().keys() == keys | {"epoch", "step", "lr", "metric", "train_s", "images_per_s"}


@pytest.mark.parametrize(
    "result", [RESULT, Result(Status.DIVERGED, "at step 3"), Result(Status.PRUNED, "worse", 1, scores={}, metric="accuracy")]
)
def test_a_result_comes_back(result: Result, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.read_result() is None
    run.write_result(result)
    assert run.read_result() == result
    assert RESULT.content()["test"] == {"loss": 0.25, "mae": 1 / 3}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_in_the_files_and_comes_back_as_nan(value: float, tmp_path: Path) -> None:
    run, scores = RunDirectory(tmp_path), {"train": Score(value, 0.5), "validation": Score(0.25, value)}
    epoch = through_the_file(run, Epoch(1, 4, 0.1, "accuracy", scores, 1.0, 60.0))
    run.write_result(Result(Status.FINISHED, metric="accuracy", scores=scores))
    line, content, result = json.loads(run.metrics.read_text()), json.loads(run.result.read_text()), run.read_result()
    assert (line["train_loss"], line["validation_accuracy"], content["train"]["loss"]) == (None, None, None)
    assert result is not None
    for read in (epoch.scores, result.scores):
        assert [read["train"].value, read["validation"].loss] == [0.5, 0.25]
        assert math.isnan(read["train"].loss)
        assert math.isnan(read["validation"].value)


@pytest.mark.parametrize("scores", [{"test": Score(0.5, 0.5)}, {"validation": Score(0.5, 0.5), "test": Score(0.5, 0.5)}])
def test_a_choice_rests_on_validation_where_there_is_one(scores: dict[str, Score]) -> None:
    assert Result(Status.FINISHED, scores=scores).judged_by == next(iter(scores))


NO_NUMBERS: list[Any] = ["x", "8", [1], {}, True, 10**400]
NO_COUNTS = [*NO_NUMBERS[:-1], None, math.inf, -5, 1.5]  # Python reads Infinity, which JSON has not


@pytest.mark.parametrize(
    "damage",
    [*({"epoch": value} for value in NO_COUNTS), *({"validation_mae": value} for value in NO_NUMBERS), {"metric": "loss "}],
    ids=str,
)
def test_a_damaged_line_is_told(damage: dict[str, Any], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    lines = (EPOCH.line() | damage, EPOCH.line())  # the last is passed over where it is incomplete
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        run.read_epochs()


@pytest.mark.parametrize(
    "damage",
    [
        *({"epochs": value} for value in NO_COUNTS),
        *({"status": value} for value in ("over", None)),
        *({"test": value} for value in (None, 3, "x", [1], {"loss": 0.5})),
    ],
    ids=str,
)
def test_a_damaged_result_is_told(damage: dict[str, Any], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.result.write_text(json.dumps(RESULT.content() | damage))
    with pytest.raises(CheckpointError, match=r"result\.json"):
        run.read_result()


@pytest.mark.parametrize(
    ("read", "content", "key"),
    [
        *((Epoch.of_line, EPOCH.line(), key) for key in EPOCH.line() if not key.endswith("_loss")),
        *((Result.of_content, RESULT.content(), key) for key in RESULT.content() if key != "test"),
    ],
)
def test_what_lacks_something_is_told(read: Callable[[dict[str, Any]], object], content: dict[str, Any], key: str) -> None:
    with pytest.raises(CheckpointError, match=key):
        read({name: value for name, value in content.items() if name != key})


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_what_is_no_json_object_is_told(content: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.result.write_text(content)
    with pytest.raises(CheckpointError, match=r"result\.json"):
        run.read_result()
