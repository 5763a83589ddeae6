"""Find runs below folders and read what they recorded, fast enough for a thousand. Does not import torch."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlab import config
from cnnlab.config import trust
from cnnlab.errors import CheckpointError, CnnlabError, ConfigError, note
from cnnlab.reading import read_yaml
from cnnlab.status import Status
from cnnlab.tracking.console import counted
from cnnlab.tracking.records import Epoch, Result
from cnnlab.tracking.run import RunDirectory, find_run


@dataclass(frozen=True)
class MeasuredOn:
    """The test images of a score; scores on different images are not compared.

    digest: of the images and labels; for a run that did not record it, "root" and the directory that it read.
    """

    data: str
    images: int
    classes: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Run:
    """A run that ended with a score.

    settings: flat, as in config.yaml, with the recorded digest of the training images. choices: the chosen name
    of each config group. validation: the mean score, or None without a validation split. ended: when result.json was written.
    """

    directory: RunDirectory
    settings: dict[str, Any]
    choices: dict[str, str]
    measured_on: MeasuredOn
    metric: str
    higher_is_better: bool
    test: float
    validation: float | None
    seconds: float
    parameters: int
    ended: float
    epochs: int = 0
    status: Status = Status.FINISHED

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])


@dataclass(frozen=True)
class LeftOut:
    """A run that is not counted.

    status: FAILED if its files cannot be read, FINISHED if a later run of the same seed counts. cause: why it is not counted.
    settings, choices, measured_on: as in Run, empty if they cannot be read. last: the last epoch that it recorded. command:
    the one that continues it.
    """

    name: str
    status: Status
    cause: str
    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    last: Epoch | None = None
    command: str = ""
    measured_on: MeasuredOn | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether it may still be completed and scored."""
        return self.status in (Status.RUNNING, Status.INTERRUPTED)

    @property
    def epochs(self) -> int | None:
        return self.last.epoch if self.last else None

    @property
    def validation(self) -> float | None:
        """The score so far: after the last epoch."""
        score = self.last.scores.get("validation") if self.last else None
        return score.value if score is not None and math.isfinite(score.value) else None

    @property
    def so_far(self) -> str:
        """Progress such as "validation accuracy 0.9312 after 3 epochs"; empty if nothing was recorded."""
        if self.last is None:
            return ""
        score = "" if self.validation is None else f"validation {self.last.metric} {self.validation:.4f} "
        return f"{score}after {counted(self.last.epoch, 'epoch')}"


def read_runs(paths: Sequence[str]) -> list[Run | LeftOut]:
    """Read all runs at and below `paths`, each once.

    Raises:
        ConfigError: a path that does not exist, or holds no run.
    """
    runs: list[Run | LeftOut] = []
    for directory in _unique(found for path in paths for found in find_runs(path)):
        try:
            runs.append(_read(directory))
        except (CnnlabError, OSError, ValueError) as error:
            runs.append(LeftOut(directory.name, Status.FAILED, " ".join(str(error).split())))
    return runs


def find_runs(path: str) -> list[RunDirectory]:
    """Return the runs at and below `path`, sorted, without searching hidden folders and the runs themselves; for "last" the
    newest run.

    Raises:
        ConfigError: `path` does not exist, is a file, or holds no run.
    """
    if path == "last" and not os.path.exists(path):
        return [RunDirectory(find_run(path))]
    found = []
    for folder, inner, names in os.walk(path, onerror=_report_forbidden):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        run = RunDirectory(Path(folder))
        records = {file.name for file in (run.environment, run.metrics, run.result)}
        if run.config.name in names and records & set(names):  # otherwise it may be a folder of configurations
            found.append(run)
            inner.clear()
    if not found:
        what = "no run in it" if os.path.isdir(path) else "a file" if os.path.exists(path) else "no such directory"
        raise ConfigError(f"{path or 'an empty name'}: {what}; expected a run, or a folder of runs such as outputs")
    return found


