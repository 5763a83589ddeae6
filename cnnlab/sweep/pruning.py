"""Pruning the trials of a search: the median rule, computed from the sweep's manifest and its runs' metrics. It does not need
Optuna, so jobs do not either, under any launcher."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from cnnlab.config import targets
from cnnlab.config.schema import Config
from cnnlab.errors import ConfigError
from cnnlab.sweep.manifest import Manifest
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.interrupt import PruneReason

Scores = Sequence[float | None]  # the validation score of each epoch; None: not a finite number


def watch(manifest: Manifest, name: str, cfg: Config, settings: Mapping[str, Any]) -> PruneReason | None:
    """Return a function that says, after each scoring, why a job is to be pruned, or None; None if pruning is off.

    Args:
        name: of the job's directory.
        settings: the sweeper's `prune`, `prune_after_trials`, `prune_after_epochs`.
    """
    if not settings.get("prune"):
        return None
    higher, number = higher_is_better(cfg), settings["prune_after_trials"]

    def prune_reason() -> str | None:
        run = RunDirectory(manifest.directory / name)
        own, epoch = epoch_scores(run), run.read_epochs()[-1].epoch
        if epoch <= settings["prune_after_epochs"]:
            return None
        done = [job.directory for job in manifest.jobs() if job.status.is_scored and job.seed == cfg.seed]
        others = [epoch_scores(RunDirectory(manifest.directory / directory)) for directory in done]
        beyond = worse_than_median(own, others, higher) if len(done) >= number else None
        if beyond is None:
            return None
        return f"after epoch {epoch}, worse than the median {beyond:.4f} of {len(done)} finished trials"

    return prune_reason


def worse_than_median(own: Scores, others: Sequence[Scores], higher_is_better: bool) -> float | None:
    """Return the median of the others' scores at the epoch that `own` has reached if its best so far is worse, else None.

    Source: Optuna's MedianPruner; Golovin et al. 2017, Google Vizier, section 3.2.2 ("performance curve stopping by median").
    """
    reached = [scores[len(own) - 1] for scores in others if len(scores) >= len(own)]
    finite = [score for score in reached if score is not None]
    if not finite:
        return None
    middle, sign = median(finite), 1 if higher_is_better else -1
    best = max((sign * score for score in own if score is not None), default=None)
    return middle if best is None or best < sign * middle else None


def epoch_scores(run: RunDirectory) -> list[float | None]:
    """Return the validation metric of each epoch scored so far; never that of the test images."""
    scores = [epoch.scores["validation"].value for epoch in run.read_epochs() if "validation" in epoch.scores]
    return [score if math.isfinite(score) else None for score in scores]


def higher_is_better(cfg: Config) -> bool:
    """Whether a higher value of the task's metric is better.

    Raises:
        ConfigError: it is a custom task whose class does not say so.
    """
    found = getattr(targets.locate(cfg.task, "task"), "higher_is_better", None)
    if not isinstance(found, bool):
        message = "a search must know the direction of the metric; give the class higher_is_better = True (or False)"
        raise ConfigError(f"task._target_={cfg.task['_target_']}: {message}")
    return found
