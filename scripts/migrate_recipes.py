#!/usr/bin/env python3
"""Give the entries of both ledgers the recipes of the present version: a hash of what departs from the defaults alone.

    python -m scripts.migrate_recipes

Before, a recipe held every setting, so that a key which a later version added would have made every result one of another
recipe. An entry is found by its old recipe, which is computed here from the same configuration as the new one; entries of
neither are told and left.
"""

import hashlib
import json
import sys
from pathlib import Path

from cnnlab import composing, config
from cnnlab.schema import Config
from cnnlab.tracking import files
from scripts import ledger
from scripts.lesson import measure, page
from scripts.published import views

ADDED = ("evaluation.every", "parameters")  # keys that the old recipe did not have


def old_recipe(cfg: Config) -> str:
    """16 hexadecimal digits, as the version before computed them."""
    settings = {key: value for key, value in config.flat(cfg).items() if key not in (*config.NOT_THE_RECIPE, *ADDED)}
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def configurations() -> list[Config]:
    """Of every experiment in both precisions, and of every lesson."""
    names = [(name, precision) for name in composing.groups()["experiment"] for precision in views.PRECISIONS]
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
    recipes = {old_recipe(cfg): config.recipe_hash(cfg) for cfg in found}
    distinct = len({old_recipe(cfg) for cfg in found}), len({config.recipe_hash(cfg) for cfg in found})
    print(f"{len(found)} configurations, {distinct[0]} old and {distinct[1]} new recipes")
    if distinct[0] != distinct[1]:
        sys.exit("two configurations that were apart would become one")
    return 1 if sum(migrate(path, recipes) for path in (views.LEDGER, measure.LEDGER)) else 0


if __name__ == "__main__":
    sys.exit(main())
