"""What a real TensorBoard answers about a folder of runs, through its HTTP interface."""

import errno
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import epoch_lines, result, resume, train

from cnnlab import config
from cnnlab.training.step import Step

# 10 steps an epoch
FAST = ("data.limit=95", "trainer.batch_size=10", "trainer.log_every=3", "trainer.epochs=2", "optimizer.lr=0.01")
LEFT = {"left/interrupted": "STATUS_UNKNOWN", "left/diverged": "STATUS_FAILURE", "left/failed": "STATUS_FAILURE"}
SCORES = [f"{name} {split}" for name in ("acc", "loss") for split in ("test", "val")]
FINAL = [f"score end/{name}" for name in (*SCORES, "seconds")]

Ask = Callable[..., Any]


class Kill(BaseException):
    """Stands for a kill: nothing after it runs."""


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def kill() -> None:
    raise Kill


def train_until_step_15(happening: Callable[[], object], run: Path, *overrides: str, code: int = 0) -> None:
    """Train a run, in whose 15th step something happens."""
    original, counted = Step.update, iter(range(1, 10**6))

    def update(self: Step, lr_factor: float) -> None:
        if next(counted) == 15:
            happening()
        original(self, lr_factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "update", update)
        train(run, *FAST, *overrides, code=code)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with every kind of history; the fast ones are one configuration."""
    folder = tmp_path_factory.mktemp("outputs")
    train(folder / "fast", *FAST)
    train_until_step_15(interrupt, folder / "fast-interrupted", "seed=1", code=130)
    train_until_step_15(fill_the_disk, folder / "fast-failed", "seed=2", code=4)
    with pytest.raises(Kill):
        train_until_step_15(kill, folder / "fast-killed", "seed=3", "checkpoint.every_s=0")
    train(folder / "fast-lengthened", *FAST, "seed=4", "trainer.epochs=1")
    train_until_step_15(interrupt, folder / "left/interrupted", "trainer.epochs=3", code=130)
    train(folder / "left/diverged", *FAST, "optimizer=sgd", "optimizer.lr=1e30", code=3)
    train_until_step_15(fill_the_disk, folder / "left/failed", "optimizer.lr=0.02", code=4)
    train(folder / "regression", *FAST, "task=regression")
    time.sleep(1)  # the event file of a continued run has a later second in its name, as its new process would give it
    for name in ("interrupted", "failed", "killed"):
        resume(folder / f"fast-{name}")
    resume(folder / "fast-lengthened", "trainer.epochs=2")
    return folder


@pytest.fixture(scope="module")
def ask(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A function that asks a TensorBoard, once it has loaded the folder."""
    log = tmp_path_factory.mktemp("log") / "log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(outputs), "--port=0"]
    with log.open("w") as file, subprocess.Popen(command, stderr=file, stdout=file) as process:
        try:
            deadline = time.monotonic() + 60
            while not (said := re.search(r"at (http://\S+?)/? ", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)

            def ask(path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
                address = f"{said[1]}/data/{path}?{urllib.parse.urlencode(query)}"
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)

            while len(ask("runs")) < len(directories(outputs)) or not ask("plugin/custom_scalars/layout"):
                assert time.monotonic() < deadline, ask("runs")
                time.sleep(0.1)
            yield ask
        finally:
            process.terminate()


def directories(folder: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("config.yaml") if path.parent.name != ".hydra")


@pytest.fixture(scope="module")
def rows(ask: Ask) -> dict[str, Any]:
    """The rows of the table, seeds averaged, by name."""
    infos = ask("plugin/hparams/experiment", {})
    columns = [{"hparam": info["name"]} for info in infos["hparamInfos"]]
    columns += [{"metric": info["name"]} for info in infos["metricInfos"]]
    shown = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    body = {"allowedStatuses": shown, "colParams": columns, "aggregationType": "AGGREGATION_AVG", "sliceSize": 100}
    return {row["name"]: row for row in ask("plugin/hparams/session_groups", body)["sessionGroups"]}


def recipe(run: Path) -> str:
    return config.recipe_hash(config.read(run / "config.yaml"))


def final(row: dict[str, Any]) -> dict[str, float]:
    values = {value["name"]["tag"]: value["value"] for value in row.get("metricValues", [])}
    return {tag: value for tag, value in values.items() if tag.startswith("score end/")}


def test_the_runs_are_the_run_directories_and_each_is_in_the_row_of_its_configuration(
    ask: Ask, rows: dict[str, Any], outputs: Path
) -> None:
    assert sorted(ask("runs")) == directories(outputs)
    shown = {session["name"]: name for name, row in rows.items() for session in row["sessions"]}
    assert shown == {name: recipe(outputs / name) for name in directories(outputs)}


def test_a_row_shows_the_mean_of_its_seeds_and_its_hyper_parameters(rows: dict[str, Any], outputs: Path) -> None:
    row = rows[recipe(outputs / "fast")]
    results = [result(outputs / session["name"]) for session in row["sessions"]]
    expected = {
        f"score end/{name.replace('uracy', '')} {short}": statistics.mean(one[split][name] for one in results)
        for split, short in (("test", "test"), ("validation", "val"))
        for name in ("accuracy", "loss")
    } | {"score end/seconds": statistics.mean(one["seconds"] for one in results)}
    assert final(row) == pytest.approx(expected, rel=1e-6)  # float32
    assert len({one["test"]["loss"] for one in results}) == 5  # a mean of equals would show nothing
    chosen = {"model": "mlp", "optimizer": "adam", "model.hidden": "[8]", "trainer.batch_size": 10, "optimizer.lr": 0.01}
    assert chosen.items() <= row["hparams"].items()
    assert "seed" not in row["hparams"]


def test_the_columns_are_all_runs_and_the_scores_come_first(ask: Ask) -> None:
    """TensorBoard shows five metrics at first, and colours by the first of them."""
    infos = ask("plugin/hparams/experiment", {})
    assert {info["name"] for info in infos["hparamInfos"]} > {"optimizer.momentum", "optimizer.betas"}  # sgd's and adam's
    names = [info["name"]["tag"] for info in infos["metricInfos"]]
    assert [name for name in names if "mae" not in name][:5] == FINAL


def test_how_each_run_ended(rows: dict[str, Any], outputs: Path) -> None:
    shown = {session["name"]: session["status"] for row in rows.values() for session in row["sessions"]}
    assert shown == {name: LEFT.get(name, "STATUS_SUCCESS") for name in directories(outputs)}
    assert not any(final(rows[recipe(outputs / name)]) for name in LEFT)


def test_runs_overlay_under_equal_tags(ask: Ask, outputs: Path) -> None:
    curves = {f"score/{name}/{split}" for split in ("train", "validation") for name in ("loss", "accuracy")}
    curves |= {"training/learning_rate", "training/images_per_s"}
    tags = {run: set(found) for run, found in ask("plugin/scalars/tags").items()}
    pictures, texts = ask("plugin/images/tags"), ask("plugin/text/tags")
    for name in directories(outputs):
        assert texts[name] == ["config/text_summary"]
        if name in LEFT:
            assert tags.get(name, set()) <= curves
        elif name == "regression":
            assert {"score/mae/train", "score/mae/validation", "score end/mae test"} < tags[name]
            assert set(pictures[name]) == {"visuals/first_batch", "visuals/worst_mistakes"}
        else:
            assert tags[name] == curves | set(FINAL)
            assert set(pictures[name]) == {"visuals/first_batch", "visuals/worst_mistakes", "visuals/confusion"}
    points = ask("plugin/scalars/scalars", run="fast-killed", tag="score/loss/validation")
    lines = epoch_lines(outputs / "fast-killed")
    assert [(step, value) for _, step, value in points] == [
        (line["step"], pytest.approx(line["validation_loss"], rel=1e-6)) for line in lines
    ]


def test_training_and_validation_share_a_chart(ask: Ask) -> None:
    (category,) = ask("plugin/custom_scalars/layout")["category"]
    charts = {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}
    assert len(category["chart"]) == len(charts)
    assert set(charts) == {"accuracy", "loss", "mae"}  # mae: of the run with task=regression
    for title in ("accuracy", "loss"):
        (tag,) = charts[title]
        found = ask("plugin/custom_scalars/scalars", run="fast", tag=tag)
        assert found["regex_valid"]
        assert set(found["tag_to_events"]) == {f"score/{title}/{split}" for split in ("train", "validation")}
