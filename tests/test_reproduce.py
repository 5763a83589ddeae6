"""Every experiment is the recipe that the notes print; `reproduce` runs what the ledger lacks."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cnnlab import cli, composing, config, reproduce
from cnnlab.comparison import published
from cnnlab.schema import Config
from cnnlab.sweep.manifest import Manifest

EXPERIMENTS = composing.groups()["experiment"]
RESULTS = OmegaConf.to_container(OmegaConf.load(config.config_dir() / "published.yaml"))["results"]


def experiment(name: str) -> Config:
    return composing.typed(composing.compose([f"experiment={name}"]))


def test_every_published_result_is_an_experiment() -> None:
    assert set(RESULTS) <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", RESULTS)
def test_the_recipe_is_the_printed_one(name: str) -> None:
    cfg, printed = experiment(name), RESULTS[name]
    assert cfg.data.name == printed["data"]
    assert (cfg.data.validation, cfg.data.normalize, cfg.evaluation.split) == (0, False, "test")
    assert (cfg.evaluation.weights, cfg.augment, cfg.trainer.steps) == ("last", {}, None)
    bare = composing.typed(composing.compose([]))
    assert (cfg.schedule, cfg.task, cfg.trainer.precision, cfg.seed) == (bare.schedule, bare.task, "fp32", 0)
    assert (cfg.data.limit, cfg.data.classes, cfg.trainer.clip_norm, cfg.trainer.patience) == (None, None, None, None)
    if "epochs" in printed:
        assert (cfg.trainer.epochs, cfg.trainer.batch_size) == (printed["epochs"], printed["batch"])
        assert cfg.optimizer == composing.typed(composing.compose([f"optimizer={printed['optimizer']}"])).optimizer
    network, *words = printed["net"].split()
    if network != "mlp":
        assert cfg.model == composing.typed(composing.compose([f"model={network}"])).model
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
    wanted = composing.compose(["experiment=functional-cifar", "model.dropout=0.2"])
    assert experiment("functional-cifar-dropout") == composing.typed(wanted)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_header_tells_source_and_published_score(name: str) -> None:
    header = (config.config_dir() / "experiment" / f"{name}.yaml").read_text().partition("\n\n")[0]
    assert header.startswith("# @package _global_\n# Source: ")
    for part in ("train", "test"):
        goal = RESULTS.get(name, {}).get(part)
        assert goal is None or str(goal) in header
    assert ("are ours" in header) == ("epochs" not in RESULTS.get(name, {}))


def test_what_people_read_is_what_the_ledger_says() -> None:
    rows = reproduce.comparisons(EXPERIMENTS)
    assert Path("docs/RESULTS.md").read_text() == published.page(rows, reproduce.measured_curves())
    readme = Path("README.md").read_text()
    assert readme == published.with_table(readme, rows)
    for row in rows:
        path = Path(f"configs/experiment/{row.id}.yaml")
        assert path.read_text() == published.with_header(path.read_text(), [one for one in rows if one.id == row.id])
        if row.precision == "fp32" and row.published_test is not None:
            verdict = row.verdict if row.verdict in ("reproduced", "within tolerance") else f"**{row.verdict}**"
            assert f"| `{row.id}` | {row.published_test:.4f} | {row.test} | {row.n} | {verdict} |\n" in readme


def test_the_readme_s_table_is_renewed_and_nothing_else() -> None:
    readme, rows = Path("README.md").read_text(), reproduce.comparisons(["mlp-relu-1", "lenet-cifar"])
    before, table, after = readme.partition("| experiment | published | measured | n | verdict |\n|---|---|---|---|---|\n")
    renewed = published.with_table(readme, rows)
    line = next(line for line in after.splitlines() if line.startswith("| `mlp-relu-1` | 0.8873 | "))
    assert renewed == before + table + line + after[after.index("\n\n") :]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """An empty directory and data small enough to train an experiment on in seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_DATA", str(data_root))


def start(*arguments: str) -> "subprocess.Popen[str]":
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-m", "cnnlab.reproduce", *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def measured() -> list[tuple[str, int]]:
    return [(one["id"], one["seed"]) for one in json.loads(Path("docs/results.json").read_text())]


@pytest.mark.usefixtures("tiny")
def test_it_runs_what_is_missing_once(call) -> None:
    code, out, err = run("mlp-sigmoid-xavier", "mlp-sigmoid-xavier", "--seeds", "2")
    assert (code, err) == (0, "")
    assert "2 of 2 runs are missing" in out
    assert measured() == [("mlp-sigmoid-xavier", 0), ("mlp-sigmoid-xavier", 1)]
    table = Path("docs/RESULTS.md").read_text()
    assert "| mlp-sigmoid-xavier | D | 0.7578, 0.7480 |" in table
    assert "below the tolerance**" in table  # random images
    code, out, _ = call("reproduce", "mlp-sigmoid-xavier", "--seeds", "2")
    assert (code, out) == (
        0,
        "0 of 2 runs are missing from docs/results.json; "
        "to measure one again, remove its entry, and its run in outputs/reproduce/fp32\n",
    )
    code, out, _ = call("reproduce", "--check")
    assert code == 1
    assert f"1 results checked, 1 contradicted; {len(EXPERIMENTS) - 1} experiments not measured" in out


