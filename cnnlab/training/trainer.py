"""The training loop. Read this first: everything else in `training/` is called from here."""

import math
import time

from cnnlab.config import trust
from cnnlab.data.batches import epoch_order
from cnnlab.status import Status, Stop
from cnnlab.tracking.recorder import Recorder
from cnnlab.tracking.run import RunDirectory
from cnnlab.training import mistakes
from cnnlab.training.checkpoint import Progress, State, save_checkpoint
from cnnlab.training.groups import train_mode
from cnnlab.training.interrupt import PruneReason, StopRequest
from cnnlab.training.reporting import epoch_progress, epoch_record, loss_points
from cnnlab.training.session import Session

LOOK_EVERY_S = 0.5  # how often, at most, the loop waits for the device within an epoch


class Stopwatch:
    """Measures the `seconds` since it was last started."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


def fit(
    session: Session,
    state: State,
    run: RunDirectory,
    recorder: Recorder,
    request: StopRequest,
    prune_reason: PruneReason | None = None,
) -> Stop:
    """Train in place from `state.progress.step` to the end of the run, and return why it stops.

    The end of an epoch saves the best checkpoint, if its score is the best so far, then records the metrics. `last` is saved at
    most every `checkpoint.every_s` seconds, and where the run stops, unless it diverged.

    Args:
        request: set by a signal that asks the run to stop where it can be resumed.
        prune_reason: called after each scoring; returns why the run is to be pruned, or None.
    """
    cfg, step, progress = session.cfg, session.step, state.progress
    stop, order, saved, trained = end_of_run(session, progress), None, Stopwatch(), Stopwatch()
    while stop is None:
        epoch, first, end = session.epoch_of(progress.step)
        if session.enter_phase(progress.step) or order is None:
            step.snapshot(progress.step)  # where the loss curve begins or continues
        if order is None or progress.step == first:
            order = epoch_order(cfg.seed, epoch, len(session.splits["train"]), session.runtime.device)
            train_mode(session.model)
            recorder.begin_epoch(epoch + 1, progress.step - first, end - first)
            trained.restart()
        start = (progress.step - first) * cfg.trainer.batch_size
        step(order[start : start + cfg.trainer.batch_size], progress.step, session.phase.lr_factor(progress.step))
        progress.step += 1
        ends = progress.step == end
        if ends or progress.step % cfg.trainer.log_every == 0:
            step.snapshot(progress.step)
        if not ends and request.signal_number is None and trained.seconds < LOOK_EVERY_S:
            continue

        if (stop := divergence(session, progress)) is not None:  # waits for the device
            return stop
        progress.train_s += trained.seconds
        is_scored = ends and end_epoch(session, state, run, recorder)
        if not ends:
            recorder.progress(epoch_progress(session, progress))
        stop = reason_to_stop(session, progress, run, request, prune_reason if is_scored else None)
        if stop is not None or saved.seconds >= cfg.checkpoint.every_s:
            recorder.curve(loss_points(session))  # points after a checkpoint are written again on resume
            save_checkpoint(run.last, state)
            saved.restart()
        trained.restart()
    return stop


def end_epoch(session: Session, state: State, run: RunDirectory, recorder: Recorder) -> bool:
    """Score the epoch that just ended if that is due, save the best weights and report; return whether it was scored."""
    progress = state.progress
    epoch = epoch_record(session, progress)
    is_scored = "validation" in epoch.scores
    improved = is_scored and judge(session, progress, epoch.scores["validation"].value)
    if improved:
        save_checkpoint(run.best, state)
    recorder.epoch(epoch, loss_points(session), improved)
    if session.cfg.trainer.log_images:
        from cnnlab.training.inside import log_inside  # here, since it loads matplotlib

        log_inside(session, recorder.events, run.name, progress.step)
    recorder.warn(mistakes.at_epoch_end(session, epoch))
    if progress.step % session.steps_per_epoch == 0:  # else the run ends within an epoch and may be lengthened
        session.step.sums.zero_()
        progress.train_s = 0.0
    return is_scored


def judge(session: Session, progress: Progress, score: float) -> bool:
    """Update `progress` with a validation score; return whether it is the best so far (a tie or nan is not)."""
    better = progress.best is None or (score > progress.best if session.task.higher_is_better else score < progress.best)
    if better and math.isfinite(score):
        progress.best, progress.best_step, progress.bad_epochs = score, progress.step, 0
        return True
    progress.bad_epochs += 1
    return False


def reason_to_stop(
    session: Session, progress: Progress, run: RunDirectory, request: StopRequest, prune_reason: PruneReason | None
) -> Stop | None:
    """The first that applies of the end of the run, pruning and a signal; None to continue."""
    if (end := end_of_run(session, progress)) is not None:
        return end
    if prune_reason is not None and (cause := prune_reason()) is not None:
        return Stop(Status.PRUNED, cause)
    if request.signal_number is not None:
        command = f"python -m cnnlab.train resume={run.quoted}{trust.argument(session.cfg)}"
        return Stop(Status.INTERRUPTED, f"interrupted, and saved; continue with: {command}", request.signal_number)
    return None


def end_of_run(session: Session, progress: Progress) -> Stop | None:
    """Early stopping or the last step, if reached; else None."""
    patience = session.cfg.trainer.patience
    if patience is not None and progress.bad_epochs >= patience:
        return Stop(Status.EARLY_STOPPED)
    return Stop(Status.FINISHED) if progress.step == session.total_steps else None


def divergence(session: Session, progress: Progress) -> Stop | None:
    """Why to stop if a number on the device became infinite or nan, with the step, counted from 1; else None.

    The weights are checked, too: an update can overflow one, and the next step's loss would show that only after a checkpoint.
    """
    bad = int(session.step.first_bad)
    if bad < 0 and not session.step.is_finite():
        bad = progress.step - 1
    if bad < 0:
        return None
    return Stop(
        Status.DIVERGED,
        f"the loss, a gradient, a weight or the optimizer's state became infinite or nan at step {bad + 1}; "
        "try a smaller optimizer.lr or trainer.clip_norm=1, or look for such numbers in the images",
    )
