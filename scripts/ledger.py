"""A ledger of measured results, such as docs/results.json: one entry per finished run, identified by recipe and seed.

An entry holds id, recipe, precision, seed, train, test (accuracies), parameters, seconds, device, threads, torch, date, and in
later ones the instruction set.
"""

import datetime
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cnnlab import composing, config
from cnnlab.composing.overrides import prepare
from cnnlab.config.schema import Config
from cnnlab.errors import CheckpointError
from cnnlab.sweep.compose import Composer
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory

Entry = dict[str, Any]
TEXTS, NUMBERS = ("id", "recipe", "precision", "device", "date"), ("seed", "train", "test", "parameters", "seconds", "threads")


@cache
def composer() -> Composer:
    """Return the composer of what scripts train, much of which differs only in plain values."""
    return Composer(composing.compose)


@cache
def configuration(*settings: str) -> Config:
    """Return the checked configuration of `python -m cnnlab.train SETTINGS`."""
    compose = composer()
    return compose(prepare(settings, compose.groups))


def recipe(*settings: str) -> str:
    """Return the hash that identifies the entries of `python -m cnnlab.train SETTINGS`."""
    return config.recipe_hash(configuration(*settings))


def of_recipe(entries: Sequence[Entry], recipe: str) -> list[Entry]:
    """Return the entries of a recipe, by seed."""
    return sorted((entry for entry in entries if entry["recipe"] == recipe), key=lambda entry: int(entry["seed"]))


def read(path: Path) -> list[Entry]:
    """Return the entries of a ledger; none if there is no file yet.

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
    """Return what is wrong with an entry, "" if it can be read."""
    if not isinstance(found, dict):
        return "not an object"
    texts = [key for key in TEXTS if not isinstance(found.get(key), str)]
    numbers = [key for key in NUMBERS if not isinstance(found.get(key), int | float) or isinstance(found[key], bool)]
    if texts or numbers:
        return f"{', '.join(texts + numbers)} missing, or of another type"
    outside = [key for key in ("train", "test") if not 0 <= found[key] <= 1]  # nan is outside, too
    return f"{' and '.join(outside)}: expected an accuracy of 0 to 1" if outside else ""


def entry(name: str, run: RunDirectory) -> Entry:
    """Return what a finished run measured, as the entry of `name`."""
    cfg, result, made_on = config.read(run.config), run.read_result(), run.read_environment()
    assert result is not None
    return {
        "id": name,
        "recipe": config.recipe_hash(cfg),
        "precision": cfg.trainer.precision,
        "seed": cfg.seed,
        "train": run.read_epochs()[-1].scores["train"].value,
        "test": result.scores["test"].value,
        "parameters": result.parameters,
        "seconds": result.seconds,
        "device": made_on["device"],
        "instructions": made_on["instructions"],
        "threads": cfg.trainer.threads,
        "torch": made_on["packages"]["torch"],
        "date": datetime.date.fromtimestamp(run.result.stat().st_mtime).isoformat(),
    }


def add(path: Path, new: Entry) -> None:
    """Add `new` to the ledger, replacing an earlier entry of the same recipe and seed; one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.exclusive(path.with_name(f".{path.name}.lock"), wait=True):
        others = [old for old in read(path) if (old["recipe"], old["seed"]) != (new["recipe"], new["seed"])]
        entries = sorted([*others, new], key=lambda one: (one["id"], one["precision"], one["seed"]))
        files.write_atomic(path, ("[\n" + ",\n".join(json.dumps(one) for one in entries) + "\n]\n").encode())
