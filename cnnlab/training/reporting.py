"""Records of a run in training for its views; this is where values are read from the device, once per record."""

import torch
from torch import Tensor

from cnnlab.tracking.records import Epoch, EpochProgress, LossPoint, RunInfo, Score, TestPredictions
from cnnlab.training.checkpoint import Progress
from cnnlab.training.session import Session


def run_info(session: Session, first_step: int) -> RunInfo:
    """Facts about the run, which continues after `first_step` updates."""
    return RunInfo(
        session.cfg,
        session.task.metric,
        session.data.name,
        session.data.shape,
        {name: len(split) for name, split in session.data.splits().items()},
        len(session.data.classes),
        session.num_parameters,
        session.total_steps,
        session.steps_per_epoch,
        first_step,
        session.can_be_lengthened,
    )


def epoch_progress(session: Session, progress: Progress) -> EpochProgress:
    """The progress of the epoch that contains `progress.step`."""
    done = progress.step - session.epoch_of(progress.step)[1]
    images = session.images(done)
    return EpochProgress(done, progress.train_s, images / progress.train_s, _training_score(session, images))


def epoch_record(session: Session, progress: Progress) -> Epoch:
    """The record of the epoch that `progress.step` ends, with validation and test scores when they are due."""
    cfg, (epoch, first, end) = session.cfg, session.epoch_of(progress.step - 1)
    images = session.images(end - first)
    scores = {"train": _training_score(session, images)}
    due = (epoch + 1) % cfg.evaluation.every == 0 or progress.step == session.total_steps
    for split in ("validation", "test") if due else ():
        if split in session.splits and (split == "validation" or cfg.evaluation.split == "test"):
            scores[split] = session.score(split)
    lr, speed = session.lr(progress.step - 1), round(images / progress.train_s, 1)
    return Epoch(epoch + 1, progress.step, lr, session.task.metric, scores, round(progress.train_s, 4), speed)


def loss_points(session: Session) -> list[LossPoint]:
    """The points of the loss curve since the last call; each is the mean loss since the previous point in its epoch."""
    snapshots, points = session.step.snapshots, []
    totals = torch.stack([sums[0] for _, sums, _ in snapshots]).tolist()
    for index, (at, _, norms) in enumerate(snapshots[1:], 1):
        first = (at - 1) // session.steps_per_epoch * session.steps_per_epoch
        before, earlier = snapshots[index - 1][0], totals[index - 1]
        if before <= first:
            before, earlier = first, 0.0
        images = session.images(at - first) - session.images(before - first)
        norms_by_layer = _by_layer(session.step.gradient_names(), norms) if session.cfg.trainer.log_gradients else {}
        points.append(LossPoint(at, (totals[index] - earlier) / images, norms_by_layer))
    del snapshots[:-1]  # the curve continues from the last one
    return points


def test_predictions(session: Session, predicted: Tensor, probability: Tensor | None) -> TestPredictions:
    """The network's predictions for the test images, with the first batch for the pictures."""
    data = session.data
    return TestPredictions(
        data.test.labels,
        predicted,
        probability,
        lambda indices: data.test.gather(indices.to(data.test.device)),
        session.first_batch(),
        data.classes,
        data.numbers,
    )


def _training_score(session: Session, images: int) -> Score:
    loss, metric = (session.step.sums / images).tolist()
    return Score(loss, metric)


def _by_layer(names: list[str], norms: Tensor) -> dict[str, float]:
    """The gradient norm of each layer, from the norms of its parameters."""
    squares: dict[str, float] = {}
    for name, norm in zip(names, norms.tolist(), strict=False):  # zeros at the end: no gradient
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, 0.0) + norm**2
    return {layer: square**0.5 for layer, square in squares.items()}
