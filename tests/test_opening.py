"""`cnnlab.load`: what it predicts against torch by hand, and every way in which a run can be broken."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import QUICK, fitted
from torch import Tensor

import cnnlab
from cnnlab.data import all_images, load_data
from cnnlab.errors import CheckpointError, ConfigError, DataError
from cnnlab.status import Status
from cnnlab.tracking.records import Result
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.checkpoint import content_hash


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def lenet(here: Path) -> cnnlab.OpenedRun:
    """Trained in bf16 on normalized images; the test score is that of the best weights."""
    return fitted(here / "lenet", "data.normalize=true", "trainer.precision=bf16", "evaluation.weights=best")


@pytest.fixture(scope="module")
def regression(here: Path) -> cnnlab.OpenedRun:
    return fitted(here / "regression", "model=mlp", "task=regression", "data.classes=[7,2,4]")


@pytest.fixture(scope="module")
def binary(here: Path) -> cnnlab.OpenedRun:
    model = (
        "model=custom",
        "model._target_=cnnlab.models.ConvNet",
        "model.blocks=[{conv:4,pool:2},{conv:4}]",
        "model.head=global_max",
    )
    return fitted(here / "binary", "task=binary", "data.classes=[7,4]", *model)


@pytest.fixture
def copied(regression: cnnlab.OpenedRun, tmp_path: Path) -> Path:
    """A run of one's own to break."""
    return Path(shutil.copytree(regression.directory.path, tmp_path / "copied"))


def test_images(run: cnnlab.OpenedRun) -> Tensor:
    return all_images(load_data(run.config.data, run.config.seed).test)


test_images.__test__ = False  # type: ignore[attr-defined]


