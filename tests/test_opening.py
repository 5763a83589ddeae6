"""`cnnlab.load` and `cnnlab.fit`: what they predict against torch by hand, and every way in which a run can be broken."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import cnnlab
from cnnlab.data import all_images, load_data
from cnnlab.errors import CheckpointError, CnnlabError, ConfigError, DataError
from cnnlab.status import Status, StoppedError
from cnnlab.tracking.records import Result
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.interrupt import StopRequest

QUICK = ("data=digits", "data.limit=200", "data.validation=100", "console=quiet", "trainer.epochs=2", "trainer.batch_size=32")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def fitted(place: Path, *overrides: str) -> cnnlab.OpenedRun:
    return cnnlab.fit(*QUICK, *overrides, f"hydra.run.dir={place}")


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
    save_file(load_file(last), last, {"cnnlab": json.dumps(meta)})
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        cnnlab.load(copied)
    assert not Path("sprung").exists()


def test_a_checkpoint_that_does_not_fit_is_refused(copied: Path, lenet: cnnlab.OpenedRun, tmp_path: Path) -> None:
    last = copied / "last.safetensors"
    for spoil, says in (
        (lambda: shutil.copy(lenet.directory.last, last), "of another run"),
        (lambda: save_file(load_file(last), last, {"cnnlab": "{}"}), "older cnnlab"),
        (lambda: save_file(load_file(last), last, {"cnnlab": '{"network": 3}'}), "expected a mapping"),
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


@pytest.mark.parametrize(("key", "value"), [("weights", "first"), ("device", "gpu"), ("trust", "a.b")])
def test_arguments_that_are_wrong_are_named(regression: cnnlab.OpenedRun, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        cnnlab.load(regression.directory.path, **{key: value})


def test_a_batch_size_or_recorded_weights_that_cannot_be_are_named(copied: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=0"):
        cnnlab.load(copied, device=torch.device("cpu")).predict(torch.zeros(1, 1, 28, 28), batch_size=0)
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


def test_fit_leaves_no_trace_in_the_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    runs = [fitted(tmp_path / name, "model=mlp", "trainer.steps=2") for name in ("a", "b")]
    assert (GlobalHydra.instance().hydra, HydraConfig.instance().cfg) == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    one, other = (load_file(run.directory.last) for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(capsys.readouterr().out.splitlines()) == 2  # console=quiet


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("model=lenett", "lenet"),
        ("trainer.epochs=0", "trainer.epochs=0"),
        ("optimizer.lr=-1", "optimizer"),
        ("seed=1,2", "seed=1,2"),
        ("resume=x", "resume"),
        ("data.classes=[7,70]", "data.classes"),
        ("model.hidden=[10000000000000]", "memory"),
    ],
)
def test_fit_raises_one_kind_of_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, names: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CnnlabError, match=names):
        cnnlab.fit(*QUICK, override)
    assert not list(tmp_path.glob("outputs/*"))


def test_fit_takes_further_choices(tmp_path: Path) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny.yaml").write_text("_target_: cnnlab.models.MLP\nhidden: [4]\n")
    run = cnnlab.fit(*QUICK, "model=tiny", f"hydra.run.dir={tmp_path / 'run'}", config_dirs=[tmp_path / "mine"])
    assert isinstance(run.network, nn.Module)
    assert run.config.model["hidden"] == [4]
    with pytest.raises(ConfigError, match="nowhere"):
        cnnlab.fit("model=tiny", config_dirs=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("override", [["model=lenet"], 3, None])
def test_fit_takes_one_string_each(override: object) -> None:
    with pytest.raises(ConfigError, match="override"):
        cnnlab.fit("data=digits", override)  # type: ignore[arg-type]


def test_fit_in_another_thread(tmp_path: Path) -> None:
    done: list[cnnlab.OpenedRun] = []
    worker = threading.Thread(target=lambda: done.append(fitted(tmp_path / "thread", "model=mlp", "trainer.steps=2")))
    worker.start()
    worker.join()
    assert done[0].result is not None


def test_ctrl_c_during_fit_saves_and_raises(tmp_path: Path) -> None:
    run, before = tmp_path / "long", signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while not (run / "metrics.jsonl").exists():
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(StoppedError, match=re.escape(f"resume={run}")) as caught:
        fitted(run, "trainer.epochs=100000", "checkpoint.every_s=1000")
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) == before
    result = cnnlab.load(run).result
    assert result is not None
    assert result["status"] == "interrupted"


@pytest.mark.parametrize(("interactive", "expected"), [(True, KeyboardInterrupt), (False, None)])
def test_a_second_ctrl_c_ends_the_call_but_not_a_notebook(
    monkeypatch: pytest.MonkeyPatch, interactive: bool, expected: type[BaseException] | None
) -> None:
    if interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with StopRequest(tell=False) as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signal_number == signal.SIGINT
            if expected is None:
                assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
            else:
                with pytest.raises(expected):
                    signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)


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
