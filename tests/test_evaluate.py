"""`evaluate` gives the score that training gave, and takes it apart."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_idx
from safetensors.torch import load_file

from cnnlab import cli

QUICK = ("trainer.epochs=2", "console=quiet", "data=digits", "data.limit=600", "data.validation=200")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    assert cli.run("train", [*QUICK, "data.normalize=true", f"hydra.run.dir={run}"]) == 0
    return run


def test_the_score_and_the_tables_agree_with_the_result(call, trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    code, out, err = call("evaluate", trained)
    assert (code, err) == (0, "")
    assert f"test accuracy {result['test']['accuracy']:.4f}  loss {result['test']['loss']:.4f}" in out
    rows = [line.split() for line in out.partition("Confusion")[2].splitlines()[2:12]]
    counts = [[int(cell.replace("·", "0")) for cell in row[1:]] for row in rows]
    assert sum(map(sum, counts)) == 2000
    assert sum(counts[n][n] for n in range(10)) / 2000 == pytest.approx(result["test"]["accuracy"], abs=1e-12)
    recall = re.search(r"^3 +\d+ +\S+ +(\S+)", out, re.MULTILINE)
    assert recall is not None
    assert float(recall.group(1)) == pytest.approx(counts[3][3] / sum(counts[3]), abs=5e-5)
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before


def test_predictions_are_those_of_the_tables(trained: Path) -> None:
    predictions = load_file(trained / "predictions.safetensors")
    assert predictions["class"].shape == predictions["probability"].shape == (2000,)
    assert 0.1 <= float(predictions["probability"].min()) <= float(predictions["probability"].max()) <= 1


def test_test_images_that_changed_are_told(call, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    content = json.loads((run / "environment.json").read_text())
    content["data"]["test_digest"] = "0123456789abcdef"
    (run / "environment.json").write_text(json.dumps(content))
    assert call("evaluate", run)[2].count("\n") == 1


def test_another_set_of_the_same_shape_is_normalised_as_in_training(call, trained: Path, data_root: Path) -> None:
    """Other training images beside the same test images do not change the score."""
    line = ("evaluate", trained, "data=mnist", f"data.root={data_root}", "evaluation.weights=best")
    code, before, _ = call(*line)
    assert code == 0
    assert "best weights, on 100 test images of mnist" in before
    assert call(*line)[2] == ""
    assert call("evaluate", trained, "data=fashion", f"data.root={data_root}")[2].count("\n") == 1  # other classes: told
    write_idx(data_root / "MNIST/raw/train-images-idx3-ubyte.gz", np.zeros((300, 28, 28), np.uint8))
    assert call(*line)[1] == before


@pytest.mark.parametrize("change", ["data=cifar10", "model=mlp", "data=mnits", "data.limit=5", "data.normalize=true"])
def test_a_set_of_another_shape_or_a_foreign_key_is_refused(call, trained: Path, change: str) -> None:
    code, _, err = call("evaluate", trained, change)
    assert code == 2
    assert change.partition("=")[2] in err
    assert err.count("\n") == 1


def test_regression(call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", *QUICK, "task=regression", f"hydra.run.dir={run}")[0] == 0
    result = json.loads((run / "result.json").read_text())
    code, out, _ = call("evaluate", run)
    assert code == 0
    assert f"test mae {result['test']['mae']:.4f}" in out
    recorded = load_file(run / "predictions.safetensors")
    gap = recorded["prediction"].double() - recorded["label"]
    assert f"error {gap.square().mean().sqrt().item():.4f}, bias {gap.mean().item():+.4f}" in out
