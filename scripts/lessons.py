#!/usr/bin/env python3
"""Test what the course notes claim, and write docs/LESSONS.md with its pictures.

    python -m scripts.lessons                      train what the ledger lacks, 3 seeds; write the page and the pictures
    python -m scripts.lessons one-place --seeds 5
    python -m scripts.lessons --page               train nothing
    python -m scripts.lessons --list

The ledger is docs/lessons.json: what it holds for the same recipe and seed is not run again, so the work can be stopped at any
time and adds up. Runs lie in outputs/lessons; the official data sets are read from $CNNLAB_DATA, else data/. All of it takes
about an hour on one core. Some claims are answered by docs/results.json, which `python -m cnnlab.reproduce` fills. The
pictures need matplotlib: pip install --editable '.[plots]'.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from cnnlab.errors import CnnlabError, suggest

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the command."""
    os.chdir(ROOT)  # where the ledger, the page and the runs lie
    sys.path.insert(0, str(ROOT))  # for `python scripts/lessons.py`
    from scripts.lesson import page
    from scripts.lesson.measure import measure

    names = [claim.name for claim in page.CLAIMS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"one or more of {', '.join(names)} (default: all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (default 3)")
    parser.add_argument("--page", action="store_true", help="train nothing, only write the page and the pictures")
    parser.add_argument("--list", action="store_true", help="the claims and their verdicts so far")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds}: expected a number of 1 or more")
    for name in arguments.claims:
        if name not in names:
            parser.error(f"{name}: no such claim.{suggest(name, names)} Claims: {', '.join(names)}.")
    if not arguments.list and importlib.util.find_spec("matplotlib") is None:
        parser.error("the pictures need matplotlib: pip install --editable '.[plots]'")
    chosen = [claim for claim in page.CLAIMS if claim.name in (arguments.claims or names)]
    if not arguments.page and not arguments.list:
        for seed in range(arguments.seeds):
            for claim in chosen:
                for arm in claim.arms:
                    measure(claim.name, arm, seed)
    if arguments.list:
        page.show(chosen)
    else:
        page.write(chosen)


if __name__ == "__main__":
    try:
        main()
    except (CnnlabError, OSError) as error:
        sys.exit(f"error: {error}")