def _report_forbidden(error: OSError) -> None:
    if isinstance(error, PermissionError):
        note(f"{error.filename}: skipped, since it cannot be listed ({error.strerror})")


def _unique(directories: Iterable[RunDirectory]) -> Iterator[RunDirectory]:
    seen = set()
    for directory in directories:
        real = os.path.realpath(directory.path)
        if real not in seen:
            seen.add(real)
            yield directory


def _read(directory: RunDirectory) -> Run | LeftOut:
    settings = {key: _plain(value) for key, value in config.read_flat(directory.config).items()}
    if not isinstance(settings["seed"], int):
        raise CheckpointError(f"{directory.config}: seed: {settings['seed']!r}, expected an integer")
    result, environment = directory.read_result(), directory.read_environment()
    choices = _choices(environment, settings)
    if isinstance(digest := _recorded_data(environment).get("train_digest"), str):
        settings["data.train_digest"] = digest  # two data roots may hold different images
    if result is None or not result.status.is_scored:
        last, damage = _last_epoch(directory)
        if result is not None and result.status is not Status.INTERRUPTED:
            return LeftOut(directory.name, result.status, result.cause or damage, settings, choices, last)
        status = Status.RUNNING if directory.is_locked() else Status.INTERRUPTED
        continues = "" if status is Status.RUNNING else _continuing(directory)
        measured_on = _measured_on(environment, settings)
        return LeftOut(directory.name, status, damage, settings, choices, last, continues, measured_on)
    test, validation = (_metric(result, split) for split in ("test", "validation"))
    if test is None:
        raise CheckpointError(f"{directory.result}: its test {result.metric} is not a number")
    return Run(
        directory, settings, choices, _measured_on(environment, settings),
        result.metric, result.higher_is_better, test, validation, result.seconds, result.parameters,
        directory.result.stat().st_mtime, result.epochs, result.status,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Return `value` with 1.0 replaced by 1, which means the same."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _metric(result: Result, split: str) -> float | None:
    """Return the score of a split, or None if it was not scored or is not a finite number."""
    score = result.scores.get(split)
    return score.value if score is not None and math.isfinite(score.value) else None


def _choices(environment: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    recorded = environment.get("choices")
    choices = {} if not isinstance(recorded, dict) else {str(key): str(value) for key, value in recorded.items()}
    named = {key: value for key, value in choices.items() if value not in ("None", "null")}
    for group in [group for group, name in named.items() if name == "custom"]:  # a user's own class is named by its path
        named[group] = str(settings.get(f"{group}._target_", "custom"))
    if "augment" not in named:  # Hydra does not record a list of choices
        inside = dict.fromkeys(key.split(".")[1] for key in settings if key.startswith("augment."))
        named["augment"] = f"[{','.join(inside)}]" if inside else "none"
    return named


def _recorded_data(environment: dict[str, Any]) -> dict[str, Any]:
    data = environment.get("data")
    return data if isinstance(data, dict) else {}


def _measured_on(environment: dict[str, Any], settings: dict[str, Any]) -> MeasuredOn:
    data = _recorded_data(environment)
    count, classes, digest = data.get("test"), data.get("classes"), data.get("test_digest")
    return MeasuredOn(
        str(data.get("name", settings.get("data.name"))),
        count if isinstance(count, int) else 0,
        tuple(str(name) for name in classes) if isinstance(classes, list) else (),
        digest if isinstance(digest, str) else f"root {settings.get('data.root')}",
    )


def _last_epoch(directory: RunDirectory) -> tuple[Epoch | None, str]:
    """Return the last recorded epoch, if any, or why the record cannot be read; the run's result is used all the same."""
    try:
        recorded = directory.read_epochs()
    except CheckpointError as error:
        return None, str(error)
    return (recorded[-1] if recorded else None), ""


def _continuing(directory: RunDirectory) -> str:
    trusting = trust.argument(read_yaml(directory.config))
    return f"python -m cnnlab.train resume={directory.quoted}{trusting}"
