#!/usr/bin/env python3
"""Give the entries of both ledgers the recipes of the present version: a hash of what departs from the defaults alone.

    python -m scripts.migrate_recipes

A recipe first held every setting, so that a key which a later version added would have made every result one of another
recipe; then what departs from the defaults and data.shape and data.num_classes, which data.source now says itself. An entry is
found by its old recipe, which is computed here from the same configuration as the new one; entries of none are told and left.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlab import config, data
from cnnlab.schema import Config
from cnnlab.tracking import files
from scripts import ledger
from scripts.lesson import measure, page
from scripts.published import views

ADDED = ("evaluation.every", "parameters")  # keys that the old recipe did not have


def old_recipes(cfg: Config) -> tuple[str, str]:
    """16 hexadecimal digits each, as the two versions before computed them: of every setting, and of the departures."""
    shape, num_classes = data.describe(cfg.data)[0], len(data.describe(dataclasses.replace(cfg.data, classes=None))[1])
    told = {"data.shape": list(shape), "data.num_classes": num_classes}
    every = {key: value for key, value in config.flat(cfg).items() if key not in (*config.NOT_THE_RECIPE, *ADDED)}
    return digest(every | told), digest(config.recipe(cfg) | told)


def digest(settings: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def configurations() -> list[Config]:
    """Of every experiment in both precisions, and of every lesson."""
    names = [(name, precision) for name in views.experiments() for precision in views.PRECISIONS]
    lines = [(f"experiment={name}", f"trainer.precision={precision}") for name, precision in names]
    return [ledger.configuration(*line) for line in (*lines, *(arm.settings for claim in page.CLAIMS for arm in claim.arms))]


def migrate(path: Path, recipes: dict[str, str]) -> int:
    """Replace the old recipes in a ledger; the number of entries that are of neither."""
    entries, unknown = json.loads(path.read_text()), 0
    for entry in entries:
        if entry["recipe"] not in recipes.values():
            unknown += entry["recipe"] not in recipes
            entry["recipe"] = recipes.get(entry["recipe"], entry["recipe"])
    files.write_atomic(path, ("[\n" + ",\n".join(json.dumps(one) for one in entries) + "\n]\n").encode())
    print(f"{path}: {len(entries)} entries, {unknown} of an older recipe")
    return unknown


def main() -> int:
    found = configurations()
    recipes = {old: config.recipe_hash(cfg) for cfg in found for old in old_recipes(cfg)}
    generations = [*zip(*map(old_recipes, found), strict=True), [config.recipe_hash(cfg) for cfg in found]]
    distinct = [len(set(generation)) for generation in generations]
    print(f"{len(found)} configurations, {', '.join(map(str, distinct))} recipes of the first, second and present kind")
    if len(set(distinct)) > 1:
        sys.exit("two configurations that were apart would become one")
    return 1 if sum(migrate(path, recipes) for path in (views.LEDGER, measure.LEDGER)) else 0


if __name__ == "__main__":
    sys.exit(main())
