"""Checkpoints: bit for bit there and back, and one clear line for whatever is not one."""

import dataclasses
import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import choices
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cnnlab import composing
from cnnlab.data import InMemory
from cnnlab.errors import CheckpointError
from cnnlab.models.description import Description
from cnnlab.models.preprocess import Preprocess
from cnnlab.training.checkpoint import Progress, State, load_checkpoint, load_weights, read_description, save_checkpoint
from cnnlab.training.runtime import Runtime
from cnnlab.training.step import Step, build_optimizer
from cnnlab.training.task import Multiclass

CPU = torch.device("cpu")
DESCRIPTION = Description(
    {"_target_": "torch.nn.Sequential", "layers": [{"width": 0.1}, None]}, {"_target_": "cnnlab.training.task.Multiclass"},
    (2, 6, 6), ("a", "b", "ü"), (3, 5, 7), (0.1, 1 / 3), (0.5, float(torch.tensor(0.3))), "channels_last",
)  # fmt: skip
OPTIMIZERS = [
    *choices("optimizer"),
    "sgd optimizer.momentum=0.9 optimizer.nesterov=true",
    "rmsprop optimizer.momentum=0.9 optimizer.centered=true",
    "adam optimizer.amsgrad=true",
]


def network(channels: int = 6) -> nn.Sequential:
    convolution = nn.Conv2d(2, channels, 3)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), nn.Linear(channels * 16, 3))


