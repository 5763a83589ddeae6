"""Whole runs on a hundred images: what they write, when they stop, and what they leave when they cannot go on."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from cnnlab import composing, config
from cnnlab.data import all_images, load_data
from cnnlab.data.batches import epoch_order
from cnnlab.data.sampling import held_out_count, stratified
from cnnlab.tracking.records import Score
from cnnlab.training import trainer
from cnnlab.training.checkpoint import Progress
from cnnlab.training.session import Session, build_session
from cnnlab.training.step import Step
from cnnlab.training.trainer import judge

Call = Callable[..., tuple[int, str, str]]
# 4 steps an epoch, the last of them 4 images
SMALL = ("data=digits", "data.limit=100", "data.validation=50", "model=mlp", "model.hidden=[8]", "trainer.batch_size=32",
         "trainer.threads=1", "console=quiet")  # fmt: skip
CLOCKS = {"train_s", "images_per_s"}


@pytest.fixture
def train(call: Call, tmp_path: Path) -> Callable[..., Path]:
    """train("seed=1", ...) trains a small run that succeeds; its directory."""

    def run(*changes: str, name: str = "run") -> Path:
        code, _, err = call("train", *SMALL, *changes, f"hydra.run.dir={tmp_path / name}")
        assert (code, err) == (0, "")
        return tmp_path / name

    return run


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in metrics(run)]


def result(run: Path) -> dict[str, Any]:
    content = json.loads((run / "result.json").read_text())
    assert isinstance(content, dict)
    return content


def position(run: Path, name: str) -> dict[str, Any]:
    """The progress that a checkpoint holds."""
    from safetensors import safe_open

    with safe_open(run / f"{name}.safetensors", "pt") as file:
        progress = json.loads(file.metadata()["cnnlab"])["progress"]
    assert isinstance(progress, dict)
    return progress


def float64_lines(changes: tuple[str, ...], epochs: int, lr: float) -> Iterator[dict[str, float]]:
    """The metrics of SGD on the small run, by a plain loop in float64 over the same images, order and initial weights."""
    session = build_session(composing.typed(composing.compose([*SMALL, *changes])))
    weights = [tensor.double() for tensor in session.model.state_dict().values()]
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10)).double()
    net.load_state_dict(dict(zip(net.state_dict(), weights, strict=True)))
    train, held_out = session.data.train, session.data.validation
    assert held_out is not None
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for epoch in range(epochs):
        order, losses, hits = epoch_order(0, epoch, 100, torch.device("cpu")), 0.0, 0
        for start in (0, 32, 64, 96):
            chosen = order[start : start + 32]
            images, labels = train.gather(chosen).double() / 255, train.labels[chosen]
            outputs = net(images)
            loss = F.cross_entropy(outputs, labels)
            losses, hits = losses + loss.item() * len(labels), hits + int((outputs.argmax(1) == labels).sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            outputs = net(all_images(held_out).double() / 255)
        yield {
            "train_loss": losses / 100,
            "train_accuracy": hits / 100,
            "validation_loss": F.cross_entropy(outputs, held_out.labels).item(),
            "validation_accuracy": int((outputs.argmax(1) == held_out.labels).sum()) / 50,
        }


def test_epochs_means_equal_a_plain_loop_in_float64(train: Callable[..., Path]) -> None:
    changes = ("optimizer=sgd", "optimizer.lr=0.125", "trainer.epochs=3")
    lines = metrics(train(*changes))
    for number, (line, expected) in enumerate(zip(lines, float64_lines(changes, 3, 0.125), strict=True), 1):
        assert list(line) == ["epoch", "step", "lr", "metric", *expected, "train_s", "images_per_s"]
        assert (line["epoch"], line["step"], line["lr"]) == (number, 4 * number, 0.125)
        # float32 against float64 over 12 steps; one image more or less would show as 0.01 or 0.02.
        assert {key: line[key] for key in expected} == pytest.approx(expected, rel=1e-5)
        assert line["images_per_s"] == pytest.approx(100 / line["train_s"], rel=0.05)


def test_a_run_that_ends_within_an_epoch(train: Callable[..., Path]) -> None:
    run = train("trainer.steps=6")
    whole, part = timeless(train("trainer.steps=8", name="longer")), timeless(run)
    assert [(line["epoch"], line["step"]) for line in part] == [(1, 4), (2, 6)]
    assert part[0] == whole[0]
    assert (result(run)["steps"], result(run)["epochs"]) == (6, 2)
    order = epoch_order(0, 1, 100, torch.device("cpu"))
    session = build_session(composing.typed(composing.compose(list(SMALL))))
    for step in range(4):
        session.step(epoch_order(0, 0, 100, torch.device("cpu"))[step * 32 :][:32], step, 1.0)
    session.step.sums.zero_()
    for step in (4, 5):
        session.step(order[(step - 4) * 32 :][:32], step, 1.0)
    assert part[1]["train_loss"] == session.step.sums[0].item() / 64  # of the 64 images of two steps


def test_the_rate_follows_the_schedule_and_is_that_of_the_epochs_last_update(train: Callable[..., Path]) -> None:
    run = train("trainer.epochs=3", "optimizer.lr=0.25", "schedule=step", "schedule.every_epochs=1", "schedule.gamma=0.5")
    assert [line["lr"] for line in metrics(run)] == [0.25, 0.125, 0.0625]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_test_images_are_scored_every_epoch_only_when_asked(split: str, train: Callable[..., Path]) -> None:
    run = train("trainer.epochs=2", f"evaluation.split={split}")
    lines = metrics(run)
    assert all(("test_loss" in line, "test_accuracy" in line) == (split == "test",) * 2 for line in lines)
    if split == "test":
        assert result(run)["test"] == {"loss": lines[-1]["test_loss"], "accuracy": lines[-1]["test_accuracy"]}
    assert result(run)["validation"] == {key: lines[-1][f"validation_{key}"] for key in ("loss", "accuracy")}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_scoring_every_second_epoch_and_the_last(split: str, train: Callable[..., Path]) -> None:
    every = ("trainer.epochs=5", f"evaluation.split={split}")
    sparse, dense = train(*every, "evaluation.every=2"), train(*every, name="dense")
    lines = timeless(sparse)
    assert [line["epoch"] for line in lines if "validation_loss" in line] == [2, 4, 5]
    assert [line["epoch"] for line in lines if "test_loss" in line] == ([2, 4, 5] if split == "test" else [])
    for line, full in zip(lines, timeless(dense), strict=True):
        assert line == {key: full[key] for key in line}
        assert line.keys() >= {"epoch", "step", "lr", "metric", "train_loss", "train_accuracy"}
    assert result(sparse)["test"] == result(dense)["test"]


def test_patience_counts_scorings(train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        validation_scores(patch, [0.5, 0.4, 0.3, 0.9])
        run = train("trainer.epochs=20", "trainer.patience=2", "evaluation.every=3")
    assert [line["epoch"] for line in metrics(run)][-1] == 9
    assert result(run)["status"] == "stopped early"


def test_regression_reports_its_error_and_predicts_numbers(train: Callable[..., Path]) -> None:
    run = train("task=regression", "data.classes=[2,7]", "trainer.epochs=2", "evaluation.weights=best")
    assert all({"train_mae", "validation_mae"} < set(line) and "train_accuracy" not in line for line in metrics(run))
    assert position(run, "best")["best"] == min(line["validation_mae"] for line in metrics(run))
    assert set(result(run)["test"]) == {"loss", "mae"}
    predictions = load_file(run / "predictions.safetensors")
    labels = build_session(composing.typed(composing.compose([*SMALL, "data.classes=[2,7]"]))).data.test.labels
    error = predictions["prediction"].double() - torch.tensor([2.0, 7.0], dtype=torch.float64)[labels]
    assert set(predictions) == {"prediction", "label"}
    # The metric is summed in float32 over some 400 errors of up to 7.
    assert result(run)["test"]["mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert result(run)["test"]["loss"] == pytest.approx(error.square().mean().item(), rel=1e-6)


def test_predictions_are_those_of_the_score(train: Callable[..., Path]) -> None:
    run = train("trainer.epochs=1")
    predictions = load_file(run / "predictions.safetensors")
    labels = build_session(composing.typed(composing.compose(list(SMALL)))).data.test.labels
    assert set(predictions) == {"class", "probability", "label"}
    assert torch.equal(predictions["label"], labels)
    assert result(run)["test"]["accuracy"] == (predictions["class"] == labels).double().mean().item()
    assert ((predictions["probability"] > 0.1 - 1e-6) & (predictions["probability"] <= 1)).all()  # the largest of ten


def validation_scores(monkeypatch: pytest.MonkeyPatch, metric: list[float]) -> None:
    """Make the validation scores of a run's epochs these."""
    scores = iter(metric)
    monkeypatch.setattr(Session, "score", lambda self, part: Score(1.0, next(scores)))


