"""`cnnlab.load` and `cnnlab.fit`: what they predict against torch by hand, and every way in which a run can be broken."""

import json
import shutil
import signal
import subprocess
import sys
import threading
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
from cnnlab.data import load_data
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
    """Trained in bf16 on normalised images; the test score is that of the best weights."""
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
    return load_data(run.config.data, run.config.seed).test.images


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
    pixels = data.train.images.double() / 255
    standard = (data.test.images.double() / 255 - pixels.mean()) / pixels.std(correction=0)
    logits = lenet_by_hand(load_file(lenet.directory.path / f"{weights}.safetensors"), standard)
    torch.testing.assert_close(run.model(data.test.images).double(), logits, rtol=0, atol=2e-5)
    found = run.predict(data.test.images, batch_size=300)
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
    assert binary.model(torch.zeros(2, 1, 40, 31, dtype=torch.uint8)).shape == (2, 1)
    with pytest.raises(DataError, match="images of 2 x 1 x 40 x 31: expected N x 1 x 28 x 28"):
        binary.predict(torch.zeros(2, 1, 40, 31, dtype=torch.uint8))


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
    ("images", "says"),
    [
        (np.zeros((1, 28, 28), np.uint8), "for one image: images[None]"),
        (torch.zeros(2, 3, 28, 28), "2 x 3 x 28 x 28: expected N x 1 x 28 x 28"),
        (torch.zeros(0), "images of 0: expected"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.int64), "images of torch.int64"),
        (np.zeros((2, 1, 28, 28), np.uint16), "images of uint16"),
        (np.full((2, 1, 28, 28), None), "images of object"),
        ([[0.0]], "images of list"),
        (None, "images of NoneType"),
        (torch.full((2, 1, 28, 28), 255.0), "pixels from 255 to 255: expected floats from 0 to 1"),
        (np.full((2, 1, 28, 28), np.nan), "pixels from nan"),
        (torch.full((2, 1, 28, 28), -0.1), "pixels from -0.1"),
    ],
)
def test_what_cannot_be_shown_to_the_network_is_refused(lenet: cnnlab.OpenedRun, images: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        lenet.predict(images)
    assert says in str(caught.value)


def test_what_the_run_recorded_is_there(lenet: cnnlab.OpenedRun) -> None:
    path = lenet.directory.path
    assert lenet.result == json.loads((path / "result.json").read_text())
    assert [line["epoch"] for line in lenet.metrics] == [1, 2]
    assert lenet.config.trainer.precision == "bf16"
    assert lenet.classes == tuple("0123456789")
    assert lenet.task.metric == "accuracy"
    assert lenet.model[1] is lenet.network
    assert len(repr(lenet)) < 200


def test_a_run_without_a_result_opens_with_its_last_weights(copied: Path) -> None:
    (copied / "result.json").unlink()
    opened = cnnlab.load(str(copied))
    assert (opened.result, opened.weights) == (None, "last")
    RunDirectory(copied).write_result(Result(Status.INTERRUPTED))
    assert cnnlab.load(copied).weights == "last"
    for name in ("metrics.jsonl", "environment.json", "predictions.safetensors", "best.safetensors"):
        (copied / name).unlink()
    assert cnnlab.load(copied).metrics == []


def rewritten(path: Path, **changes: Any) -> None:
    """Change fields of the description in a checkpoint's metadata; None takes one out."""
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["cnnlab"])
    network = meta["network"] | changes
    meta["network"] = {key: value for key, value in network.items() if value is not None}
    save_file(load_file(path), path, {"cnnlab": json.dumps(meta)})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"_target_": "os.system", "command": "touch sprung"}}, "of another run"),
        ({"task": {"_target_": "os.system"}}, "of another run"),
        ({"input_shape": [3, 28, 28]}, "3, 28, 28"),
        ({"input_shape": [1, 0, 28]}, "input_shape"),
        ({"input_shape": [1, 30, 30]}, "another network"),
        ({"input_shape": "1x28x28"}, "input_shape=1x28x28: expected a list of 3 values"),
        ({"mean": [float("nan")]}, "finite"),
        ({"std": [0.0]}, "above 0"),
        ({"std": None}, "std: needs a value"),
        ({"classes": ["a"]}, "1 classes with 3 numbers"),
        ({"classes": [1, 2, 3]}, "classes=[1, 2, 3]: expected a list"),
        ({"memory_format": "__class__"}, "expected one of channels_last, contiguous_format"),
        ({"more": 1}, "more: no such key"),
    ],
)
def test_a_description_that_cannot_be_true_is_refused(copied: Path, changes: dict[str, Any], says: str) -> None:
    rewritten(copied / "last.safetensors", **changes)
    with pytest.raises(CheckpointError) as caught:
        cnnlab.load(copied)
    assert says in str(caught.value)
    assert "last.safetensors" in str(caught.value)
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


