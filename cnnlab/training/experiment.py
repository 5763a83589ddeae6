"""Running one experiment, new or continued, from its configuration to its result."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from cnnlab.config.schema import Config
from cnnlab.errors import CheckpointError, ConfigError, RunTakenError, as_known, is_utf8
from cnnlab.status import Status, Stop, StoppedError
from cnnlab.tracking import files
from cnnlab.tracking.recorder import Recorder
from cnnlab.tracking.records import Result, Score
from cnnlab.tracking.run import RunDirectory
from cnnlab.training import mistakes
from cnnlab.training.checkpoint import State, load_checkpoint, load_weights, read_step
from cnnlab.training.interrupt import PruneReason, StopRequest
from cnnlab.training.reporting import run_info, test_predictions
from cnnlab.training.runtime import describe
from cnnlab.training.scoring import score
from cnnlab.training.session import Session, build_session
from cnnlab.training.trainer import fit


def run_new(
    cfg: Config,
    directory: Path,
    choices: dict[str, str],
    prune_reason: PruneReason | None = None,
    varied: Sequence[str] = (),
) -> Result:
    """Train a new run in `directory`, which the caller has locked.

    choices: the choice made in each config group, by name. prune_reason: called after each scoring (see `trainer.fit`).
    varied: the keys in which the jobs of its sweep differ. Returns the result, even if the run was pruned.

    Raises:
        CnnlabError: the run failed: before its first step it leaves no directory, later it has the cause in result.json.
        StoppedError: it diverged, or a signal interrupted it.
    """
    run = RunDirectory(directory)
    if run.config.exists():
        raise RunTakenError(f"{run.name}: already holds a run; continue it: python -m cnnlab.train resume={run.quoted}")
    try:
        session = build_session(cfg)
        cfg.trainer.device, cfg.trainer.threads = str(session.runtime.device), session.runtime.threads
        cfg.data.root = str(Path(cfg.data.root).expanduser().resolve())
        if not is_utf8(cfg.data.root):
            raise ConfigError(f"data.root={cfg.data.root}: the name is not UTF-8, so config.yaml cannot hold it; rename it")
        record = {"choices": choices, **describe(session.runtime.device), "data": _data_record(session)}
        run.begin(cfg, record | ({"varied": list(varied)} if varied else {}))
    except BaseException:
        run.discard()
        raise
    return _train(session, run, prune_reason)


def run_resumed(cfg: Config, run: RunDirectory, prune_reason: PruneReason | None = None) -> Result:
    """Continue `run`, which the caller has locked, with the configuration `cfg`, from its checkpoint or else from step 0.

    Raises:
        CheckpointError: the data is not the data that the run began with, or the checkpoint cannot be read.
    """
    session = build_session(cfg, run.last if run.last.exists() else None)
    recorded, now = run.recorded("data"), _data_record(session)
    if any(recorded.get(name, now[name]) != now[name] for name in ("train_digest", "test_digest")):
        raise CheckpointError(
            f"{run.name}: the images under {cfg.data.root} are not those that the run began with; "
            "restore them, or start a new run"
        )
    return _train(session, run, prune_reason)


def _train(session: Session, run: RunDirectory, prune_reason: PruneReason | None) -> Result:
    state = State(session.step, session.description)
    if run.last.exists():
        step = read_step(run.last)
        if step > session.total_steps:
            raise CheckpointError(f"{run.last}: at step {step:,} of {session.total_steps:,}, so it belongs to another run")
        session.enter_phase(max(step - 1, 0))  # of the last update, whose optimizer was saved
        load_checkpoint(run.last, state)
    run.keep_metrics(state.progress.step, session.steps_per_epoch, session.total_steps)  # fails before anything is removed
    run.reopen(session.cfg)
    recorder = Recorder(run_info(session, state.progress.step), run)
    try:
        with StopRequest() as request:
            if state.progress.step == 0:
                recorder.warn(mistakes.at_start(session))
            stop = fit(session, state, run, recorder, request, prune_reason)
            result = _result(session, state, stop)  # now, so that its seconds are those of training
            scores = _final_scores(session, run, recorder) if stop.status.is_scored else _last_scores(run, stop)
            result = replace(result, scores=scores)
            if stop.status.is_scored:
                recorder.result(result)  # before result.json, so that a run killed in between is finished on resume
            run.write_result(result)
    except Exception as error:
        stop = Stop(Status.FAILED, str(as_known(error) or error))
        with suppress(OSError):  # the disk may be what failed
            run.write_result(_result(session, state, stop))
        with suppress(OSError):
            recorder.close(failed=True)
        raise
    if stop.status.is_scored:
        recorder.finish(result)
    else:
        recorder.close(failed=stop.status is Status.DIVERGED)
    if not stop.status.is_final:
        raise StoppedError(stop)
    return result


def _result(session: Session, state: State, stop: Stop) -> Result:
    """The result of the run, without its scores."""
    return Result(
        stop.status,
        stop.cause,
        -(-state.progress.step // session.steps_per_epoch),
        state.progress.step,
        session.num_parameters,
        round(state.elapsed_s(), 3),
        session.task.metric,
        session.task.higher_is_better,
        session.cfg.evaluation.weights,
    )


def _final_scores(session: Session, run: RunDirectory, recorder: Recorder) -> dict[str, Score]:
    """Score the weights that `evaluation.weights` names, and write the prediction and the label of each test image."""
    task = session.task
    if session.cfg.evaluation.weights == "best":
        load_weights(run.best, session.model)
    outputs = {split: session.outputs(split) for split in ("validation", "test") if split in session.splits}
    value, probability = task.predict(outputs["test"])
    tensors = {"prediction": value} if probability is None else {"class": value, "probability": probability}
    tensors["label"] = session.data.test.labels
    files.write_atomic(run.predictions, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
    test = test_predictions(session, value.cpu(), None if probability is None else probability.cpu())
    recorder.pictures(test)
    if session.cfg.trainer.log_images:
        from cnnlab.training.inside import log_embedding

        log_embedding(session, run, test)
    return {split: score(task, given, session.targets[split]) for split, given in outputs.items()}


def _last_scores(run: RunDirectory, stop: Stop) -> dict[str, Score]:
    """The last validation score if the run was pruned; otherwise nothing."""
    if stop.status is not Status.PRUNED:
        return {}
    return {"validation": run.read_epochs()[-1].scores["validation"]}


def _data_record(session: Session) -> dict[str, Any]:
    data = session.data
    counts = {name: len(split) for name, split in data.splits().items()}
    scale = {"mean": data.mean.tolist(), "std": data.std.tolist()}
    digests = {"train_digest": data.train_digest, "test_digest": data.test_digest}
    return {"name": data.name, "classes": list(data.classes), **counts, **scale, **digests}
