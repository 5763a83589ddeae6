"""The training loop. Read this first: everything else in `training/` is called from here."""

import math
import time
from typing import Any

from cnnlab import config, trust
from cnnlab.data.batches import epoch_order
from cnnlab.errors import DivergedError, InterruptedRunError, PrunedError
from cnnlab.tracking.recorder import Recorder
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.checkpoint import Progress, State, save_checkpoint
from cnnlab.training.groups import train_mode
from cnnlab.training.interrupt import Hopeless, StopRequest
from cnnlab.training.session import Session

LOOK_EVERY_S = 0.5  # how often, at most, the loop waits for the device within an epoch


class Stopwatch:
    """seconds: since it was last started."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


def fit(
    session: Session, state: State, run: RunDirectory, recorder: Recorder, stop: StopRequest, hopeless: Hopeless | None = None
) -> None:
    """Train from `state.progress.step` to the end of the run, in place.

    At each epoch's end: a line for the metrics, then the best checkpoint if it is the best. `last` is saved every
    `checkpoint.every_s` seconds at most, on a signal and at the end.

    Raises:
        DivergedError: a loss or gradient norm that is not finite. InterruptedRunError: a signal; the run can be resumed.
        PrunedError: `hopeless` gave a reason; the run can be resumed.
    """
    cfg, step, progress = session.cfg, session.step, state.progress
    if out_of_patience(session, progress):
        return
    order, saved, trained = None, Stopwatch(), Stopwatch()
    for number in range(progress.step, session.total_steps):
        epoch, first, end = session.epoch_of(number)
        if order is None or number == first:
            order = epoch_order(cfg.seed, epoch, len(session.parts["train"]), session.runtime.device)
            train_mode(session.model)
            recorder.begin_epoch(epoch, number - first, end - first)
            trained.restart()
        start = (number - first) * cfg.trainer.batch_size
        step(order[start : start + cfg.trainer.batch_size], number, session.lr_factor(number))
        progress.step, ends = number + 1, number + 1 == end
        if ends or progress.step % cfg.trainer.log_every == 0:
            step.snapshot(progress.step)
        if not ends and stop.signal_number is None and trained.seconds < LOOK_EVERY_S:
            continue

        require_finite(session, progress)  # waits for the device
        progress.train_s += trained.seconds
        reason, ended = None, progress.step == session.total_steps
        if ends:
            line = end_epoch(session, state, run, recorder)
            ended = ended or out_of_patience(session, progress)
            scored = "validation_loss" in line
            reason = hopeless() if hopeless is not None and scored and not ended else None
        else:
            recorder.progress(progress.step - first, progress.train_s)
        asked = stop.signal_number
        if ended or reason is not None or asked is not None or saved.seconds >= cfg.checkpoint.every_s:
            recorder.curve()  # what lies after a checkpoint is written again on resume
            save_checkpoint(run.last, state)
            saved.restart()
        if ended:
            return
        if reason is not None:
            raise PrunedError(reason, {name: line[f"validation_{name}"] for name in ("loss", session.task.metric)})
        if asked is not None:
            command = f"python -m cnnlab.train resume={run.quoted}{trust.argument(config.flat(cfg))}"
            raise InterruptedRunError(f"interrupted, and saved; continue with: {command}", asked)
        trained.restart()


def end_epoch(session: Session, state: State, run: RunDirectory, recorder: Recorder) -> dict[str, Any]:
    """Score the epoch that `state.progress.step` ends, save the best weights, tell; its line of metrics."""
    progress = state.progress
    epoch, first, end = session.epoch_of(progress.step - 1)
    line = epoch_line(session, progress, epoch, end - first)
    improved = "validation_loss" in line and judge(session, progress, line[f"validation_{session.task.metric}"])
    if improved:
        save_checkpoint(run.best, state)
    recorder.epoch(line, improved)
    if end - first == session.steps_per_epoch:  # else the run ends within an epoch, and may be lengthened
        session.step.sums.zero_()
        progress.train_s = 0.0
    return line


def epoch_line(session: Session, progress: Progress, epoch: int, steps: int) -> dict[str, Any]:
    """The line of metrics.jsonl for the epoch that `progress.step` ends, `steps` steps long."""
    metric, cfg = session.task.metric, session.cfg
    images = min(steps * cfg.trainer.batch_size, len(session.parts["train"]))
    loss, score = (total / images for total in session.step.sums.tolist())
    line: dict[str, Any] = {"epoch": epoch + 1, "step": progress.step, "lr": session.lr(progress.step - 1)}
    line |= {"train_loss": loss, f"train_{metric}": score}
    due = (epoch + 1) % cfg.evaluation.every == 0 or progress.step == session.total_steps
    for part in ("validation", "test") if due else ():
        if part in session.parts and (part == "validation" or cfg.evaluation.split == "test"):
            scored = session.score(part)
            line |= {f"{part}_loss": scored.loss, f"{part}_{metric}": scored.metric}
    train_s = progress.train_s
    return line | {"train_s": round(train_s, 4), "images_per_s": round(images / train_s, 1)}


def judge(session: Session, progress: Progress, score: float) -> bool:
    """Note a validation score; whether it is the best so far (the first of equals is, and nan never)."""
    better = progress.best is None or (score > progress.best if session.task.higher_is_better else score < progress.best)
    if better and math.isfinite(score):
        progress.best, progress.best_step, progress.bad_epochs = score, progress.step, 0
        return True
    progress.bad_epochs += 1
    return False


def out_of_patience(session: Session, progress: Progress) -> bool:
    """Whether early stopping ends the run here."""
    patience = session.cfg.trainer.patience
    return patience is not None and progress.bad_epochs >= patience


def require_finite(session: Session, progress: Progress) -> None:
    """Raise DivergedError, with the step counted from 1, if the device has seen a number that is not finite.

    An update can also overflow a weight itself, which the next step's loss would tell too late for a checkpoint.
    """
    bad = int(session.step.first_bad)
    if bad < 0 and not session.step.weights_are_finite():
        bad = progress.step - 1
    if bad >= 0:
        raise DivergedError(
            f"the loss, the gradient or a weight became infinite or nan at step {bad + 1}; the last good checkpoint is kept. "
            "Try a smaller optimizer.lr, or trainer.clip_norm=1"
        )
