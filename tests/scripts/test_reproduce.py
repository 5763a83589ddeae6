"""Every experiment is the recipe that the notes print; `reproduce` runs what the ledger lacks."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cnnlab import cli, config
from cnnlab.sweep import parallel
from cnnlab.sweep.manifest import Manifest
from scripts import ledger
from scripts.ledger import configuration
from scripts.published import page, views
from scripts.published.comparison import read_published

EXPERIMENTS = views.experiments()
RESULTS = read_published("results")


def test_every_published_result_is_an_experiment() -> None:
    assert set(RESULTS) <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", RESULTS)
def test_the_recipe_is_the_printed_one(name: str) -> None:
    cfg, printed, bare = configuration(f"experiment={name}"), RESULTS[name], configuration()
    assert cfg.data.name == printed["data"]
    assert (cfg.data.validation, cfg.data.normalize, cfg.evaluation.split) == (0, False, "test")
    assert (cfg.evaluation.weights, cfg.augment, cfg.trainer.steps) == ("last", {}, None)
    assert (cfg.schedule, cfg.task, cfg.trainer.precision, cfg.seed) == (bare.schedule, bare.task, "fp32", 0)
    assert (cfg.data.limit, cfg.data.classes, cfg.trainer.clip_norm, cfg.trainer.patience) == (None, None, None, None)
    if "epochs" in printed:
        assert (cfg.trainer.epochs, cfg.trainer.batch_size) == (printed["epochs"], printed["batch"])
        assert cfg.optimizer == configuration(f"optimizer={printed['optimizer']}").optimizer
    network, *words = printed["net"].split()
    if network != "mlp":
        assert cfg.model == configuration(f"model={network}").model
        return
    depth, _, width = words[0].rpartition("x")  # "128" or "3x128"
    assert cfg.model["hidden"] == [int(width)] * int(depth or 1)
    assert cfg.model["activation"] == words[1].strip(",")
    normal = "N(0, 0.01)" in printed["net"]
    assert cfg.model.get("initializer", "glorot_uniform") == ("normal" if normal else "glorot_uniform")
    assert not normal or cfg.model["initializer_std"] == 0.01
    assert {"dropout", "hidden_dropout", "batch_norm"}.isdisjoint(cfg.model)


def test_the_network_that_the_notes_also_show_with_dropout() -> None:
    assert "dropout 0.2 after each conv" in RESULTS["functional-cifar"]["note"]
    expected = configuration("experiment=functional-cifar", "model.dropout=0.2")
    assert configuration("experiment=functional-cifar-dropout") == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_header_tells_source_and_published_score(name: str) -> None:
    header = (config.config_dir() / "experiment" / f"{name}.yaml").read_text().partition("\n\n")[0]
    assert header.startswith("# @package _global_\n# Source: ")
    for split in ("train", "test"):
        goal = RESULTS.get(name, {}).get(split)
        assert goal is None or str(goal) in header
    assert ("are ours" in header) == ("epochs" not in RESULTS.get(name, {}))


def test_the_readme_s_table_is_renewed_and_nothing_else() -> None:
    head = "| experiment | published | measured | n | verdict |\n|---|---|---|---|---|\n"
    rows = views.comparisons(["mlp-relu-1", "lenet-cifar"])  # the second without a published score
    before, table, after = page.with_table(f"Text.\n\n{head}| old |\n\nMore | text.\n", rows).partition(head)
    assert (before, table, after.endswith("\n\nMore | text.\n")) == ("Text.\n\n", head, True)
    assert [line.partition(" | ")[0] for line in after.splitlines()[:-2]] == ["| `mlp-relu-1`"]
    (row,) = [row for row in rows if row.id == "mlp-relu-1"]
    for n, expected in ((row.n, "| `mlp-relu-1` |"), (row.n + 1, "| `mlp-relu-1` (bf16) |")):  # the one with more seeds
        (line,) = page.with_table(head, [row, replace(row, precision="bf16", n=n)]).removeprefix(head).splitlines()
        assert line.startswith(expected)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """An empty directory and data small enough to train an experiment on in seconds, for workers of an older server, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_DATA", str(data_root))
    monkeypatch.setattr(parallel, "slots", lambda *_: [{"CNNLAB_DATA": str(data_root)}])


@pytest.fixture
def reproduce(call) -> Any:
    """reproduce("--list", ...) in this process: (exit code, stdout, stderr)."""
    return partial(call, "reproduce", package="scripts")


def measured() -> list[tuple[str, int]]:
    return [(one["id"], one["seed"]) for one in ledger.read(Path("docs/results.json"))]


