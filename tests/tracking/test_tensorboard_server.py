"""What a real TensorBoard answers about a folder of runs: through its HTTP interface, with both of its ways to load files."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from cnnlab import cli, config
from cnnlab.training.task import Multiclass

# 10 steps an epoch
SMALL = ("data=digits", "data.limit=95", "data.validation=50", "model=mlp", "model.hidden=[8]", "trainer.batch_size=10",
         "trainer.log_every=3", "trainer.threads=1", "console=quiet")  # fmt: skip
FAST = ("trainer.epochs=2", "optimizer.lr=0.01")
LONG = ("trainer.epochs=5", "optimizer.lr=0.03", "checkpoint.every_s=0")
FINAL = {f"final/{name}" for name in ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss", "time_s")}


def at_step(step: int, happening: Callable[[], object]) -> Callable[..., Tensor]:
    """A training loss during whose `step`th call something happens."""
    original, calls = Multiclass.training_loss, iter(range(1, 10**6))

    def loss(self: Multiclass, outputs: Tensor, targets: Tensor) -> Tensor:
        if next(calls) == step:
            happening()
        return original(self, outputs, targets)

    return loss


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


KILLED = """
import os, signal, sys
from cnnlab import cli
from cnnlab.tracking import files
append = files.append_json_line
def append_and_die(path, line):
    append(path, line)
    if line["epoch"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
files.append_json_line = append_and_die
cli.run("train", sys.argv[1:])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with every kind of history."""
    folder = tmp_path_factory.mktemp("outputs")

    def train(name: str, *settings: str, code: int = 0, loss: Callable[..., Tensor] | None = None) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if loss:
                patch.setattr(Multiclass, "training_loss", loss)
            assert cli.run("train", [*SMALL, *settings, f"hydra.run.dir={folder / name}"]) == code

    def go_on(name: str, *changes: str) -> None:
        assert cli.run("train", [f"resume={folder / name}", *changes]) == 0

    killed = [*SMALL, *LONG, "seed=1", f"hydra.run.dir={folder / 'long-killed-resumed'}"]
    assert subprocess.run([sys.executable, "-c", KILLED, *killed]).returncode == -signal.SIGKILL
    train("long-0", *LONG)
    for seed in (0, 1):
        train(f"fast-{seed}", *FAST, f"seed={seed}")
    train("fast-interrupted-resumed", *FAST, "seed=2", code=130, loss=at_step(15, interrupt))
    train("fast-failed-resumed", *FAST, "seed=3", code=4, loss=at_step(15, fill_the_disk))
    train("fast-lengthened", *FAST, "trainer.epochs=1", "seed=4")
    train("left/interrupted", "trainer.epochs=3", code=130, loss=at_step(15, interrupt))
    train("left/diverged", "trainer.epochs=3", "optimizer=sgd", "optimizer.lr=1e30", code=3)
    train("left/failed", "trainer.epochs=3", "optimizer.lr=0.02", code=4, loss=at_step(15, fill_the_disk))
    train("regression", "trainer.epochs=1", "task=regression")
    time.sleep(1)  # the event file of a continued run has a later second in its name, as its new process would give it
    go_on("long-killed-resumed")
    go_on("fast-interrupted-resumed")
    go_on("fast-failed-resumed")
    go_on("fast-lengthened", "trainer.epochs=2")
    return folder


Ask = Callable[..., Any]


@contextmanager
def tensorboard(folder: Path, load_fast: str, log: Path) -> Iterator[Ask]:
    """A function that asks a TensorBoard, once it has loaded the folder."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port=0", f"--load_fast={load_fast}"]
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

            while len(ask("runs")) < len(directories(folder)) or not ask("plugin/custom_scalars/layout"):
                assert time.monotonic() < deadline, ask("runs")
                time.sleep(0.1)
            yield ask
        finally:
            process.terminate()