@pytest.mark.usefixtures("tiny")
def test_training_again_gives_the_ledger(call) -> None:
    assert run("mlp-sigmoid-xavier")[0] == 0
    code, out, err = call("reproduce", "mlp-sigmoid-xavier", "--rerun")
    assert (code, err) == (0, "")
    assert re.search(r"^mlp-sigmoid-xavier  seed 0  .*the same to every digit\n", out, re.MULTILINE)
    path = Path("docs/results.json")
    path.write_text(path.read_text().replace('"test": 0.', '"test": 0.9'))
    code, out, _ = call("reproduce", "mlp-sigmoid-xavier", "--rerun")
    assert code == 1
    assert "not the same: train +0.0000, test -" in out
    code, _, err = call("reproduce", "lenet-fashion", "--rerun")
    assert (code, err.count("\n")) == (2, 1)
    assert "holds no fp32 result" in err


def ledger_of(**tests: float) -> None:
    """A ledger with a run of these experiments ("_" for "-"), as good in training as in the test."""
    Path("docs").mkdir()
    entries = []
    for name, test in tests.items():
        identifier = name.replace("_", "-")
        recipe = config.recipe_hash(experiment(identifier))
        entries.append({"id": identifier, "recipe": recipe, "precision": "fp32", "seed": 0, "train": test, "test": test})
    more = {"parameters": 100, "seconds": 10.0, "device": "CPU", "threads": 2, "date": "2026-11-21"}
    Path("docs/results.json").write_text(json.dumps([entry | more for entry in entries]))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("names", "code", "says"),
    [
        ("mlp-sigmoid-xavier", 0, "1 results checked, 0 contradicted; 0 experiments not measured"),
        ("mlp-sigmoid-xavier lenet-cifar", 0, "0 contradicted; 1 experiments not measured"),  # none published
        ("mlp-sigmoid-xavier mlp-relu-1", 1, "mlp-relu-1          fp32  published 0.8873  not measured yet"),
        ("mlp-sigmoid-2", 1, "training measured 0.0985 below the tolerance and test measured 0.0736 below the tolerance"),
    ],
)
def test_check(call, names: str, code: int, says: str) -> None:
    ledger_of(mlp_sigmoid_xavier=0.7500, mlp_sigmoid_2=0.8000)
    found, out, _ = call("reproduce", "--check", *names.split())
    assert (found, says in out) == (code, True)


def test_the_cheapest_run_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(reproduce, "_sweep", lambda missing, *_: asked.extend(missing) or 0)
    assert reproduce.main(["conv7-fashion", "chollet-mnist", "mlp-sigmoid-xavier", "--seeds", "2"]) == 0
    assert asked == [(name, seed) for name in ("mlp-sigmoid-xavier", "chollet-mnist", "conv7-fashion") for seed in (0, 1)]


@pytest.mark.usefixtures("tiny")
def test_where_nothing_can_be_written_nothing_is_trained() -> None:
    Path("docs").touch()
    code, _, err = run("mlp-sigmoid-xavier")
    assert (code, err.count("\n"), "docs" in err) == (2, 1, True)
    assert not Path("outputs").exists()


@pytest.mark.usefixtures("tiny")
def test_what_was_finished_before_a_kill_is_kept(call) -> None:
    process, manifest = start("mlp-sigmoid-xavier", "--seeds", "2", "--jobs", "1"), Manifest(Path("outputs/reproduce/fp32"))
    while [job.status for job in manifest.jobs()][:1] != ["finished"]:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not Path("docs/results.json").exists()
    assert "measured" in call("reproduce", "--list", "mlp-sigmoid-xavier")[1]
    assert measured() == [("mlp-sigmoid-xavier", 0)]
    code, out, err = run("mlp-sigmoid-xavier", "--seeds", "2")
    assert (code, err) == (0, "")
    assert "1 of 2 runs are missing" in out
    assert measured() == [("mlp-sigmoid-xavier", 0), ("mlp-sigmoid-xavier", 1)]


@pytest.mark.usefixtures("tiny")
def test_a_run_that_fails_is_told_and_the_others_go_on(data_root: Path) -> None:
    (data_root / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(b"x")
    code, out, err = run("chollet-mnist", "mlp-sigmoid-xavier")
    assert (code, err) == (2, "error: 1 of 2 jobs are not done\n")
    assert "failed  chollet-mnist\n" in out
    assert measured() == [("mlp-sigmoid-xavier", 0)]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("chollet-mnits", "Did you mean chollet-mnist"),
        ("--seeds 0", "--seeds 0: expected a number"),
        ("--seeds ²", "--seeds ²: expected a number"),
        ("--check", "docs/results.json: no such file"),
        ("--precision fp16", "expected one of fp32, bf16"),
        ("--list --precision fp16", "expected one of fp32, bf16"),
        ("--list --seeds x", "--seeds x: expected a number"),
        ("trainer.epochs=1", "train experiment=ID"),
        ("--lst", "Did you mean --list"),
        ("--check --rerun", "expected one of them"),
    ],
)
def test_bad_calls(call, line: str, says: str) -> None:
    code, out, err = call("reproduce", *line.split())
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