def lenet_by_hand(tensors: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The notes' LeNet in float64: N x 1 x 28 x 28 to N x 10."""
    w = {name.removeprefix("model."): tensor.double() for name, tensor in tensors.items() if name.startswith("model.")}
    maps = F.max_pool2d(F.relu(F.conv2d(pixels, w["blocks.0.conv.weight"], w["blocks.0.conv.bias"], padding=2)), 2)
    maps = F.max_pool2d(F.relu(F.conv2d(maps, w["blocks.1.conv.weight"], w["blocks.1.conv.bias"])), 2)
    features = maps.flatten(1)
    for layer in ("dense0", "dense1"):
        features = F.relu(features @ w[f"head.{layer}.weight"].T + w[f"head.{layer}.bias"])
    return features @ w["head.output.weight"].T + w["head.output.bias"]


@pytest.mark.parametrize("weights", ["last", "best"])
def test_predictions_are_those_of_the_saved_weights_by_hand(lenet: cnnlab.OpenedRun, weights: str) -> None:
    run, data = cnnlab.load(lenet.directory.path, weights), load_data(lenet.config.data, 0)
    test, pixels = all_images(data.test), all_images(data.train).double() / 255
    standard = (test.double() / 255 - pixels.mean()) / pixels.std(correction=0)
    logits = lenet_by_hand(load_file(lenet.directory.path / f"{weights}.safetensors"), standard)
    torch.testing.assert_close(run.model(test).double(), logits, rtol=0, atol=2e-5)
    found = run.predict(test, batch_size=300)
    top = logits.softmax(1).max(1)
    assert torch.equal(found.predicted, top.indices)
    assert (found.predicted.dtype, found.predicted.shape) == (torch.int64, (2000,))
    assert found.probability is not None
    torch.testing.assert_close(found.probability.double(), top.values, rtol=0, atol=1e-5)


def test_the_weights_are_those_of_the_recorded_score(lenet: cnnlab.OpenedRun, regression: cnnlab.OpenedRun) -> None:
    assert (lenet.weights, regression.weights) == ("best", "last")
    recorded = load_file(lenet.directory.predictions)
    same = lenet.predict(test_images(lenet)).predicted == recorded["class"]
    assert same.double().mean() > 0.97  # the recorded ones were computed in bf16
    values = regression.predict(test_images(regression))
    assert values.probability is None
    assert (values.predicted.dtype, values.predicted.shape) == (torch.float32, (len(test_images(regression)),))
    torch.testing.assert_close(values.predicted, load_file(regression.directory.predictions)["prediction"], rtol=0, atol=1e-5)
    assert regression.result is not None
    error = (values.predicted - torch.tensor([7.0, 2.0, 4.0])[load_data(regression.config.data, 0).test.labels]).abs()
    assert regression.result["test"]["mae"] == pytest.approx(error.mean().item(), abs=1e-5)


def test_binary_and_images_of_other_sizes(binary: cnnlab.OpenedRun) -> None:
    assert binary.classes == ("7", "4")
    images = test_images(binary)
    found, logits = binary.predict(images), binary.model(images)[:, 0].detach().double()
    assert torch.equal(found.predicted, (logits > 0).long())
    assert found.probability is not None
    torch.testing.assert_close(found.probability.double(), 0.5 + (logits.sigmoid() - 0.5).abs(), rtol=0, atol=1e-6)
    larger = torch.zeros(2, 1, 40, 31, dtype=torch.uint8)
    assert binary.model(larger).shape == (2, 1)
    with pytest.raises(DataError, match="2 x 1 x 40 x 31"):
        binary.predict(larger)


def test_bytes_floats_and_arrays_are_the_same_images(lenet: cnnlab.OpenedRun) -> None:
    images = test_images(lenet)[:50]
    expected = lenet.predict(images)
    halves = (images.double() / 255).numpy()
    read_only = images.numpy().copy()
    read_only.setflags(write=False)
    for given in (images.float() / 255, halves, halves.astype(">f4"), halves[::-1][::-1], read_only, images.numpy()):
        found = lenet.predict(given)
        assert torch.equal(found.predicted, expected.predicted)
        assert found.probability is not None
        torch.testing.assert_close(found.probability, expected.probability, rtol=0, atol=1e-6)
    assert lenet.predict(images[:0]).predicted.shape == (0,)
    assert not lenet.model.training


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((1, 28, 28), np.uint8), "1 x 28 x 28"),
        (torch.zeros(2, 3, 28, 28), "2 x 3 x 28 x 28"),
        (torch.zeros(0), "images of 0"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.int64), "int64"),
        (np.zeros((2, 1, 28, 28), np.uint16), "uint16"),
        (np.full((2, 1, 28, 28), None), "object"),
        (torch.zeros(2, 1, 28, 28).to(torch.float8_e4m3fn), "float8"),
        (torch.zeros(2, 1, 28, 28).to_sparse(), "sparse"),
        (torch.zeros(2, 1, 28, 28, device="meta"), "meta"),
        ([[0.0]], "list"),
        (None, "NoneType"),
        (torch.full((2, 1, 28, 28), 255.0), "from 255 to 255"),
        (np.full((2, 1, 28, 28), np.nan), "from nan"),
        (torch.full((2, 1, 28, 28), -0.1), "from -0.1"),
    ],
)
def test_what_cannot_be_shown_to_the_network_is_refused(lenet: cnnlab.OpenedRun, images: Any, got: str) -> None:
    with pytest.raises(DataError, match=got):
        lenet.predict(images)


def test_what_the_run_recorded_is_there(lenet: cnnlab.OpenedRun) -> None:
    assert lenet.result == json.loads((lenet.directory.path / "result.json").read_text())
    assert [line["epoch"] for line in lenet.metrics] == [1, 2]
    assert lenet.config.trainer.precision == "bf16"
    assert lenet.classes == tuple("0123456789")
    assert lenet.task.metric == "accuracy"
    assert lenet.model[1] is lenet.network


def test_a_run_without_a_result_opens_with_its_last_weights(copied: Path) -> None:
    (copied / "result.json").unlink()
    opened = cnnlab.load(str(copied))
    assert (opened.result, opened.weights) == (None, "last")
    RunDirectory(copied).write_result(Result(Status.INTERRUPTED))
    assert cnnlab.load(copied).weights == "last"
    for name in ("metrics.jsonl", "environment.json", "predictions.safetensors", "best.safetensors"):
        (copied / name).unlink()
    assert cnnlab.load(copied).metrics == []