@pytest.mark.usefixtures("tiny")
def test_what_is_missing_is_trained_once_and_again_to_the_same_digits(reproduce) -> None:
    assert reproduce("mlp-sigmoid-xavier", "mlp-sigmoid-xavier", "--seeds", "2")[::2] == (0, "")
    assert measured() == [("mlp-sigmoid-xavier", 0), ("mlp-sigmoid-xavier", 1)]
    assert "| mlp-sigmoid-xavier | D | 0.7578, 0.7480 |" in Path("docs/RESULTS.md").read_text()
    before = Path("docs/results.json").read_bytes()
    assert reproduce("mlp-sigmoid-xavier", "--seeds", "2")[0] == 0
    assert Path("docs/results.json").read_bytes() == before
    assert reproduce("--check")[0] == 1  # random images
    assert reproduce("mlp-sigmoid-xavier", "--rerun")[::2] == (0, "")
    Path("docs/results.json").write_bytes(before.replace(b'"test": 0.', b'"test": 0.9'))
    assert reproduce("mlp-sigmoid-xavier", "--rerun")[0] == 1
    code, _, err = reproduce("lenet-fashion", "--rerun")  # nothing to compare with
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("names", "fails"),
    [
        ("mlp-sigmoid-xavier", False),
        ("mlp-sigmoid-xavier lenet-cifar", False),  # of the second none is published
        ("mlp-sigmoid-xavier mlp-relu-1", True),  # the second is not measured
        ("mlp-sigmoid-2", True),  # 0.07 below
    ],
)
def test_check(reproduce, names: str, fails: bool) -> None:
    more = {
        "precision": "fp32",
        "seed": 0,
        "parameters": 1,
        "seconds": 1.0,
        "device": "CPU",
        "threads": 2,
        "date": "2026-11-21",
    }
    tests = {"mlp-sigmoid-xavier": 0.75, "mlp-sigmoid-2": 0.80}
    made = [{"id": name, "recipe": views.recipes(name)["fp32"], "train": test, "test": test} for name, test in tests.items()]
    Path("docs").mkdir()
    Path("docs/results.json").write_text(json.dumps([entry | more for entry in made]))
    assert reproduce("--check", *names.split())[0] == 1  # the table is not written yet
    views.write()
    assert reproduce("--check", *names.split())[0] == fails


@pytest.mark.usefixtures("tiny")
def test_where_nothing_can_be_written_nothing_is_trained(reproduce) -> None:
    Path("docs").touch()
    code, _, err = reproduce("mlp-sigmoid-xavier")
    assert (code, err.count("\n"), "docs" in err) == (2, 1, True)
    assert not Path("outputs").exists()


@pytest.mark.usefixtures("tiny")
def test_what_was_finished_before_a_kill_is_kept(reproduce) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-m", "scripts.reproduce", "mlp-sigmoid-xavier", "--seeds", "2", "--jobs", "1"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    manifest = Manifest(Path("outputs/reproduce/fp32"))
    while [job.status for job in manifest.jobs()][:1] != ["finished"]:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not Path("docs/results.json").exists()
    assert reproduce("--list", "mlp-sigmoid-xavier")[0] == 0
    assert measured() == [("mlp-sigmoid-xavier", 0)]
    first = Path("docs/results.json").read_text().splitlines()[1].rstrip(",")
    assert reproduce("mlp-sigmoid-xavier", "--seeds", "2")[::2] == (0, "")
    assert measured() == [("mlp-sigmoid-xavier", 0), ("mlp-sigmoid-xavier", 1)]
    assert first in Path("docs/results.json").read_text()


@pytest.mark.usefixtures("tiny")
def test_a_run_that_fails_is_told_and_the_others_go_on(reproduce, data_root: Path) -> None:
    (data_root / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(b"x")
    code, _, err = reproduce("chollet-mnist", "mlp-sigmoid-xavier")
    assert (code, err.count("\n")) == (2, 1)
    assert measured() == [("mlp-sigmoid-xavier", 0)]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("chollet-mnits", "chollet-mnist"),
        ("--seeds 0", "--seeds 0"),
        ("--seeds ²", "--seeds ²"),
        ("--check", "docs/results.json"),
        ("--list --precision fp16", "--precision fp16"),
        ("trainer.epochs=1", "trainer.epochs=1"),
        ("--lst", "--list"),
        ("--check --rerun", "--check --rerun"),
    ],
)
def test_bad_calls(reproduce, line: str, key: str) -> None:
    code, out, err = reproduce(*line.split())
    assert (code, out, err.count("\n"), key in err) == (2, "", 1, True)
