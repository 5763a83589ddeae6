"""Whole runs on a hundred images: what they write, when they stop, and what they leave when they cannot go on."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import metrics
from safetensors.torch import load_file
from small_runs import SMALL, checkpoint_meta, epoch_lines, result, train
from torch import nn

from cnnlab import composing, config
from cnnlab.data import all_images, load_data
from cnnlab.data.batches import epoch_order
from cnnlab.data.sampling import held_out_count, stratified
from cnnlab.tracking.recorder import Recorder
from cnnlab.tracking.records import Score
from cnnlab.training import trainer
from cnnlab.training.session import Session, build_session

Call = Callable[..., tuple[int, str, str]]
NAN = float("nan")
HALVING = ("optimizer=sgd", "optimizer.lr=0.25", "schedule=step", "schedule.every_epochs=1", "schedule.gamma=0.5")


def session(*overrides: str) -> Session:
    return build_session(composing.typed(composing.compose([*SMALL, *overrides])))


def best_step(run: Path) -> int:
    step: int = checkpoint_meta(run / "best.safetensors")["progress"]["step"]
    return step


def float64_lines(steps: int) -> Iterator[dict[str, float]]:
    """The metrics of HALVING on the small run, by a plain loop in float64 over the same images, order and initial weights."""
    built = session(*HALVING)
    train, held_out = built.data.train, built.data.validation
    assert held_out is not None
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10)).double()
    net.load_state_dict(dict(zip(net.state_dict(), built.model.state_dict().values(), strict=True)))
    for epoch in range(-(-steps // 4)):
        lr, order, losses, hits, seen = 0.25 / 2**epoch, epoch_order(0, epoch, 100, torch.device("cpu")), 0.0, 0, 0
        optimizer = torch.optim.SGD(net.parameters(), lr)
        for start in (0, 32, 64, 96)[: steps - 4 * epoch]:
            chosen = order[start : start + 32]
            images, labels = train.gather(chosen).double() / 255, train.labels[chosen]
            outputs = net(images)
            loss = F.cross_entropy(outputs, labels)
            losses, hits = losses + loss.item() * len(labels), hits + int((outputs.argmax(1) == labels).sum())
            seen += len(labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            outputs = net(all_images(held_out).double() / 255)
        yield {
            "epoch": epoch + 1,
            "step": min(4 * epoch + 4, steps),
            "lr": lr,
            "train_loss": losses / seen,
            "train_accuracy": hits / seen,
            "validation_loss": F.cross_entropy(outputs, held_out.labels).item(),
            "validation_accuracy": int((outputs.argmax(1) == held_out.labels).sum()) / 50,
        }


@pytest.mark.parametrize(("end", "steps"), [("trainer.epochs=3", 12), ("trainer.steps=6", 6)])
def test_epochs_means_equal_a_plain_loop_in_float64(end: str, steps: int, tmp_path: Path) -> None:
    run = train(tmp_path / "run", *HALVING, end)
    lines, expected = epoch_lines(run), list(float64_lines(steps))
    assert (result(run)["steps"], result(run)["epochs"]) == (steps, len(expected))
    for line, numbers in zip(lines, expected, strict=True):
        assert line.keys() == numbers.keys() | {"metric", "train_s", "images_per_s"}
        # float32 against float64 over 12 steps; one image more or less would show as 0.01 or 0.02.
        assert {key: line[key] for key in numbers} == pytest.approx(numbers, rel=1e-5)
        images = 100 if line["step"] % 4 == 0 else 64
        assert line["images_per_s"] == pytest.approx(images / line["train_s"], rel=0.05)


def test_scoring_every_second_epoch_and_the_last(tmp_path: Path) -> None:
    every = ("trainer.epochs=5", "evaluation.split=test")
    sparse, dense = train(tmp_path / "sparse", *every, "evaluation.every=2"), train(tmp_path / "dense", *every)
    for split in ("validation", "test"):
        assert [line["epoch"] for line in metrics(sparse) if f"{split}_loss" in line] == [2, 4, 5]
        assert result(sparse)[split] == {key: metrics(dense)[-1][f"{split}_{key}"] for key in ("loss", "accuracy")}
    for line, full in zip(metrics(sparse), metrics(dense), strict=True):
        assert line == {key: full[key] for key in line}
        assert line.keys() >= {"epoch", "step", "lr", "metric", "train_loss", "train_accuracy"}


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_predictions_are_those_of_the_score(task: str, tmp_path: Path) -> None:
    choice = (f"task={task}", "data.classes=[2,7]")
    run = train(tmp_path / "run", *choice, "trainer.epochs=2", "evaluation.weights=best")
    predictions, labels, scores = load_file(run / "predictions.safetensors"), session(*choice).data.test.labels, result(run)
    assert torch.equal(predictions["label"], labels)
    if task == "multiclass":
        assert scores["test"]["accuracy"] == (predictions["class"] == labels).double().mean().item()
        assert ((predictions["probability"] > 0.5 - 1e-6) & (predictions["probability"] <= 1)).all()  # the larger of two
        return
    error = predictions["prediction"].double() - torch.tensor([2.0, 7.0], dtype=torch.float64)[labels]
    # The metric is summed in float32 over some 400 errors of up to 7.
    assert scores["test"]["mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert scores["test"]["loss"] == pytest.approx(error.square().mean().item(), rel=1e-6)
    assert scores["validation"]["mae"] == min(line["validation_mae"] for line in metrics(run))


@pytest.mark.parametrize(
    ("scores", "overrides", "epochs", "status", "best"),
    [
        ([0.3, 0.5, 0.4, 0.5, 0.9], ("trainer.patience=2",), 4, "stopped early", 8),  # an equal score is not a better one
        ([0.3, 0.5, 0.4, 0.6, 0.5, 0.5, 0.9], ("trainer.patience=2",), 6, "stopped early", 16),  # it begins anew at 0.6
        ([0.5, 0.4, 0.3, 0.9], ("trainer.patience=2", "evaluation.every=3"), 9, "stopped early", 12),  # it counts scorings
        ([0.5, 0.4], ("trainer.patience=2", "trainer.epochs=2"), 2, "finished", 4),  # it is not used up
        ([NAN, 0.3, 0.5, NAN, 0.4], ("trainer.patience=2",), 5, "stopped early", 12),  # nan is never the best
        ([9.0, 9.5, 8.0, NAN, 8.0], ("task=regression", "trainer.patience=2"), 5, "stopped early", 12),  # less is better
    ],
)
def test_patience_and_the_best_weights(
    scores: list[float],
    overrides: tuple[str, ...],
    epochs: int,
    status: str,
    best: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        validation = iter(scores)
        patch.setattr(Session, "score", lambda self, split: Score(1.0, next(validation)))
        run = train(tmp_path / "run", "trainer.epochs=20", "evaluation.weights=best", *overrides)
    assert (result(run)["status"], result(run)["epochs"], best_step(run)) == (status, epochs, best)
    task = [override for override in overrides if override.startswith("task")]
    short = train(tmp_path / "short", *task, f"trainer.steps={best}")  # ends where the best epoch did
    assert result(run)["test"] == result(short)["test"]
    assert (run / "predictions.safetensors").read_bytes() == (short / "predictions.safetensors").read_bytes()


@pytest.mark.parametrize("lr", ["1e30", "1e39"])  # the second makes the weights themselves infinite in step 1
@pytest.mark.parametrize("batch_size", [32, 100])
def test_a_run_that_diverges_says_where_and_leaves_finite_checkpoints(
    call: Call, tmp_path: Path, lr: str, batch_size: int
) -> None:
    run = tmp_path / "run"
    overrides = ("optimizer=sgd", f"optimizer.lr={lr}", f"trainer.batch_size={batch_size}", "checkpoint.every_s=0")
    code, out, err = call("train", *SMALL, *overrides, f"hydra.run.dir={run}")
    assert (code, out, err.count("\n")) == (3, "", 1)
    # The first loss is finite, and so is its gradient; weights are looked at before a checkpoint, so perhaps at step 1.
    assert "at step 2;" in err or (lr == "1e39" and "at step 1;" in err)
    assert (result(run)["status"], result(run)["cause"] in err, "test" in result(run)) == ("diverged", True, False)
    for path in run.glob("*.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values()), path.name


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")], ids=["memory", "disk"])
def test_what_the_machine_lacks_is_recorded(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", fail)
        run = train(tmp_path / "run", "trainer.epochs=1", code=4)
    assert result(run)["status"] == "failed"


def test_augmentation_and_dropout_shift_neither_weights_nor_images() -> None:
    plain, augmented = session(), session("augment=[flip,crop]", "model.hidden_dropout=0.5")
    assert all(map(torch.equal, plain.model.state_dict().values(), augmented.model.state_dict().values()))
    for name, split in plain.data.splits().items():
        assert torch.equal(all_images(split), all_images(augmented.data.splits()[name]))


def test_looking_and_saving_within_an_epoch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(tmp_path / "run", "trainer.epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "LOOK_EVERY_S", 0.0)
        watched = train(tmp_path / "watched", "trainer.epochs=2", "checkpoint.every_s=0", "trainer.log_every=1")
    assert metrics(watched) == metrics(run)
    one, other = (load_file(each / "last.safetensors") for each in (run, watched))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_validation_images_follow_from_the_record(tmp_path: Path) -> None:
    """The recorded configuration names them: on just these images the recorded weights have the recorded loss."""
    run = train(tmp_path / "run", "trainer.epochs=1", "seed=3")
    cfg = config.read(run / "config.yaml")
    source = load_data(replace(cfg.data, validation=0, limit=None), cfg.seed).train
    _, indices = stratified(source.labels, held_out_count(cfg.data.validation, len(source)), cfg.seed)
    weights = {name: tensor.double() for name, tensor in load_file(run / "last.safetensors").items()}
    pixels = source.gather(indices).double().flatten(1) / 255
    hidden = F.relu(F.linear(pixels, weights["model.dense.dense0.weight"], weights["model.dense.dense0.bias"]))
    logits = F.linear(hidden, weights["model.dense.output.weight"], weights["model.dense.output.bias"])
    loss = F.cross_entropy(logits, source.labels[indices]).item()
    assert loss == pytest.approx(metrics(run)[0]["validation_loss"], rel=1e-5)  # float32 against float64


def test_the_seconds_of_a_run_are_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "pictures", lambda self, test: time.sleep(1.5))
        run = train(tmp_path / "run", "trainer.epochs=1")
    assert 0 < result(run)["seconds"] < 1.5
