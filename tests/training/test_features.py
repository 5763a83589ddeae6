"""Features computed once: the run is that of the head alone, and its checkpoint the whole network."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_run
from safetensors.torch import load_file, save

from cnnlab import cli, composing, load
from cnnlab.data import all_images, digits, loading
from cnnlab.errors import ResourceError
from cnnlab.tracking import files
from cnnlab.training import features
from cnnlab.training.session import build_session

FROZEN = 'parameters=[{match: "backbone.*", frozen: true}]'
SETTINGS = ("data=digits", "data.validation=20", "model=pretrained", "model.backbone=shufflenet_v2_x0_5", "model.weights=none",
            "model.head=[8]", "model.dropout=0.5", "trainer.epochs=2", "trainer.batch_size=32", "trainer.threads=1",
            "console=quiet")  # fmt: skip
CACHED = (*SETTINGS, FROZEN, "trainer.cache_features=true")


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """100 training and 30 test images, and a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "SHARED", {})
    monkeypatch.setattr(digits, "NUM_TRAIN", 100)
    monkeypatch.setattr(digits, "NUM_TEST", 30)


def train(run: Path, *settings: str) -> Path:
    assert cli.run("train", [*settings, f"hydra.run.dir={run}"]) == 0
    return run


def session(*settings: str) -> Any:
    return build_session(composing.typed(composing.compose(list(settings))))


def test_it_is_the_run_with_the_backbone_inside(tmp_path: Path) -> None:
    """The same order, dropout and updates: the weights differ by the rounding of batches of another size."""
    inside, cached = train(tmp_path / "inside", *SETTINGS, FROZEN), train(tmp_path / "cached", *CACHED)
    one, other = (load_file(run / "last.safetensors") for run in (inside, cached))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_it_opens_as_any_other_and_takes_pictures(tmp_path: Path) -> None:
    run = train(tmp_path / "run", *CACHED)
    opened, made = load(run), session(*CACHED)
    predicted = opened.predict(all_images(made.data.test)).predicted
    assert torch.equal(predicted, load_file(run / "predictions.safetensors")["class"])
    assert opened.description.input_shape == (1, 28, 28)
    assert cli.run("evaluate", [str(run)]) == 0


def test_resumed_without_the_cache_it_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, run = train(tmp_path / "whole", *CACHED), train(tmp_path / "run", *CACHED, "trainer.epochs=1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert cli.run("train", [f"resume={run}", "trainer.epochs=2"]) == 0
    assert_same_run(whole, run)


def test_seeds_and_limits_share_the_file_and_other_weights_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    def computed(*changes: str) -> int:
        capsys.readouterr()
        session(*CACHED, *changes)
        return capsys.readouterr().err.count("features of ")

    assert computed() == 2  # training and test images
    (file, _) = sorted(features.folder().iterdir())
    assert computed("data.limit=30") == 0
    for changes in (["seed=1"], ["model.backbone=shufflenet_v2_x1_0"], ["evaluation.batch_size=7"]):
        assert computed(*changes) == 2, changes  # with model.weights=none another seed draws another backbone
    narrow = {"features": torch.zeros(30, 5)}
    for content in (b"cut off", file.read_bytes()[:-4], file.read_bytes()[:-400] + bytes(400), save(narrow)):
        file.write_bytes(content)
        assert computed() == 1
    file.unlink()
    os.mkfifo(file)
    assert computed() == 1


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(ResourceError, match="XDG_CACHE_HOME"):
        session(*CACHED)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ((*CACHED, "augment=flip"), "augment.flip"),
        ((*SETTINGS, "trainer.cache_features=true"), "trainer.cache_features"),
        ((*SETTINGS, "trainer.cache_features=true", "parameters=[{match: 'backbone.conv1.*', frozen: true}]"), "backbone"),
        ((*SETTINGS, "trainer.cache_features=true", f"phases=[{{epochs: 1, {FROZEN.replace('=', ': ')}}}, {{epochs: 1}}]"),
         "phases[1].parameters"),
        (("data=digits", "model=lenet", "data.validation=20", "console=quiet", "trainer.cache_features=true"),
         "model=pretrained"),
    ],
)  # fmt: skip
def test_wrong_uses(call, tmp_path: Path, settings: tuple[str, ...], key: str) -> None:
    code, _, err = call("train", *settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, len(err.splitlines()), (tmp_path / "run").exists()) == (2, 1, False)
    assert key in err
