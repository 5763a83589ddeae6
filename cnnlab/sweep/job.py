"""What Hydra calls for each composed configuration of a sweep: one job, which may have begun before."""

import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnnlab import composing, config
from cnnlab.errors import CnnlabError, InterruptedRunError, PrunedError, RunTakenError, as_known
from cnnlab.schema import Config
from cnnlab.sweep.manifest import Manifest
from cnnlab.sweep.pruning import watch
from cnnlab.tracking.run import RunDirectory, metric_of
from cnnlab.training.interrupt import Hopeless

DONE = ("finished", "early_stopped")


def job(node: DictConfig) -> float | None:
    """Train what `node` says in Hydra's output directory; the score of the job (see `score`)."""
    hydra_node = HydraConfig.get()
    cfg = composing.typed(node)
    run = RunDirectory(Path(hydra_node.runtime.output_dir))
    choices = composing.named_choices(hydra_node.runtime.choices)
    manifest, name, started = Manifest(run.path.parent), run.path.name, time.monotonic()
    try:
        manifest.update(name, state="running", cause=None, exit_code=None)
        with run.locked():
            result = train_or_continue(cfg, run, choices, watch(manifest, name, cfg, hydra_node.sweeper))
        metric, reached = score(result)
        manifest.update(name, state="done", metric=metric, score=reached, seconds=result["seconds"])
        return reached
    except PrunedError as pruned:
        metric, reached = score({"validation": pruned.scores})
        seconds = (run.read_result() or {}).get("seconds")
        manifest.update(name, state="pruned", cause=str(pruned), metric=metric, score=reached, seconds=seconds)
        print(f"pruned {pruned}")
        return reached
    except Exception as error:
        known = as_known(error)
        interrupted = isinstance(known, InterruptedRunError)
        cause = "stopped by a signal" if interrupted else str(known or f"{type(error).__name__}: {error}")
        with suppress(OSError, CnnlabError):  # the disk may be what failed
            state = "interrupted" if interrupted else "failed"
            seconds, code = round(time.monotonic() - started, 3), known.exit_code if known else 1
            manifest.update(name, state=state, cause=cause, seconds=seconds, exit_code=code)
            if not run.config.exists():
                run.never_began(cfg, cause)
        if known is None:
            traceback.print_exc()
        else:
            print(f"error: {name}: {known}", file=sys.stderr)
        if isinstance(known, InterruptedRunError):
            sys.exit(known.exit_code)  # an exception would only end this job, and Hydra would begin the next
        raise


def train_or_continue(
    cfg: Config, run: RunDirectory, choices: dict[str, str], hopeless: Hopeless | None = None
) -> dict[str, Any]:
    """The result of `run`: as it stands where it is done, else trained from where it stopped, else from the start.

    Raises:
        PrunedError: it is hopeless, now or since before.
        RunTakenError: the directory holds a run of another configuration or seed.
    """
    from cnnlab.training.experiment import run_new, run_resumed

    if not (run.environment.exists() and run.config.exists()):
        run.config.unlink(missing_ok=True)  # left by an attempt that never began
        return run_new(cfg, run.path, choices, hopeless)
    recorded = config.read(run.config)
    if (config.recipe(recorded), recorded.seed) != (config.recipe(cfg), cfg.seed):
        raise RunTakenError(f"{run.name}: holds a run of another configuration; choose another sweep.name")
    result = run.read_result() or {}
    if result.get("status") == "pruned":
        raise PrunedError(result["cause"], result["validation"])
    return result if result.get("status") in DONE else run_resumed(recorded, run, hopeless)


def score(result: dict[str, Any]) -> tuple[str, float]:
    """What a run is judged by, and its value: on the validation images, where there are none on the test images."""
    part = "validation" if "validation" in result else "test"
    name = metric_of(result[part])
    value = result[part][name]
    return f"{part} {name}", float("nan" if value is None else value)
