"""The function that Hydra calls for each configuration of a sweep: one job, which may have begun before."""

import sys
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnnlab import composing, config
from cnnlab.config.schema import Config
from cnnlab.errors import CnnlabError, RunTakenError, as_known
from cnnlab.status import Status, Stop, StoppedError
from cnnlab.sweep.manifest import Manifest
from cnnlab.sweep.pruning import watch
from cnnlab.tracking.records import Result
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.interrupt import PruneReason


def job(node: DictConfig) -> float | None:
    """Train the configuration `node` in Hydra's output directory; return its validation score, or test if none is held out."""
    hydra_node = HydraConfig.get()
    cfg = composing.typed(node)
    run = RunDirectory(Path(hydra_node.runtime.output_dir))
    choices = composing.named_choices(hydra_node.runtime.choices)
    manifest, name, started = Manifest(run.path.parent), run.path.name, time.monotonic()
    if str(hydra_node.sweeper.get("_target_")).startswith("hydra_plugins.cnnlab") and not manifest.path.exists():
        for made in (run.path, run.path.parent):  # again, by Hydra
            with suppress(OSError):
                made.rmdir()
        manifest.require_kept()
    try:
        manifest.update(name, status=Status.RUNNING, cause=None, exit_code=None)
        with run.locked():
            result = train_or_resume(cfg, run, choices, manifest.varied(), watch(manifest, name, cfg, hydra_node.sweeper))
        split, metric, score = result.judged_by, result.metric, result.scores[result.judged_by].value
        cause = result.cause or None
        manifest.update(
            name, status=result.status, cause=cause, split=split, metric=metric, score=score, seconds=result.seconds
        )
        if cause is not None:
            print(f"{result.status} {cause}")
        return score
    except Exception as error:
        known = as_known(error)
        failed = Stop(Status.FAILED, str(known or f"{type(error).__name__}: {error}"))
        stop = known.stop if isinstance(known, StoppedError) else failed
        cause = "stopped by a signal" if stop.status is Status.INTERRUPTED else stop.cause
        with suppress(OSError, CnnlabError):  # the disk may be what failed
            seconds, code = round(time.monotonic() - started, 3), known.exit_code if known else 1
            manifest.update(name, status=stop.status, cause=cause, seconds=seconds, exit_code=code)
            if not run.config.exists():
                run.record_failure(cfg, cause)
        if known is None:
            traceback.print_exc()
        else:
            print(f"error: {name}: {known}", file=sys.stderr)
        if stop.status is Status.INTERRUPTED and known is not None:
            sys.exit(known.exit_code)  # an exception would only end this job, and Hydra would begin the next
        raise


def train_or_resume(
    cfg: Config, run: RunDirectory, choices: dict[str, str], varied: list[str], prune_reason: PruneReason | None = None
) -> Result:
    """Return the result of `run`: as recorded if it is done, else trained from where it stopped or from the start.

    varied: the keys in which the sweep's jobs differ.

    Raises:
        RunTakenError: the directory holds a run of another configuration or seed.
    """
    from cnnlab.training.experiment import run_new, run_resumed

    if not (run.environment.exists() and run.config.exists()):
        run.config.unlink(missing_ok=True)  # left by an attempt that never began
        return run_new(cfg, run.path, choices, prune_reason, varied)
    recorded = config.read(run.config)
    if (config.recipe(recorded), recorded.seed) != (config.recipe(cfg), cfg.seed):
        raise RunTakenError(f"{run.name}: holds a run of another configuration; choose another sweep.name")
    result = run.read_result()
    if result is not None and result.status.is_final:
        return result
    recorded.data = replace(recorded.data, root=cfg.data.root, download=cfg.data.download)  # as requested now
    return run_resumed(recorded, run, prune_reason)