def test_early_stopping_and_the_best_weights(train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        validation_scores(patch, [0.3, 0.5, 0.4, 0.5, 0.9])  # an equal score is not a better one
        run = train("trainer.epochs=10", "trainer.patience=2", "evaluation.weights=best")
        validation_scores(patch, [0.3, 0.5, 0.4, 0.6, 0.5, 0.5, 0.9])  # patience begins anew at 0.6
        longer = train("trainer.epochs=10", "trainer.patience=2", name="longer")
    assert [line["step"] for line in metrics(run)] == [4, 8, 12, 16]
    assert (result(run)["status"], result(run)["epochs"], result(run)["weights"]) == ("stopped early", 4, "best")
    assert (position(run, "best")["step"], position(run, "last")["step"]) == (8, 16)
    assert len(metrics(longer)) == 6
    short = train("trainer.epochs=2", name="short")  # ends where the best epoch did
    assert result(run)["test"] == result(short)["test"]
    assert (run / "predictions.safetensors").read_bytes() == (short / "predictions.safetensors").read_bytes()
    assert result(longer)["test"] != result(short)["test"]


def test_patience_that_is_not_used_up_does_not_show_in_the_status(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        validation_scores(patch, [0.5, 0.4])
        run = train("trainer.epochs=2", "trainer.patience=2")
    assert result(run)["status"] == "finished"


@pytest.mark.parametrize(
    ("higher", "scores", "best"),
    [
        (True, [0.1, 0.1, 0.3, 0.2, float("nan"), 0.4], [True, False, True, False, False, True]),
        (False, [3.0, 3.0, 2.0, 2.5, float("nan"), 0.0], [True, False, True, False, False, True]),
        (True, [float("nan"), 0.0], [False, True]),
        (False, [float("inf"), 9.0], [False, True]),
    ],
)
def test_judge_keeps_the_first_of_the_best(higher: bool, scores: list[float], best: list[bool]) -> None:
    session: Any = SimpleNamespace(task=SimpleNamespace(higher_is_better=higher))
    progress, since = Progress(), 0
    for step, (score, expected) in enumerate(zip(scores, best, strict=True), 1):
        progress.step = step
        since = 0 if expected else since + 1
        assert judge(session, progress, score) is expected
        assert progress.bad_epochs == since
        assert not expected or (progress.best, progress.best_step) == (score, step)


def test_looking_and_saving_within_an_epoch_changes_nothing(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("trainer.epochs=2")
    saves: list[int] = []
    original = trainer.save_checkpoint

    def counted(path: Path, state: Any) -> None:
        saves.append(state.progress.step)
        original(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "LOOK_EVERY_S", 0.0)
        patch.setattr(trainer, "save_checkpoint", counted)
        watched = train("trainer.epochs=2", "checkpoint.every_s=0", "trainer.log_every=1", name="watched")
    assert set(saves) == set(range(1, 9))
    assert timeless(watched) == timeless(run)
    one, other = (load_file(each / "last.safetensors") for each in (run, watched))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("lr", ["1e30", "1e39"])  # the second makes the weights themselves infinite in step 1
@pytest.mark.parametrize("batch_size", [32, 100])
def test_a_run_that_diverges_says_where_and_leaves_finite_checkpoints(
    call: Call, tmp_path: Path, lr: str, batch_size: int
) -> None:
    run = tmp_path / "run"
    changes = ("optimizer=sgd", f"optimizer.lr={lr}", f"trainer.batch_size={batch_size}", "checkpoint.every_s=0")
    code, out, err = call("train", *SMALL, *changes, f"hydra.run.dir={run}")
    assert (code, out, err.count("\n")) == (3, "", 1)
    # The first loss is finite, and so is its gradient; weights are looked at before a checkpoint, so perhaps at step 1.
    assert "at step 2;" in err or (lr == "1e39" and "at step 1;" in err)
    assert result(run)["status"] == "diverged"
    assert result(run)["cause"] in err
    assert "test" not in result(run)
    for path in run.glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            assert torch.isfinite(tensor).all(), f"{path.name}: {name}"


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")], ids=["memory", "disk"])
def test_what_the_machine_lacks_is_recorded(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", fail)
        code, _, err = call("train", *SMALL, "trainer.epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, err.count("\n")) == (4, 1)
    assert result(tmp_path / "run")["status"] == "failed"


def test_the_validation_images_follow_from_the_record(train: Callable[..., Path]) -> None:
    """The recorded configuration names them: on just these images the recorded weights have the recorded loss."""
    run = train("trainer.epochs=1", "seed=3")
    cfg = config.read(run / "config.yaml")
    source = load_data(replace(cfg.data, validation=0, limit=None), cfg.seed).train
    _, indices = stratified(source.labels, held_out_count(cfg.data.validation, len(source)), cfg.seed)
    weights = {name: tensor.double() for name, tensor in load_file(run / "last.safetensors").items()}
    pixels = source.gather(indices).double().flatten(1) / 255
    hidden = F.relu(F.linear(pixels, weights["model.dense.dense0.weight"], weights["model.dense.dense0.bias"]))
    logits = F.linear(hidden, weights["model.dense.output.weight"], weights["model.dense.output.bias"])
    loss = F.cross_entropy(logits, source.labels[indices]).item()
    assert loss == pytest.approx(timeless(run)[0]["validation_loss"], rel=1e-5)  # float32 against float64


def test_augmentation_shifts_neither_weights_nor_split_nor_order(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], list[float]]] = []
    original = Step.__call__

    def watched(self: Step, indices: Tensor, step: int, lr_factor: float) -> None:
        weights = torch.cat([parameter.flatten() for parameter in self.parameters]).tolist() if step == 0 else []
        seen.append((indices.tolist(), weights))
        original(self, indices, step, lr_factor)

    monkeypatch.setattr(Step, "__call__", watched)
    plain = train("trainer.epochs=2")
    augmented = train("trainer.epochs=2", "augment=[flip,crop]", "model.hidden_dropout=0.5", name="augmented")
    assert len(seen) == 16
    assert seen[:8] == seen[8:]
    assert timeless(plain)[0]["train_loss"] != timeless(augmented)[0]["train_loss"]