@pytest.fixture(scope="module", params=["auto", "false"])
def ask(request: pytest.FixtureRequest, outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    with tensorboard(outputs, request.param, tmp_path_factory.mktemp("log") / "log") as asked:
        yield asked


def directories(folder: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("config.yaml") if path.parent.name != ".hydra")


def groups(ask: Ask) -> dict[str, Any]:
    """The rows of the table, seeds averaged, by name."""
    infos = ask("plugin/hparams/experiment", {})
    columns = [{"hparam": info["name"]} for info in infos["hparamInfos"]]
    columns += [{"metric": info["name"]} for info in infos["metricInfos"]]
    shown = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    body = {"allowedStatuses": shown, "colParams": columns, "aggregationType": "AGGREGATION_AVG", "sliceSize": 100}
    return {row["name"]: row for row in ask("plugin/hparams/session_groups", body)["sessionGroups"]}


def metrics(row: dict[str, Any]) -> dict[str, float]:
    return {value["name"]["tag"]: value["value"] for value in row.get("metricValues", [])}


def statuses(row: dict[str, Any]) -> dict[str, str]:
    return {session["name"]: session["status"] for session in row["sessions"]}


def row_of(ask: Ask, run: Path) -> dict[str, Any]:
    """The row of the configuration that `run` has."""
    row: dict[str, Any] = groups(ask)[config.recipe_hash(config.read(run / "config.yaml"))]
    return row


def test_the_runs_are_the_run_directories(ask: Ask, outputs: Path) -> None:
    assert sorted(ask("runs")) == directories(outputs)
    assert len(directories(outputs)) == 11


def test_a_row_is_a_configuration_and_every_run_is_in_one(ask: Ask, outputs: Path) -> None:
    runs = {name: config.recipe_hash(config.read(outputs / name / "config.yaml")) for name in directories(outputs)}
    rows = groups(ask)
    assert len(rows) == 6
    assert {session: name for name, row in rows.items() for session in statuses(row)} == runs


@pytest.mark.parametrize(("one", "seeds"), [("fast-0", 5), ("long-0", 2)])
def test_a_row_shows_the_mean_of_its_seeds(one: str, seeds: int, ask: Ask, outputs: Path) -> None:
    row = row_of(ask, outputs / one)
    assert len(row["sessions"]) == seeds
    results = [json.loads((outputs / name / "result.json").read_text()) for name in statuses(row)]
    expected = {
        f"final/{part}_{name}": statistics.mean(result[part][name] for result in results)
        for part in ("test", "validation")
        for name in ("accuracy", "loss")
    } | {"final/time_s": statistics.mean(result["seconds"] for result in results)}
    shown = {tag: value for tag, value in metrics(row).items() if tag.startswith("final/")}
    assert shown == pytest.approx(expected, rel=1e-6)  # float32
    assert len({result["test"]["loss"] for result in results}) == seeds  # a mean of equals would show nothing


def test_a_row_shows_its_hyper_parameters(ask: Ask, outputs: Path) -> None:
    expected = {"model": "mlp", "data": "digits", "optimizer": "adam", "model.hidden": "[8]", "trainer.batch_size": 10}
    for one, own in (("fast-0", {"optimizer.lr": 0.01, "trainer.epochs": 2}), ("long-0", {"optimizer.lr": 0.03})):
        shown = row_of(ask, outputs / one)["hparams"]
        assert {key: shown[key] for key in expected | own} == expected | own
        assert "seed" not in shown
    columns = [info["name"] for info in ask("plugin/hparams/experiment", {})["hparamInfos"]]
    assert "optimizer.momentum" in columns  # of the one run with sgd: the columns are all runs'
    assert "optimizer.betas" in columns


def test_the_scores_come_before_the_other_metrics(ask: Ask) -> None:
    """TensorBoard shows five metrics at first, and colours by the first of them."""
    names = [info["name"]["tag"] for info in ask("plugin/hparams/experiment", {})["metricInfos"]]
    assert [name for name in names if not name.endswith("mae")][:5] == sorted(FINAL)
    assert min(FINAL) == "final/test_accuracy"


def test_how_each_run_ended(ask: Ask, outputs: Path) -> None:
    shown = {name: status for row in groups(ask).values() for name, status in statuses(row).items()}
    others = {"left/interrupted": "STATUS_UNKNOWN", "left/diverged": "STATUS_FAILURE", "left/failed": "STATUS_FAILURE"}
    assert shown == {name: others.get(name, "STATUS_SUCCESS") for name in directories(outputs)}
    for name in others:
        assert not [tag for tag in metrics(row_of(ask, outputs / name)) if tag.startswith("final/")]


def test_runs_overlay_under_equal_tags(ask: Ask, outputs: Path) -> None:
    curves = {f"{part}/{name}" for part in ("train", "validation") for name in ("loss", "accuracy")}
    curves |= {"train/learning_rate", "train/images_per_s"}
    tags = {run: set(found) for run, found in ask("plugin/scalars/tags").items()}
    for name in directories(outputs):
        if name == "regression":
            assert {"train/mae", "validation/mae", "final/test_mae"} < tags[name]
        elif name.startswith("left/"):
            assert tags.get(name, set()) <= curves
        else:
            assert tags[name] == curves | FINAL
    points = ask("plugin/scalars/scalars", run="long-killed-resumed", tag="validation/loss")
    assert [step for _, step, _ in points] == [10, 20, 30, 40, 50]
    lines = [json.loads(line) for line in (outputs / "long-killed-resumed" / "metrics.jsonl").read_text().splitlines()]
    assert [value for _, _, value in points] == pytest.approx([line["validation_loss"] for line in lines], rel=1e-6)


def test_training_and_validation_share_a_chart(ask: Ask) -> None:
    (category,) = ask("plugin/custom_scalars/layout")["category"]
    charts = {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}
    assert len(category["chart"]) == len(charts)
    assert set(charts) == {"accuracy", "loss", "mae"}  # mae: of the run with task=regression
    for title in ("accuracy", "loss"):
        (tag,) = charts[title]
        found = ask("plugin/custom_scalars/scalars", run="fast-0", tag=tag)
        assert found["regex_valid"]
        assert set(found["tag_to_events"]) == {f"train/{title}", f"validation/{title}"}


def test_pictures_and_the_configuration_are_there(ask: Ask, outputs: Path) -> None:
    pictures = {run: set(found) for run, found in ask("plugin/images/tags").items()}
    texts = ask("plugin/text/tags")
    for name in directories(outputs):
        if not name.startswith("left/"):
            assert pictures[name] == {"first_batch", "worst_mistakes"} | (set() if name == "regression" else {"confusion"})
        assert texts[name] == ["config/text_summary"]
