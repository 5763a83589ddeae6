"""Checkpoints: bit for bit there and back, and one clear line for whatever is not one."""

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import choices, optimizer_section
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import checkpoint_meta
from torch import Tensor, nn

from cnnlab.data import InMemory
from cnnlab.errors import CheckpointError
from cnnlab.models.description import Description
from cnnlab.models.preprocess import Preprocess
from cnnlab.training import checkpoint
from cnnlab.training.checkpoint import (
    Progress,
    State,
    content_hash,
    load_checkpoint,
    load_weights,
    read_description,
    save_checkpoint,
)
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


class Tied(nn.Module):
    """Two names for one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.output = nn.Linear(72, 72), nn.Linear(72, 72), nn.Linear(72, 3)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.second(self.first(images.flatten(1))))
        return outputs


class Run:
    """A tiny network in training; `seed` draws its initial weights."""

    def __init__(self, choice: str = "adam", seed: int = 0, build: Callable[[], nn.Module] = network) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build().to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(optimizer_section(choice), self.model, CPU)
        generator = torch.Generator().manual_seed(11)
        train = InMemory(torch.randint(256, (8, 2, 6, 6), generator=generator, dtype=torch.uint8), torch.arange(8) % 3)
        preprocess = Preprocess(torch.zeros(2), torch.ones(2), torch.channels_last)
        runtime = Runtime(CPU, torch.get_num_threads(), "fp32")
        self.step = Step(self.model, self.optimizer, Multiclass(3), train, train.labels, preprocess, {}, runtime, 0, None)
        self.state = State(self.step, DESCRIPTION)

    def train(self, steps: int) -> "Run":
        for _ in range(steps):
            number = self.state.progress.step
            self.step(torch.arange(4) + number % 5, number, 1.0)
            self.state.progress.step += 1
        return self

    def bits(self) -> dict[str, Any]:
        """Everything that the next step depends on, with its layout in memory."""
        found = self.model.state_dict() | {"sums": self.step.sums}
        for index, entries in self.optimizer.state_dict()["state"].items():
            found |= {f"{index}.{key}": value for key, value in entries.items()}
        return {
            name: (value.dtype, value.stride(), value.tolist()) if isinstance(value, Tensor) else value
            for name, value in found.items()
        }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.safetensors"


@pytest.mark.parametrize(("choice", "build"), [*((choice, network) for choice in OPTIMIZERS), ("adam", Tied)])
def test_round_trip_and_the_next_steps_bit_for_bit(choice: str, build: Callable[[], nn.Module], path: Path) -> None:
    run, loaded = Run(choice, 0, build).train(3), Run(choice, 1, build).train(1)  # with an optimizer state of its own to lose
    save_checkpoint(path, run.state)
    load_checkpoint(path, loaded.state)
    assert loaded.bits() == run.bits()
    assert loaded.state.progress == run.state.progress
    assert loaded.train(2).bits() == run.train(2).bits()
    assert len({id(parameter) for parameter in loaded.model.parameters()}) == len(list(run.model.parameters()))


def test_every_part_of_the_progress_comes_back(path: Path) -> None:
    run, loaded = Run(), Run()
    run.state.progress = Progress(step=7, train_s=1.25, best=0.1 + 0.2, best_step=5, bad_epochs=2)
    run.state.began -= 100.0
    save_checkpoint(path, run.state)
    load_checkpoint(path, loaded.state)
    assert dataclasses.replace(loaded.state.progress, seconds=0) == Progress(7, 1.25, 0, 0.1 + 0.2, 5, 2)
    assert 100 <= loaded.state.progress.seconds < 110
    assert 100 <= loaded.state.elapsed_s() < 110  # the clock goes on from there


def test_load_weights_takes_the_network_alone(path: Path) -> None:
    run, loaded = Run("adam").train(2), Run("sgd", seed=1)
    save_checkpoint(path, run.state)
    load_weights(path, loaded.model)
    assert all(torch.equal(loaded.model.state_dict()[name], tensor) for name, tensor in run.model.state_dict().items())
    assert loaded.optimizer.state_dict()["state"] == {}


def test_a_file_that_shrinks_while_it_is_read_does_not_kill_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("adam").train(2)
    save_checkpoint(path, run.state)
    original = checkpoint.content_hash

    def shrinking(tensors: dict[str, Tensor], said: str) -> str:
        os.truncate(path, 0)  # a mapped page beyond the end of its file raises SIGBUS
        return original(tensors, said)

    monkeypatch.setattr(checkpoint, "content_hash", shrinking)
    load_weights(path, Run("adam", seed=1).model)


def test_a_checkpoint_says_what_its_network_is(path: Path) -> None:
    save_checkpoint(path, Run().state)
    assert read_description(path) == DESCRIPTION
    network = checkpoint_meta(path)["network"]  # for programs that know nothing of cnnlab
    assert (network["classes"], network["input_shape"], network["std"]) == (["a", "b", "ü"], [2, 6, 6], list(DESCRIPTION.std))
    assert torch.equal(DESCRIPTION.preprocess().std, torch.tensor([0.5, 0.3]))


@pytest.mark.parametrize("change", [{"model": {"_target_": "x.Y"}}, {"classes": ("b", "a", "ü")}, {"numbers": (5, 3, 7)}])
def test_the_checkpoint_of_another_run_with_the_same_shapes_is_refused(change: dict[str, Any], path: Path) -> None:
    run, other = Run(), Run()
    other.state.description = dataclasses.replace(DESCRIPTION, **change)
    save_checkpoint(path, other.state)
    with pytest.raises(CheckpointError, match=next(iter(change))):
        load_checkpoint(path, run.state)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: network(channels=5), "0.bias"),  # narrower
        (lambda: nn.Sequential(*network(), nn.Linear(3, 3)), "5.bias"),  # deeper
        (lambda: nn.Sequential(*network())[:4], "4.bias"),  # shallower
        (lambda: nn.Sequential(nn.Identity(), *network()), "0.bias"),  # other names
    ],
)
def test_another_network_is_refused_and_keeps_its_weights(build: Callable[[], nn.Module], name: str, path: Path) -> None:
    strange = Run(build=build)
    save_checkpoint(path, Run().state)
    before = {name: tensor.clone() for name, tensor in strange.model.state_dict().items()}
    for load in (lambda: load_checkpoint(path, strange.state), lambda: load_weights(path, strange.model)):
        with pytest.raises(CheckpointError, match=rf"last\.safetensors.* {name} "):
            load()
    assert all(torch.equal(tensor, before[name]) for name, tensor in strange.model.state_dict().items())


@pytest.mark.parametrize(
    ("saved", "loading"), [("adam", "sgd"), ("sgd", "adam"), ("rmsprop", "adam"), ("adam", "rmsprop"), ("adam", "adamw")]
)
def test_another_optimizer_is_refused(saved: str, loading: str, path: Path) -> None:
    save_checkpoint(path, Run(saved).train(2).state)
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        load_checkpoint(path, Run(loading).state)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def rewrite(path: Path, without: str = "", **sections: Any) -> None:
    """Write a checkpoint again, without a tensor and with other sections of its metadata, where None takes one out."""
    meta = {name: value for name, value in (checkpoint_meta(path) | sections).items() if value is not None}
    sign(path, {name: tensor for name, tensor in load_file(path).items() if name != without}, json.dumps(meta))


def sign(path: Path, tensors: dict[str, Tensor], said: str) -> None:
    """Write a checkpoint with the hash of its content, as one does who means it."""
    save_file(tensors, path, {"cnnlab": said, "sha256": content_hash(tensors, said)})


def change(path: Path, name: str, new: Callable[[Tensor], Tensor]) -> None:
    """Replace the first tensor whose name contains `name`."""
    tensors = load_file(path)
    found = next(each for each in sorted(tensors) if name in each)
    with safe_open(path, "pt") as file:
        said = file.metadata()["cnnlab"]
    sign(path, tensors | {found: new(tensors[found]).contiguous()}, said)


def progress(path: Path, **changes: Any) -> None:
    rewrite(path, progress=checkpoint_meta(path)["progress"] | changes)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),  # as after a power cut
    "pickle": lambda path: path.write_bytes(pickle.dumps({"model": Trap(path.with_name("sprung"))})),
    "unsigned": lambda path: save_file(load_file(path), path, {"cnnlab": json.dumps(checkpoint_meta(path))}),
    "weights of bools": lambda path: change(path, "model.", lambda tensor: tensor > 0),
    "weights of bytes": lambda path: change(path, "model.", lambda tensor: tensor.to(torch.uint8)),
    "weights of float64": lambda path: change(path, "model.", lambda tensor: tensor.double()),
    "a weight that is nan": lambda path: change(path, "model.", lambda tensor: tensor * torch.nan),
    "a negative variance": lambda path: change(path, "running_var", lambda tensor: -tensor),
    "a small optimizer": lambda path: change(path, "exp_avg", lambda tensor: tensor[:1]),
    "an optimizer of float64": lambda path: change(path, "exp_avg_sq", lambda tensor: tensor.double()),
    "half an optimizer": lambda path: rewrite(path, without=next(n for n in load_file(path) if n.endswith(".exp_avg"))),
    "a step of -5": lambda path: progress(path, step=-5),
    "a step of true": lambda path: progress(path, step=True),
    "a best of nan": lambda path: progress(path, best=float("nan")),
    "a best step of the future": lambda path: progress(path, best_step=10),
    "foreign": lambda path: save_file({"weight": torch.zeros(2)}, path),
    "not JSON": lambda path: save_file(load_file(path), path, {"cnnlab": "{"}),
    "a list": lambda path: save_file(load_file(path), path, {"cnnlab": "[1]"}),
    "no network": lambda path: rewrite(path, network=None),
    "no progress": lambda path: rewrite(path, progress=None),
    "no step": lambda path: rewrite(path, progress={"seconds": 0, "colour": 1}),
    "no number": lambda path: rewrite(path, progress=checkpoint_meta(path)["progress"] | {"step": "7"}),
    "no optimizer": lambda path: rewrite(path, optimizer_numbers=None),
    "no such parameter": lambda path: rewrite(path, optimizer_numbers={"nowhere.step": 1}),
    "no sums": lambda path: rewrite(path, without="progress.sums"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_no_checkpoint_is_named(damage: Callable[[Path], object], path: Path) -> None:
    run = Run().train(1)
    save_checkpoint(path, run.state)
    damage(path)
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        load_checkpoint(path, run.state)
    assert not path.with_name("sprung").exists()