BAD_DESCRIPTIONS = [
    ("model", {"_target_": "os.system", "command": "touch sprung"}), ("task", {"_target_": "os.system"}),
    ("input_shape", [3, 28, 28]), ("input_shape", [1, 0, 28]), ("input_shape", [1, 30, 30]), ("input_shape", "1x28x28"),
    ("mean", [float("nan")]), ("std", [0.0]), ("std", None), ("classes", ["a", "b"]), ("classes", [1, 2, 3]),
    ("memory_format", "__class__"), ("more", 1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD_DESCRIPTIONS)
def test_a_description_that_cannot_be_true_is_refused(copied: Path, key: str, value: Any) -> None:
    """None takes the key out."""
    last = copied / "last.safetensors"
    with safe_open(last, "pt") as file:
        meta = json.loads(file.metadata()["cnnlab"])
    meta["network"] = {name: kept for name, kept in (meta["network"] | {key: value}).items() if kept is not None}
    sign(last, json.dumps(meta))
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        cnnlab.load(copied)
    assert not Path("sprung").exists()


def sign(path: Path, said: str) -> None:
    """Let a checkpoint say something else, with the hash that this needs."""
    save_file(tensors := load_file(path), path, {"cnnlab": said, "sha256": content_hash(tensors, said)})


def test_a_checkpoint_that_does_not_fit_is_refused(copied: Path, lenet: cnnlab.OpenedRun, tmp_path: Path) -> None:
    last = copied / "last.safetensors"
    for spoil, says in (
        (lambda: shutil.copy(lenet.directory.last, last), "belongs to another run"),
        (lambda: save_file(load_file(last), last, {"cnnlab": "{}"}), "hash"),
        (lambda: sign(last, "{}"), "older cnnlab"),
        (lambda: sign(last, '{"network": 3}'), "expected a mapping"),
        (lambda: last.write_bytes(last.read_bytes()[:-1]), "damaged"),
        (lambda: last.write_bytes(b""), "damaged"),
        (last.unlink, "no such checkpoint"),
        ((copied / "config.yaml").unlink, "not a run"),
    ):
        spoil()
        with pytest.raises(CheckpointError, match=says):
            cnnlab.load(copied)
    for path in (tmp_path / "nowhere", tmp_path, last, ""):
        with pytest.raises(CheckpointError):
            cnnlab.load(path)


@pytest.mark.parametrize(("key", "value"), [("weights", "first"), ("device", "gpu"), ("trust", "a.b"), ("trust", 5)])
def test_arguments_that_are_wrong_are_named(regression: cnnlab.OpenedRun, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        cnnlab.load(regression.directory.path, **{key: value})


def test_a_batch_size_or_recorded_weights_that_cannot_be_are_named(copied: Path) -> None:
    opened = cnnlab.load(copied, device=torch.device("cpu"))
    for size in (0, True, 1 << 63, "8"):
        with pytest.raises(ConfigError, match=f"batch_size={size}"):
            opened.predict(torch.zeros(1, 1, 28, 28), batch_size=size)
    (copied / "result.json").write_text('{"weights": ["best"]}')
    with pytest.raises(CheckpointError, match=r"result\.json"):
        cnnlab.load(copied)


OWN = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_outputs, input_shape):
        super().__init__(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], num_outputs))
"""


def test_a_network_of_ones_own_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_opened.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = cnnlab.fit(*QUICK, "model._target_=mine_opened.Net")  # named by the caller
    assert run.directory.name.startswith("outputs/digits-custom/")
    assert type(run.network).__name__ == "Net"
    with pytest.raises(CheckpointError, match="add trust=mine_opened"):
        cnnlab.load(run.directory.path)
    again = cnnlab.load(run.directory.path, trust=["mine_opened"])
    assert torch.equal(again.predict(test_images(run)).predicted, run.predict(test_images(run)).predicted)


FRESH = """
import pathlib, sys
import cnnlab, cnnlab.config
cnnlab.config.read(pathlib.Path(sys.argv[1], "config.yaml"))
loaded = {"torch", "hydra"} & set(sys.modules)
cnnlab.load(sys.argv[1])
unwanted = {"hydra", "torchvision", "cnnlab.training.session", "cnnlab.training.step", "tensorboard", "matplotlib", "pandas"}
sys.exit(", ".join(loaded | unwanted & set(sys.modules)) or 0)
"""


def test_reading_and_opening_a_run_load_what_they_need_alone(lenet: cnnlab.OpenedRun) -> None:
    done = subprocess.run([sys.executable, "-c", FRESH, lenet.directory.path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_opened_run_downloads_nothing(lenet: cnnlab.OpenedRun) -> None:
    assert "download: true" in lenet.directory.config.read_text()
    assert cnnlab.load(lenet.directory.path).config.data.download is False
