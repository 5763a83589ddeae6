"""One run from its configuration to its result, new or continued."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save

from cnnlab.errors import CheckpointError, DivergedError, InterruptedRunError, PrunedError, RunTakenError, as_known
from cnnlab.schema import Config
from cnnlab.tracking import files
from cnnlab.tracking.recorder import Recorder
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.checkpoint import State, load_checkpoint, load_weights
from cnnlab.training.interrupt import Hopeless, StopRequest
from cnnlab.training.runtime import describe
from cnnlab.training.scoring import score
from cnnlab.training.session import Session, build_session
from cnnlab.training.trainer import fit, out_of_patience

STATUS: dict[type | None, str] = {DivergedError: "diverged", InterruptedRunError: "interrupted", PrunedError: "pruned"}


def run_new(cfg: Config, directory: Path, choices: dict[str, str], hopeless: Hopeless | None = None) -> dict[str, Any]:
    """Train a new run in `directory`, which the caller has locked; `choices` are the names that the config groups were
    chosen by; `hopeless` is asked after each epoch (see `trainer.fit`).

    Returns:
        The content of result.json.

    Raises:
        CnnlabError: a run that fails before its first step leaves no directory; a later failure is in its result.json.
    """
    run = RunDirectory(directory)
    if run.config.exists():
        raise RunTakenError(f"{run.name}: holds a run already; continue it: python -m cnnlab.train resume={run.quoted}")
    try:
        session = build_session(cfg)
        cfg.trainer.device, cfg.trainer.threads = str(session.runtime.device), session.runtime.threads
        cfg.data.root = str(Path(cfg.data.root).resolve())
        run.begin(cfg, {"choices": choices, **describe(session.runtime.device), "data": _data_record(session)})
    except BaseException:
        run.discard()
        raise
    return _train(session, run, hopeless)


def run_resumed(cfg: Config, run: RunDirectory, hopeless: Hopeless | None = None) -> dict[str, Any]:
    """Continue `run`, which the caller has locked, with `cfg` as its configuration, from its checkpoint or from step 0.

    Raises:
        CheckpointError: the data is not what the run began with, or the checkpoint cannot be read.
    """
    session = build_session(cfg)
    recorded, now = run.recorded("data"), _data_record(session)
    if any(recorded.get(name, now[name]) != now[name] for name in ("train_digest", "test_digest")):
        raise CheckpointError(
            f"{run.name}: the images under {cfg.data.root} are not those that the run began with; "
            "restore them, or start a new run"
        )
    return _train(session, run, hopeless)


def _train(session: Session, run: RunDirectory, hopeless: Hopeless | None) -> dict[str, Any]:
    state = State(session.model, session.optimizer, session.step.sums, session.description)
    if run.last.exists():
        load_checkpoint(run.last, state)
    run.goes_on(session.cfg)
    progress = state.progress
    run.keep_metrics(progress.step, session.steps_per_epoch, session.total_steps)
    recorder = Recorder(session, run, progress.step)

    def outcome(status: str) -> dict[str, Any]:
        return {
            "status": status,
            "epochs": -(-progress.step // session.steps_per_epoch),
            "steps": progress.step,
            "parameters": session.num_parameters,
            "seconds": round(state.elapsed_s(), 3),
        }

    try:
        with StopRequest() as stop:
            fit(session, state, run, recorder, stop, hopeless)
            result = outcome("early_stopped" if out_of_patience(session, progress) else "finished")
            result |= _final_scores(session, run, recorder)
            recorder.result(result)  # before result.json: a run that was killed in between is finished again
            files.write_json(run.result, result)
    except Exception as error:
        known = as_known(error)
        status = STATUS.get(type(known), "failed")
        scores = {"validation": known.scores} if isinstance(known, PrunedError) else {}
        with suppress(OSError):  # the disk may be what failed
            files.write_json(run.result, outcome(status) | {"cause": str(known or error)} | scores)
        with suppress(OSError):
            recorder.close(failed=status in ("diverged", "failed"))
        raise
    recorder.finish(result)
    return result


def _final_scores(session: Session, run: RunDirectory, recorder: Recorder) -> dict[str, Any]:
    """The scores of the weights that `evaluation.weights` names, and each test image's prediction beside its class."""
    weights, task = session.cfg.evaluation.weights, session.task
    if weights == "best":
        load_weights(run.best, session.model)
    scores: dict[str, Any] = {"weights": weights, "higher_is_better": task.higher_is_better}
    outputs = {part: session.outputs(part) for part in ("validation", "test") if part in session.parts}
    for part, given in outputs.items():
        scored = score(task, given, session.parts[part].labels)
        scores[part] = {"loss": scored.loss, task.metric: scored.metric}
    value, probability = task.predict(outputs["test"])
    tensors = {"prediction": value} if probability is None else {"class": value, "probability": probability}
    tensors["label"] = session.data.test.labels
    files.write_atomic(run.predictions, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
    recorder.pictures(value.cpu(), None if probability is None else probability.cpu())
    return scores


def _data_record(session: Session) -> dict[str, Any]:
    data = session.data
    counts = {name: len(part) for name, part in data.parts().items()}
    scale = {"mean": data.mean.tolist(), "std": data.std.tolist()}
    digests = {"train_digest": data.train_digest, "test_digest": data.test_digest}
    return {"name": data.name, "classes": list(data.classes), **counts, **scale, **digests}
