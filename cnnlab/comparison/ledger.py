"""The ledger of measured results, docs/results.json: one entry a finished run, found again by recipe and seed.

An entry: id, recipe, precision, seed, train, test (accuracies), parameters, seconds, device, threads, torch, date.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from cnnlab import config
from cnnlab.comparison.statistics import Summary, summarize
from cnnlab.errors import CheckpointError
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory

Entry = dict[str, Any]
TEXTS, NUMBERS = ("id", "recipe", "precision", "device", "date"), ("seed", "train", "test", "parameters", "seconds", "threads")

TEST_TOLERANCE, TRAIN_TOLERANCE = 0.010, 0.02  # below the published accuracy; above it is no failure
REPRODUCED = "reproduced"


@dataclass(frozen=True)
class Comparison:
    """A published result beside the measured ones of one precision, with n seeds. seconds: mean; date: of the latest run."""

    id: str
    precision: str
    published_train: float | None
    published_test: float | None
    n: int
    train: Summary
    test: Summary
    seconds: float
    device: str
    date: str

    @property
    def differences(self) -> tuple[float | None, float | None]:
        """Measured less published accuracy, of training and test; None where nothing is published."""
        goals = ((self.train, self.published_train), (self.test, self.published_test))
        train, test = (None if goal is None else measured.mean - goal for measured, goal in goals)
        return train, test

    @property
    def within(self) -> bool | None:
        """Whether both means reach the published figures less the tolerance; None where nothing is published."""
        return None if self.published_test is None else self.verdict == REPRODUCED

    @property
    def verdict(self) -> str:
        if self.published_test is None:
            return "none published"
        below = [
            f"{part} {-difference - tolerance:.4f} below its tolerance"
            for part, difference, tolerance in zip(
                ("training", "test"), self.differences, (TRAIN_TOLERANCE, TEST_TOLERANCE), strict=True
            )
            if difference is not None and difference < -tolerance
        ]
        return " and ".join(below) or REPRODUCED


def read(path: Path) -> list[Entry]:
    """The entries of a ledger; none where there is no file yet.

    Raises:
        CheckpointError: not a ledger.
    """
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); restore it from the repository") from error
    if not isinstance(entries, list):
        raise CheckpointError(f"{path}: expected a list of results; restore it from the repository")
    for number, found in enumerate(entries, 1):
        wrong = _wrong(found)
        if wrong:
            raise CheckpointError(f"{path}: result {number}: {wrong}; restore it from the repository")
    return entries


def _wrong(found: object) -> str:
    """What is wrong with an entry; empty for one that can be read."""
    if not isinstance(found, dict):
        return "not an object"
    texts = [key for key in TEXTS if not isinstance(found.get(key), str)]
    numbers = [key for key in NUMBERS if not isinstance(found.get(key), int | float) or isinstance(found[key], bool)]
    if texts or numbers:
        return f"{', '.join(texts + numbers)} missing, or of another type"
    outside = [key for key in ("train", "test") if not 0 <= found[key] <= 1]  # nan is outside, too
    return f"{' and '.join(outside)}: expected an accuracy of 0 to 1" if outside else ""


def entry(name: str, run: RunDirectory) -> Entry:
    """What a finished run measured, as the entry of `name`."""
    cfg, result, made_on = config.read(run.config), run.read_result() or {}, run.read_environment()
    return {
        "id": name,
        "recipe": config.recipe_hash(cfg),
        "precision": cfg.trainer.precision,
        "seed": cfg.seed,
        "train": files.read_json_lines(run.metrics)[-1]["train_accuracy"],
        "test": result["test"]["accuracy"],
        "parameters": result["parameters"],
        "seconds": result["seconds"],
        "device": made_on["device"],
        "instructions": made_on["instructions"],
        "threads": cfg.trainer.threads,
        "torch": made_on["packages"]["torch"],
        "date": datetime.date.fromtimestamp(run.result.stat().st_mtime).isoformat(),
    }


def add(path: Path, new: Entry) -> None:
    """Write `new` into the ledger, in the place of an earlier one of the same recipe and seed; one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.exclusive(path.with_name(f".{path.name}.lock"), wait=True):
        others = [old for old in read(path) if (old["recipe"], old["seed"]) != (new["recipe"], new["seed"])]
        entries = sorted([*others, new], key=lambda one: (one["id"], one["precision"], one["seed"]))
        files.write_atomic(path, ("[\n" + ",\n".join(json.dumps(one) for one in entries) + "\n]\n").encode())


def compare(
    published: Mapping[str, Mapping[str, Any]], recipes: Mapping[tuple[str, str], str], entries: Sequence[Entry]
) -> list[Comparison]:
    """One comparison for each published id and precision with measured entries of its present recipe.

    Args:
        published: `results:` of configs/published.yaml.
        recipes: the present recipe of (id, precision).
        entries: of the ledger; those of other recipes are left out.
    """
    rows = []
    for (name, precision), wanted in recipes.items():
        runs = [entry for entry in entries if entry["id"] == name and entry["recipe"] == wanted]
        if not runs:
            continue
        train, test = (summarize([run[part] for run in runs]) for part in ("train", "test"))
        goal_train, goal_test = (published.get(name, {}).get(part) for part in ("train", "test"))
        devices = ", ".join(sorted({_device(run) for run in runs}))
        date = max(run["date"] for run in runs)
        seconds = fmean(run["seconds"] for run in runs)
        rows.append(Comparison(name, precision, goal_train, goal_test, len(runs), train, test, seconds, devices, date))
    return rows


def _device(run: Entry) -> str:
    return f"{run['device']}, {run['threads']} thread{'s' if run['threads'] > 1 else ''}"
