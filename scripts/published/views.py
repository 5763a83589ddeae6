"""Views of the published and measured results: docs/RESULTS.md, README's table, the experiments' headers."""

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from cnnlab import composing, config
from cnnlab.machine import num_cores
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory
from scripts import ledger
from scripts.published import comparison, page
from scripts.published.comparison import Comparison

LEDGER, TABLE = Path("docs/results.json"), Path("docs/RESULTS.md")
CURVES = Path("docs/curves.json")  # by id: for each epoch of seed 0, training loss and accuracy, then those on the test images
PICTURE = Path("docs/pictures/mlp-curves.png")
README, EXPERIMENTS = Path("README.md"), Path("configs/experiment")
PRECISIONS = ("fp32", "bf16")


def experiments() -> list[str]:
    """Return those that the notes publish or set as an exercise; cnnlab's own have nothing to compare with."""
    results, exercises = comparison.read_published("results"), comparison.read_published("exercises")
    other = [one[key] for one in (*results.values(), *exercises.values()) for key in ("also", "experiment") if key in one]
    return [name for name in composing.groups()["experiment"] if name in {*results, *other}]


def recipes(name: str) -> dict[str, str]:
    """Return the hash of an experiment's current recipe by precision. Hydra, which is slow, composes it once for both."""
    cfg = ledger.configuration(f"experiment={name}")
    return {one: config.recipe_hash(replace(cfg, trainer=replace(cfg.trainer, precision=one))) for one in PRECISIONS}


@cache
def all_recipes() -> dict[tuple[str, str], str]:
    """Return the recipes of all experiments by name and precision, composed on all cores: 80 ms each."""
    names = experiments()
    with ProcessPoolExecutor(num_cores(), multiprocessing.get_context("forkserver")) as pool:
        found = zip(names, pool.map(recipes, names, chunksize=4), strict=True)
        return {(name, precision): recipe for name, by_precision in found for precision, recipe in by_precision.items()}


def comparisons(names: Sequence[str]) -> list[Comparison]:
    """Return published against measured results of the current recipes."""
    recipes = {(name, precision): recipe for (name, precision), recipe in all_recipes().items() if name in names}
    return comparison.compare(comparison.read_published("results"), recipes, ledger.read(LEDGER))


def stale() -> dict[Path, str]:
    """Return the files that differ from the ledger, with what they should contain: docs/RESULTS.md and, in the repository,
    README and the experiments' header comments."""
    rows = comparisons(experiments())
    texts = {TABLE: page.text(rows, measured_curves())}
    if README.exists():
        texts[README] = page.with_table(README.read_text(), rows)
    for path in EXPERIMENTS.glob("*.yaml"):
        texts[path] = page.with_header(path.read_text(), [row for row in rows if row.id == path.stem])
    return {path: text for path, text in texts.items() if not path.exists() or path.read_text() != text}


def write() -> None:
    """Rewrite the files that differ from the ledger."""
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    for path, text in stale().items():
        files.write_atomic(path, text.encode())


def keep_curve(name: str, run: RunDirectory) -> None:
    """Add the epochs of a run that scored the test images after each to docs/curves.json, unless they are there, and redraw the
    picture."""
    from scripts.published import figure  # the lessons' drawing imports torch, for which --list need not wait

    curves, epochs = measured_curves(), run.read_epochs()
    if len(curves.get(name, [[]])[0]) == 4 or any("test" not in epoch.scores for epoch in epochs):
        return
    splits = [[epoch.scores[split] for split in ("train", "test")] for epoch in epochs]
    points = [[round(value, 4) for score in both for value in (score.loss, score.value)] for both in splits]
    files.write_atomic(CURVES, (json.dumps(curves | {name: points}) + "\n").encode())
    with suppress(ModuleNotFoundError):  # matplotlib is optional
        figure.draw(measured_curves(), PICTURE)


def measured_curves() -> dict[str, list[list[float]]]:
    """Return the content of docs/curves.json, empty without the file."""
    return dict(json.loads(CURVES.read_text())) if CURVES.exists() else {}
