"""The event file, read back as TensorBoard reads it."""

import io
import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from cnnlab.training.task import Multiclass

Call = Callable[..., tuple[int, str, str]]
# 10 steps an epoch, the last of them 5 images; points of the loss curve at steps that are no multiple of it
SMALL = ("data=digits", "data.limit=95", "data.validation=50", "model=mlp", "model.hidden=[8]", "trainer.batch_size=10",
         "trainer.log_every=3", "trainer.threads=1", "console=quiet")  # fmt: skip


def read(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def steps(events: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in events.Scalars(tag)]


def next_second() -> None:
    """A second file of one process and one second could sort before the first; real runs continue in a new process."""
    time.sleep(1 - time.time() % 1)


def test_curves_have_the_values_and_steps_of_the_run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[tuple[float, int]] = []
    original = Multiclass.training_loss

    def noted(self: Multiclass, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = original(self, outputs, targets)
        losses.append((loss.item(), len(targets)))
        return loss

    monkeypatch.setattr(Multiclass, "training_loss", noted)
    run = tmp_path / "run"
    assert call("train", *SMALL, "trainer.epochs=2", "evaluation.split=test", f"hydra.run.dir={run}")[0] == 0
    events = read(run)

    def mean(first: int, end: int) -> float:
        return sum(loss * count for loss, count in losses[first:end]) / sum(count for _, count in losses[first:end])

    # Each point is the mean since the one before it in its epoch; the last is at the epoch's end.
    spans = {3: (0, 3), 6: (3, 6), 9: (6, 9), 10: (9, 10), 12: (10, 12), 15: (12, 15), 18: (15, 18), 20: (18, 20)}
    points = {event.step: event.value for event in events.Scalars("train/loss")}
    assert steps(events, "train/loss") == list(spans)
    assert points == pytest.approx({step: mean(*span) for step, span in spans.items()}, rel=1e-6)  # float32

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    tags = {f"{part}/{name}": f"{part}_{name}" for part in ("validation", "test") for name in ("loss", "accuracy")}
    tags |= {"train/accuracy": "train_accuracy", "train/learning_rate": "lr", "train/images_per_s": "images_per_s"}
    for tag, key in tags.items():
        assert steps(events, tag) == [10, 20]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([line[key] for line in lines], rel=1e-6)
    final = {f"final/{name}" for name in ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss", "time_s")}
    assert set(events.Tags()["scalars"]) == {"train/loss", *tags, *final}


def test_pictures_and_the_configuration(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", *SMALL, "trainer.epochs=1", f"hydra.run.dir={run}")[0] == 0
    events = read(run)
    assert set(events.Tags()["images"]) == {"first_batch", "confusion", "worst_mistakes"}
    for tag in events.Tags()["images"]:
        (event,) = events.Images(tag)
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert event.step == 10
        assert (picture.width, picture.height) == (event.width, event.height)
    assert picture.mode == "RGB"
    (text,) = events.Tensors("config/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert [line.removeprefix("    ") for line in shown.splitlines()] == (run / "config.yaml").read_text().splitlines()
    assert all(line.startswith("    ") for line in shown.splitlines())  # as code, or Markdown would run the lines together


def test_regression_has_no_confusion_matrix(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", *SMALL, "task=regression", "trainer.steps=1", f"hydra.run.dir={run}")[0] == 0
    events = read(run)
    assert set(events.Tags()["images"]) == {"first_batch", "worst_mistakes"}
    assert {"train/mae", "validation/mae"} < set(events.Tags()["scalars"])


def test_gradient_norms_of_each_layer(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlab.training.step import Step

    norms: list[dict[str, float]] = []
    original = Step.update

    def noted(self: Step, lr_factor: float) -> None:
        named = self.model.named_parameters()
        norms.append({name: parameter.grad.double().norm().item() for name, parameter in named if parameter.grad is not None})
        original(self, lr_factor)

    monkeypatch.setattr(Step, "update", noted)
    run = tmp_path / "run"
    assert call("train", *SMALL, "trainer.steps=11", "trainer.log_gradients=true", f"hydra.run.dir={run}")[0] == 0
    events = read(run)
    tags = {tag.removeprefix("gradient_norm/") for tag in events.Tags()["scalars"] if tag.startswith("gradient_norm/")}
    assert tags == {"dense.dense0", "dense.output"}
    for layer in tags:
        points = {event.step: event.value for event in events.Scalars(f"gradient_norm/{layer}")}
        both = {
            step: math.hypot(*(norms[step - 1][f"{layer}.{name}"] for name in ("weight", "bias"))) for step in (3, 6, 9, 10, 11)
        }
        assert points == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize("log_every", [3, 4, 5, 50])
def test_no_step_has_two_points_where_a_run_ends_within_an_epoch(log_every: int, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", *SMALL, "trainer.steps=12", f"trainer.log_every={log_every}", f"hydra.run.dir={run}")[0] == 0
    events = read(run)
    for tag in events.Tags()["scalars"]:
        assert len(set(steps(events, tag))) == len(steps(events, tag)), tag
    assert steps(events, "train/loss")[-1] == 12


@pytest.mark.parametrize("stopped", ["at its end", "after the checkpoint", "before any checkpoint"])
def test_a_continued_run_shows_no_point_twice(stopped: str, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = (*SMALL, "trainer.log_gradients=true", f"hydra.run.dir={run}")
    assert call("train", *settings, "trainer.epochs=1")[0] == 0
    checkpoint = (run / "last.safetensors").read_bytes()
    next_second()
    assert call("train", f"resume={run}", "trainer.epochs=3")[0] == 0
    if stopped != "at its end":  # as after a kill: the events lie ahead of the checkpoint
        (run / "result.json").unlink()
        (run / "last.safetensors").unlink()
        if stopped == "after the checkpoint":
            (run / "last.safetensors").write_bytes(checkpoint)
        next_second()
        assert call("train", f"resume={run}")[0] == 0
    events = read(run)
    curve = [step for step in range(1, 31) if step % 10 == 0 or step % 3 == 0]
    assert steps(events, "train/loss") == curve
    expected = {"train/loss": curve, "gradient_norm": curve, "final": [30]}
    for tag in events.Tags()["scalars"]:
        assert steps(events, tag) == expected.get(tag, expected.get(tag.partition("/")[0], [10, 20, 30])), tag
    for tag in (
        "config/text_summary",
        "custom_scalars__config__",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    ):
        assert len(events.Tensors(tag)) == 1, tag  # of the last process alone
    assert [event.step for event in events.Images("confusion")] == [30]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [event.value for event in events.Scalars("validation/loss")] == pytest.approx(
        [line["validation_loss"] for line in lines], rel=1e-6
    )


@pytest.mark.parametrize("tail", [b"\xff" * 40, b"\x08" + bytes(11) + b"nonsense" + bytes(4)], ids=["cut", "nonsense"])
def test_an_event_file_that_a_power_cut_left_incomplete_stops_nothing(tail: bytes, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", *SMALL, "trainer.epochs=1", f"hydra.run.dir={run}")[0] == 0
    (file,) = run.glob("events*")
    file.write_bytes(file.read_bytes() + tail)
    next_second()
    assert call("train", f"resume={run}", "trainer.epochs=2")[0] == 0
    events = read(run)
    assert steps(events, "validation/loss") == [10, 20]
    assert steps(events, "final/test_loss") == [20]


def test_a_run_interrupted_before_its_first_point_waits_for_no_tensorboard(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Multiclass.training_loss

    def interrupted(self: Multiclass, outputs: Tensor, targets: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, outputs, targets)

    monkeypatch.setattr(Multiclass, "training_loss", interrupted)
    run = tmp_path / "run"
    assert call("train", *SMALL, "trainer.steps=2", f"hydra.run.dir={run}")[0] == 130
    assert list(run.glob("events*")) == []