class Run:
    """A tiny network in training; `seed` draws its initial weights."""

    def __init__(self, choice: str = "adam", seed: int = 0, model: nn.Module | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = (model or network()).to(memory_format=torch.channels_last)
        name, *changes = choice.split()
        section = OmegaConf.to_container(composing.compose([f"optimizer={name}", *changes]).optimizer)
        assert isinstance(section, dict)
        self.optimizer = build_optimizer({str(key): value for key, value in section.items()}, self.model, CPU)
        generator = torch.Generator().manual_seed(11)
        images = torch.randint(256, (8, 2, 6, 6), generator=generator, dtype=torch.uint8)
        train = InMemory(images, torch.arange(8) % 3)
        preprocess = Preprocess(torch.zeros(2), torch.ones(2), torch.channels_last)
        runtime = Runtime(CPU, torch.get_num_threads(), "fp32")
        self.step = Step(self.model, self.optimizer, Multiclass(3), train, train.labels, preprocess, {}, runtime, 0, None)
        self.state = State(self.model, self.optimizer, self.step.sums, DESCRIPTION)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            number = self.state.progress.step
            self.step(torch.arange(4) + number % 5, number, 1.0)
            self.state.progress.step += 1

    def bits(self) -> dict[str, Any]:
        """Everything that the next step depends on, with its layout in memory."""
        found: dict[str, Any] = {}
        for name, tensor in self.model.state_dict().items():
            found[name] = tensor
        for index, entries in self.optimizer.state_dict()["state"].items():
            found |= {f"{index}.{key}": value for key, value in entries.items()}
        found["sums"] = self.step.sums
        return {
            key: (value.dtype, value.stride(), value.tolist()) if isinstance(value, Tensor) else value
            for key, value in found.items()
        }


@pytest.mark.parametrize("choice", OPTIMIZERS)
def test_round_trip_and_the_next_step_bit_for_bit(choice: str, tmp_path: Path) -> None:
    path, run, loaded = tmp_path / "last.safetensors", Run(choice), Run(choice, seed=1)
    run.train(3)
    save_checkpoint(path, run.state)
    loaded.train(1)  # so that it has an optimizer state of its own to lose
    load_checkpoint(path, loaded.state)
    assert loaded.bits() == run.bits()
    assert loaded.state.progress == run.state.progress
    assert loaded.model[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
    for each in (run, loaded):
        each.train(2)
    assert loaded.bits() == run.bits()


def test_every_part_of_the_progress_comes_back(tmp_path: Path) -> None:
    run, loaded = Run(), Run()
    run.state.progress = Progress(step=7, train_s=1.25, best=0.1 + 0.2, best_step=5, bad_epochs=2)
    run.state.began -= 100.0
    save_checkpoint(tmp_path / "file", run.state)
    load_checkpoint(tmp_path / "file", loaded.state)
    assert dataclasses.replace(loaded.state.progress, seconds=0) == Progress(7, 1.25, 0, 0.1 + 0.2, 5, 2)
    assert 100 <= loaded.state.progress.seconds < 110
    assert 100 <= loaded.state.elapsed_s() < 110  # the clock goes on from there


def test_a_checkpoint_is_a_snapshot_of_plain_tensors(tmp_path: Path) -> None:
    run = Run()
    run.train(1)
    save_checkpoint(tmp_path / "file", run.state)
    run.train(1)
    held = load_file(tmp_path / "file")
    again = Run()
    again.train(1)
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(held[f"model.{name}"], tensor)


def test_load_weights_takes_the_network_alone(tmp_path: Path) -> None:
    run, loaded = Run("adam"), Run("sgd", seed=1)
    run.train(2)
    save_checkpoint(tmp_path / "file", run.state)
    load_weights(tmp_path / "file", loaded.model)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert loaded.optimizer.state_dict()["state"] == {}


def test_a_checkpoint_says_what_its_network_is(tmp_path: Path) -> None:
    path, run = tmp_path / "file", Run()
    save_checkpoint(path, run.state)
    assert read_description(path) == DESCRIPTION
    with safe_open(path, "pt") as file:  # for programs that know nothing of cnnlab
        network = json.loads(file.metadata()["cnnlab"])["network"]
    assert (network["classes"], network["input_shape"], network["std"]) == (["a", "b", "ü"], [2, 6, 6], list(DESCRIPTION.std))
    assert torch.equal(DESCRIPTION.preprocess().std, torch.tensor([0.5, 0.3]))


@pytest.mark.parametrize("change", [{"model": {"_target_": "x.Y"}}, {"classes": ("b", "a", "ü")}, {"numbers": (5, 3, 7)}])
def test_the_checkpoint_of_another_run_with_the_same_shapes_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    run, other = Run(), Run()
    other.state.description = dataclasses.replace(DESCRIPTION, **change)
    save_checkpoint(tmp_path / "file", other.state)
    with pytest.raises(CheckpointError, match=f"of another run: its {next(iter(change))} is not"):
        load_checkpoint(tmp_path / "file", run.state)


class Tied(nn.Module):
    """Two names for one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.output = nn.Linear(72, 72), nn.Linear(72, 72), nn.Linear(72, 3)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.second(self.first(images.flatten(1))))
        return outputs


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    run, loaded = Run(model=Tied()), Run(model=Tied())
    run.train(2)
    save_checkpoint(tmp_path / "file", run.state)
    load_checkpoint(tmp_path / "file", loaded.state)
    for each in (run, loaded):
        each.train(1)
    assert loaded.bits() == run.bits()
    assert loaded.model.second.weight is loaded.model.first.weight  # type: ignore[union-attr]


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def spoil(path: Path, how: str) -> None:
    """Turn a good checkpoint at `path` into a bad one."""
    content = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "a folder":
            path.unlink()
            path.mkdir()
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "one byte short":
            path.write_bytes(content[:-1])
        case "damaged header":
            path.write_bytes(content[:20] + b"\xff\xff\xff\xff" + content[24:])
        case "zeros":  # as after a power cut
            path.write_bytes(bytes(len(content)))
        case "pickle":
            path.write_bytes(pickle.dumps({"model": Trap(path.with_name("sprung"))}))
        case "torch.save":
            torch.save({"weight": torch.zeros(2)}, path)
        case "foreign":
            save_file({"weight": torch.zeros(2)}, path)
        case "foreign metadata":
            save_file({"weight": torch.zeros(2)}, path, {"cnnlab": "not JSON"})
        case "without progress":
            save_file(load_file(path), path, {"cnnlab": "{}"})
        case "without sums":
            held = load_file(path)
            del held["progress.sums"]
            save_file(held, path, {"cnnlab": '{"optimizer": {}, "progress": {}}'})
        case "from the future":
            save_file(load_file(path), path, {"cnnlab": '{"optimizer": {}, "progress": {"seconds": 0, "colour": 1}}'})


DAMAGES = ["missing", "a folder", "empty", "half", "one byte short", "damaged header", "zeros", "pickle", "torch.save"]
FOREIGN = ["foreign", "foreign metadata", "without progress", "without sums", "from the future"]


@pytest.mark.parametrize("how", [*DAMAGES, *FOREIGN])
def test_what_is_no_checkpoint_is_named_in_one_line(how: str, tmp_path: Path) -> None:
    path, run = tmp_path / "last.safetensors", Run()
    run.train(1)
    save_checkpoint(path, run.state)
    spoil(path, how)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, run.state)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def shuffled_names() -> nn.Module:
    return nn.Sequential(nn.Identity(), *network())


@pytest.mark.parametrize(
    ("other", "detail"),
    [
        (lambda: network(channels=5), "0.bias is (6,) there and (5,) in this run's network"),
        (lambda: nn.Sequential(*network(), nn.Linear(3, 3)), "5.bias is nothing there and (3,) in this run's network"),
        (lambda: nn.Sequential(*network())[:4], "4.bias is (3,) there and nothing in this run's network"),
        (shuffled_names, "0.bias is (6,) there and nothing in this run's network"),
    ],
    ids=["narrower", "deeper", "shallower", "other names"],
)
def test_another_network_is_refused_and_keeps_its_weights(other: Callable[[], nn.Module], detail: str, tmp_path: Path) -> None:
    path, run, strange = tmp_path / "file", Run(), Run(model=other())
    save_checkpoint(path, run.state)
    before = {name: tensor.clone() for name, tensor in strange.model.state_dict().items()}
    for load in (lambda: load_checkpoint(path, strange.state), lambda: load_weights(path, strange.model)):
        with pytest.raises(CheckpointError) as caught:
            load()
        assert str(path) in str(caught.value)
        assert detail in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in strange.model.state_dict().items())


@pytest.mark.parametrize(
    ("saved", "loading"), [("adam", "sgd"), ("sgd", "adam"), ("rmsprop", "adam"), ("adam", "rmsprop"), ("adam", "adamw")]
)
def test_another_optimizer_is_refused(saved: str, loading: str, tmp_path: Path) -> None:
    path, run, strange = tmp_path / "file", Run(saved), Run(loading)
    run.train(2)
    save_checkpoint(path, run.state)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, strange.state)
    assert str(path) in str(caught.value)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, run = tmp_path / "last.safetensors", Run()
    run.train(1)
    save_checkpoint(path, run.state)
    before = path.read_bytes()
    run.train(1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(path, run.state)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    save_checkpoint(path, run.state)
    assert path.read_bytes() != before
