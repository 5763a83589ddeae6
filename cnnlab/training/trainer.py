"""The training loop. Read this first: everything else in `training/` is called from here."""

import math
import time
from typing import Any

from cnnlab.data.batches import epoch_order
from cnnlab.errors import DivergedError, InterruptedRunError, PrunedError
from cnnlab.tracking.recorder import Recorder
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.checkpoint import Progress, State, save_checkpoint
from cnnlab.training.interrupt import Hopeless, StopRequest
from cnnlab.training.session import Session

LOOK_EVERY_S = 0.5  # how often, at most, the loop waits for the device within an epoch


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
    batch_size, per_epoch = cfg.trainer.batch_size, session.steps_per_epoch
    saved_at = time.monotonic()
    while progress.step < session.total_steps and not out_of_patience(session, progress):
        epoch = progress.step // per_epoch
        first, end = epoch * per_epoch, min((epoch + 1) * per_epoch, session.total_steps)
        order = epoch_order(cfg.seed, epoch, len(session.parts["train"]), session.runtime.device)
        session.model.train()
        recorder.begin_epoch(epoch, progress.step - first, end - first)
        earlier_s, started, looked = progress.train_s, time.perf_counter(), time.perf_counter()
        while progress.step < end:
            start = (progress.step - first) * batch_size
            step(order[start : start + batch_size], progress.step, session.lr_factor(progress.step))
            progress.step += 1
            if progress.step % cfg.trainer.log_every == 0 or progress.step == end:
                step.snapshot(progress.step)
            now = time.perf_counter()
            if progress.step < end and (stop.signal_number is not None or now - looked >= LOOK_EVERY_S):
                require_finite(session, progress)  # waits for the device
                progress.train_s = earlier_s + time.perf_counter() - started
                recorder.progress(progress.step - first, progress.train_s)
                if stop.signal_number is not None or time.monotonic() - saved_at >= cfg.checkpoint.every_s:
                    save_last(run, state, recorder)
                    saved_at = time.monotonic()
                    leave_if_asked(stop, run)
                earlier_s, started, looked = progress.train_s, time.perf_counter(), time.perf_counter()
        require_finite(session, progress)
        session.runtime.synchronize()
        progress.train_s = earlier_s + time.perf_counter() - started

        line = epoch_line(session, progress, epoch, progress.step - first)
        improved = "validation_loss" in line and judge(session, progress, line[f"validation_{session.task.metric}"])
        if improved:
            save_checkpoint(run.best, state)
        recorder.epoch(line, improved)
        if progress.step == (epoch + 1) * per_epoch:  # else the run ends within an epoch, and may be lengthened
            step.sums.zero_()
            progress.train_s = 0.0
        finished = progress.step == session.total_steps or out_of_patience(session, progress)
        reason = hopeless() if hopeless is not None and not finished else None
        asked = reason is not None or stop.signal_number is not None
        if finished or asked or time.monotonic() - saved_at >= cfg.checkpoint.every_s:
            save_last(run, state, recorder)
            saved_at = time.monotonic()
        if reason is not None:
            raise PrunedError(reason, {name: line[f"validation_{name}"] for name in ("loss", session.task.metric)})
        if not finished:
            leave_if_asked(stop, run)


def epoch_line(session: Session, progress: Progress, epoch: int, steps: int) -> dict[str, Any]:
    """The line of metrics.jsonl for the epoch that `progress.step` ends, `steps` steps long."""
    metric, cfg = session.task.metric, session.cfg
    images = min(steps * cfg.trainer.batch_size, len(session.parts["train"]))
    loss, score = (total / images for total in session.step.sums.tolist())
    line: dict[str, Any] = {"epoch": epoch + 1, "step": progress.step, "lr": session.lr}
    line |= {"train_loss": loss, f"train_{metric}": score}
    for part in ("validation", "test"):
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


def save_last(run: RunDirectory, state: State, recorder: Recorder) -> None:
    """Hand the points of the loss curve on, then save: what lies after a checkpoint is written again on resume."""
    recorder.curve()
    save_checkpoint(run.last, state)


def leave_if_asked(stop: StopRequest, run: RunDirectory) -> None:
    """Raise InterruptedRunError if a signal came."""
    if stop.signal_number is not None:
        raise InterruptedRunError(
            f"interrupted, and saved; continue with: python -m cnnlab.train resume={run.quoted}", stop.signal_number
        )
