"""Every experiment is the recipe that the notes print; `reproduce` runs what the ledger lacks."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cnnlab import config
from cnnlab.schema import Config

EXPERIMENTS = config.groups()["experiment"]
RESULTS = OmegaConf.to_container(OmegaConf.load(config.config_dir() / "published.yaml"))["results"]


def experiment(name: str) -> Config:
    return config.typed(config.compose([f"experiment={name}"]))


def test_every_published_result_is_an_experiment() -> None:
    assert set(RESULTS) <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", RESULTS)
def test_the_recipe_is_the_printed_one(name: str) -> None:
    cfg, printed = experiment(name), RESULTS[name]
    assert cfg.data.name == printed["data"]
    assert (cfg.data.validation, cfg.data.normalize, cfg.evaluation.split) == (0, False, "test")
    assert (cfg.evaluation.weights, cfg.augment, cfg.trainer.steps) == ("last", {}, None)
    if "epochs" in printed:
        assert (cfg.trainer.epochs, cfg.trainer.batch_size) == (printed["epochs"], printed["batch"])
        assert cfg.optimizer == config.typed(config.compose([f"optimizer={printed['optimizer']}"])).optimizer
    network, *words = printed["net"].split()
    if network != "mlp":
        assert cfg.model == config.typed(config.compose([f"model={network}"])).model
        return
    depth, _, width = words[0].rpartition("x")  # "128" or "3x128"
    assert cfg.model["hidden"] == [int(width)] * int(depth or 1)
    assert cfg.model["activation"] == words[1].strip(",")
    assert cfg.model.get("initializer", "glorot_uniform") == ("normal" if "N(0, 0.01)" in printed["net"] else "glorot_uniform")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_header_tells_source_and_published_score(name: str) -> None:
    header = (config.config_dir() / "experiment" / f"{name}.yaml").read_text().partition("\n\n")[0]
    assert header.startswith("# @package _global_\n# Source: ")
    goal = RESULTS.get(name, {}).get("test")
    assert goal is None or str(goal) in header


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """An empty directory and data small enough to train an experiment on in seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_DATA", str(data_root))


@pytest.mark.usefixtures("tiny")
def test_it_runs_what_is_missing_once(call) -> None:
    code, out, err = call("reproduce", "mlp-sigmoid-xavier", "--seeds", "2")
    assert (code, err) == (0, "")
    assert "2 of 2 runs are missing" in out
    entries = json.loads(Path("docs/results.json").read_text())
    assert [(one["id"], one["seed"]) for one in entries] == [("mlp-sigmoid-xavier", 0), ("mlp-sigmoid-xavier", 1)]
    table = Path("docs/RESULTS.md").read_text()
    assert "| mlp-sigmoid-xavier | D | 0.7578 | 0.7480 |" in table
    assert "**not reached**" in table  # random images
    code, out, _ = call("reproduce", "mlp-sigmoid-xavier", "--seeds", "2")
    assert (code, out) == (0, "0 of 2 runs are missing from docs/results.json\n")
    code, out, _ = call("reproduce", "--check")
    assert code == 1
    assert "1 outside" in out


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("chollet-mnits", "Did you mean chollet-mnist"),
        ("--seeds 0", "--seeds 0: expected a number"),
        ("--precision fp16", "expected one of fp32, bf16"),
        ("trainer.epochs=1", "train experiment=ID"),
        ("--lst", "Did you mean --list"),
    ],
)
def test_bad_calls(call, line: str, says: str) -> None:
    code, out, err = call("reproduce", *line.split())
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("tiny")
def test_a_run_that_fails_is_told_and_the_others_go_on(call, data_root: Path) -> None:
    (data_root / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(b"x")
    code, out, err = call("reproduce", "chollet-mnist", "mlp-sigmoid-xavier")
    assert code == 1
    assert "chollet-mnist seed 0 failed: error: " in err
    assert "mlp-sigmoid-xavier   seed 0" in out
