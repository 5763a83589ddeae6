"""The settings that may change when a run is continued: its end, provided that the steps already done would be the same, the
console, and whether missing data is downloaded. Loads no torch."""

from collections.abc import Sequence
from dataclasses import replace

from cnnlab import composing
from cnnlab.config.schema import Config
from cnnlab.errors import ConfigError
from cnnlab.status import Status
from cnnlab.tracking.console import counted
from cnnlab.tracking.run import RunDirectory
from cnnlab.training.schedule import depends_on_end

KEYS = ("trainer.epochs", "trainer.steps", "console", "data.download")


def with_overrides(run: RunDirectory, recorded: Config, overrides: Sequence[str]) -> Config:
    """The configuration to continue `run` with.

    Args:
        run: its directory.
        recorded: its configuration so far.
        overrides: `key=value`, with keys in KEYS.

    Raises:
        ConfigError: another key, an illegal value, an earlier end, or an end that would have changed the steps
            already done.
    """
    for override in overrides:
        if override.partition("=")[0] not in KEYS:
            raise ConfigError(f"{override}: a continued run keeps its settings; only {', '.join(KEYS)} may change")
        if recorded.phases and override.startswith("trainer."):
            raise ConfigError(f"{override}: {run.name} ends with its last phase and cannot be lengthened; start a new run")
    here = replace(recorded, data=replace(recorded.data, download=False))  # the run may be somebody else's
    cfg = composing.with_overrides(here, overrides)
    unit, before = _end(recorded)
    for override in overrides:
        key = override.partition("=")[0]
        if key.startswith("trainer.") and key != unit:
            raise ConfigError(f"{override}: the length of {run.name} is set by {unit}={before}; change {unit}")
        if key == unit and (_end(cfg)[0] != unit or _end(cfg)[1] < before):
            raise ConfigError(f"{override}: {run.name} is set to {before} already; expected more")
        if key == unit and _end(cfg)[1] > before:
            _require_that_steps_stay(run, cfg, override)
    return cfg


def nothing_to_do(run: RunDirectory, recorded: Config, cfg: Config) -> str | None:
    """A message if the run has ended and `cfg` does not lengthen it; None if there is more to train."""
    result = run.read_result()
    if result is None:
        return None
    unit, before = _end(recorded)
    after = f"after {counted(result.epochs, 'epoch')}: nothing to do"
    if result.status is Status.EARLY_STOPPED:
        return f"{run.name} has stopped early, as trainer.patience asked, {after}"
    if result.status is Status.FINISHED and _end(cfg)[1] == before:
        return f"{run.name} has finished {after}" + ("" if cfg.phases else f"; {unit}={before * 2} would lengthen it")
    return None


def _end(cfg: Config) -> tuple[str, int]:
    """The key that sets where the run ends, and its value."""
    return ("trainer.steps", cfg.trainer.steps) if cfg.trainer.steps else ("trainer.epochs", cfg.trainer.epochs)


def _require_that_steps_stay(run: RunDirectory, cfg: Config, override: str) -> None:
    if depends_on_end(cfg.schedule):
        raise ConfigError(
            f"{override}: the schedule {cfg.schedule['_target_']} depends on where the run ends, so this run cannot be "
            "lengthened; start a new run"
        )
    result, images = run.read_result(), run.recorded("data").get("train", 1)
    steps = 0 if result is None else result.steps
    judged = cfg.trainer.patience is not None or cfg.evaluation.weights == "best" or cfg.evaluation.every > 1
    if judged and steps % (-(-images // cfg.trainer.batch_size) * cfg.evaluation.every):
        raise ConfigError(
            f"{override}: {run.name} was scored where it ended (within an epoch, or between two that evaluation.every scores), "
            "which a longer run would not have been, so it cannot be lengthened; start a new run"
        )
