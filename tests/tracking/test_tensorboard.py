"""The event file, read back as TensorBoard reads it."""

import io
import itertools
import math
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image
from small_runs import epoch_lines, resume, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from cnnlab.training.step import Step
from cnnlab.training.task import Multiclass

# 10 steps an epoch, the last of them 5 images; points of the loss curve at steps that are no multiple of it
TEN = ("data.limit=95", "trainer.batch_size=10", "trainer.log_every=3")
SCORES = [f"{name}/{split}" for split in ("validation", "test") for name in ("loss", "accuracy")]
PICTURES = {"visuals/first_batch", "visuals/worst_mistakes"}


def read(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def steps(events: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in events.Scalars(tag)]


def next_second() -> None:
    """A second file of one process and one second could sort before the first; real runs continue in a new process."""
    time.sleep(1 - time.time() % 1)


@pytest.mark.parametrize("log_every", [3, 4, 5, 50])
def test_curves_have_the_values_and_steps_of_the_run(log_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[tuple[float, int]] = []
    norms: list[dict[str, float]] = []
    original_loss, original_update = Multiclass.training_loss, Step.update

    def loss(self: Multiclass, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = original_loss(self, outputs, targets)
        losses.append((loss.item(), len(targets)))
        return loss

    def update(self: Step, lr_factor: float) -> None:
        norms.append({name: parameter.grad.double().norm().item() for name, parameter in self.model.named_parameters()})
        original_update(self, lr_factor)

    monkeypatch.setattr(Multiclass, "training_loss", loss)
    monkeypatch.setattr(Step, "update", update)
    overrides = ("trainer.steps=18", "evaluation.split=test", "trainer.log_gradients=true", f"trainer.log_every={log_every}")
    run = train(tmp_path / "run", *TEN, *overrides)
    events = read(run)

    # Each point is the mean since the one before it in its epoch; the last is at the epoch's end.
    ends = [step for step in range(1, 19) if step % log_every == 0 or step in (10, 18)]
    means = []
    for first, end in itertools.pairwise([0, *ends]):
        total, images = (sum(values) for values in zip(*((loss * n, n) for loss, n in losses[first:end]), strict=True))
        means.append(total / images)
    points = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert points.pop("score/loss/train") == pytest.approx(means, rel=1e-6)  # float32
    assert steps(events, "score/loss/train") == ends
    for layer in ("dense.dense0", "dense.output"):
        both = [math.hypot(norms[step - 1][f"{layer}.weight"], norms[step - 1][f"{layer}.bias"]) for step in ends]
        assert points.pop(f"training/gradient_norm/{layer}") == pytest.approx(both, rel=1e-5)
        assert steps(events, f"training/gradient_norm/{layer}") == ends

    keys = {f"score/{tag}": "_".join(tag.split("/")[::-1]) for tag in ("accuracy/train", *SCORES)}
    keys |= {"training/learning_rate": "lr", "training/images_per_s": "images_per_s"}
    for tag, key in keys.items():
        assert points.pop(tag) == pytest.approx([line[key] for line in epoch_lines(run)], rel=1e-6)
        assert steps(events, tag) == [10, 18]
    assert points.keys() == {
        "score end/seconds",
        *(f"score end/{tag.replace('/', ' ').replace('idation', '').replace('uracy', '')}" for tag in SCORES),
    }


def test_curves_are_the_first_cards_and_the_final_scores_the_first_columns(tmp_path: Path) -> None:
    """TensorBoard's two orders: of cards (asciibetical, but "/" and "_" before all else) and of HPARAMS' columns."""
    run = train(tmp_path / "run", *TEN, "trainer.log_gradients=true", "trainer.epochs=1")
    tags = read(run).Tags()
    cards = sorted(tags["scalars"] + tags["images"], key=lambda tag: tag.replace("/", "\0").replace("_", "\0"))
    assert cards[:4] == [f"score/{name}/{split}" for name in ("accuracy", "loss") for split in ("train", "validation")]
    assert list(dict.fromkeys(tag.partition("/")[0] for tag in cards)) == ["score", "score end", "training", "visuals"]
    assert sorted(tags["scalars"])[:2] == ["score end/acc test", "score end/acc val"]


@pytest.mark.parametrize(("task", "tags"), [("multiclass", {*PICTURES, "visuals/confusion"}), ("regression", PICTURES)])
def test_pictures_and_the_configuration(task: str, tags: set[str], tmp_path: Path) -> None:
    run = train(tmp_path / "run", *TEN, f"task={task}", "trainer.steps=1")
    events = read(run)
    assert set(events.Tags()["images"]) == tags
    for tag in tags:
        (event,) = events.Images(tag)
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert (event.step, picture.mode) == (1, "RGB")
        assert (picture.width, picture.height) == (event.width, event.height)
    (text,) = events.Tensors("config/text_summary")
    shown = text.tensor_proto.string_val[0].decode().splitlines()  # as code, or Markdown would run the lines together
    assert shown == ["    " + line for line in (run / "config.yaml").read_text().splitlines()]


@pytest.mark.parametrize("stopped", ["at its end", "after the checkpoint", "before any checkpoint"])
def test_a_continued_run_shows_no_point_twice(stopped: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", *TEN, "trainer.log_gradients=true", "trainer.epochs=1")
    checkpoint = (run / "last.safetensors").read_bytes()
    next_second()
    resume(run, "trainer.epochs=3")
    if stopped != "at its end":  # as after a kill: the events lie ahead of the checkpoint
        (run / "result.json").unlink()
        (run / "last.safetensors").unlink()
        if stopped == "after the checkpoint":
            (run / "last.safetensors").write_bytes(checkpoint)
        next_second()
        resume(run)
    events = read(run)
    curve = [step for step in range(1, 31) if step % 10 == 0 or step % 3 == 0]
    for tag in events.Tags()["scalars"]:
        is_curve = tag == "score/loss/train" or "gradient_norm" in tag
        assert steps(events, tag) == (curve if is_curve else [30] if tag.startswith("score end/") else [10, 20, 30]), tag
    last = ("config/text_summary", "custom_scalars__config__", "_hparams_/session_start_info", "_hparams_/session_end_info")
    assert [len(events.Tensors(tag)) for tag in last] == [1] * 4  # of the last process alone
    assert [event.step for event in events.Images("visuals/confusion")] == [30]
    losses = [line["validation_loss"] for line in epoch_lines(run)]
    assert [event.value for event in events.Scalars("score/loss/validation")] == pytest.approx(losses, rel=1e-6)


def test_a_run_interrupted_before_its_first_point_waits_for_no_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Step.update

    def interrupted(self: Step, lr_factor: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        original(self, lr_factor)

    monkeypatch.setattr(Step, "update", interrupted)
    run = train(tmp_path / "run", *TEN, "trainer.steps=2", code=130)
    assert list(run.glob("events*")) == []