def test_arguments_that_are_wrong_are_named(copied: Path) -> None:
    for arguments, says in (
        ({"weights": "first"}, "weights=first"),
        ({"device": "gpu"}, "device=gpu"),
        ({"trust": "a.b"}, "trust=a.b"),
    ):
        with pytest.raises(ConfigError, match=says):
            cnnlab.load(copied, **arguments)
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
    ("overrides", "says"),
    [
        (("model=lenett",), "Did you mean lenet"),
        (("trainer.epochs=0",), "expected 1 or more"),
        (("optimizer.lr=-1",), "Invalid learning rate"),
        (("seed=1,2",), "several values"),
        (("resume=x",), "resume: no such key"),
        (("data=mnist", "data.root=nowhere", "data.download=false"), "nowhere"),
        (("model.hidden=[10000000000000]",), "out of memory"),
    ],
)
def test_fit_raises_one_kind_of_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CnnlabError, match=says):
        cnnlab.fit(*QUICK, *overrides)
    assert not list(tmp_path.glob("outputs/*"))


def test_fit_takes_further_choices(tmp_path: Path) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny.yaml").write_text("_target_: cnnlab.models.MLP\nhidden: [4]\n")
    run = cnnlab.fit(*QUICK, "model=tiny", f"hydra.run.dir={tmp_path / 'run'}", config_dirs=[tmp_path / "mine"])
    assert isinstance(run.network, nn.Module)
    assert run.config.model["hidden"] == [4]
    with pytest.raises(ConfigError, match="nowhere: no such directory"):
        cnnlab.fit("model=tiny", config_dirs=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("override", [["model=lenet"], 3, None])
def test_fit_takes_one_string_each(override: object) -> None:
    with pytest.raises(ConfigError, match="one string each"):
        cnnlab.fit("data=digits", override)  # type: ignore[arg-type]


def test_fit_in_another_thread_and_a_signal_in_the_main_one(tmp_path: Path) -> None:
    done: list[cnnlab.OpenedRun] = []
    worker = threading.Thread(target=lambda: done.append(fitted(tmp_path / "thread", "model=mlp", "trainer.steps=2")))
    worker.start()
    worker.join()
    assert done[0].result is not None
    timer = threading.Timer(3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError, match="resume="):
        fitted(tmp_path / "long", "trainer.epochs=100000", "checkpoint.every_s=1000")
    timer.cancel()
    assert signal.getsignal(signal.SIGINT) == before
    result = cnnlab.load(tmp_path / "long").result
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
import sys
import cnnlab
assert "torch" not in sys.modules
run = cnnlab.load(sys.argv[1])
unwanted = {"hydra", "torchvision", "cnnlab.training.session", "cnnlab.training.step", "tensorboard", "matplotlib", "pandas"}
sys.exit(", ".join(unwanted & set(sys.modules)) or 0)
"""


def test_opening_loads_what_it_needs_alone(lenet: cnnlab.OpenedRun, tmp_path: Path) -> None:
    path = lenet.directory.path
    done = subprocess.run([sys.executable, "-c", FRESH, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
