"""`python -m scripts.lessons [CLAIM ...]`: test what the course notes claim, and write docs/LESSONS.md with its pictures."""

import sys
from collections.abc import Sequence

from cnnlab import cli
from cnnlab.errors import ConfigError
from cnnlab.plots import require_matplotlib
from scripts.arguments import chosen, count
from scripts.lesson import page
from scripts.lesson.measure import measure

HELP = """Test what the course notes claim, and write docs/LESSONS.md with its pictures.

  python -m scripts.lessons                      train what is missing, 3 seeds; write the page and the pictures
  python -m scripts.lessons one-place --seeds 5
  python -m scripts.lessons --page               train nothing; only write the page and the pictures
  python -m scripts.lessons --list               the claims and their verdicts so far
  python -m scripts.lessons --check              exit code 2 if the page does not match the ledgers

Call it in the repository's root. The ledger is docs/lessons.json: what it has for the same recipe and seed is not run again, so
you can stop at any time and continue later. Runs are kept in outputs/lessons; the official data sets are read from
$CNNLAB_DATA, or from data/ if that is not set. Everything takes about an hour on one core. Some claims are answered by
docs/results.json, which `python -m scripts.reproduce` fills. The pictures need matplotlib: pip install --editable '.[plots]'.

Options:
  --seeds N           seeds 0 to N - 1 (default 3)
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--list", "--page", "--check"), ("--seeds",))
    if "--help" in line.options or "-h" in line.options:
        cli.print_help(HELP)
        return 0
    if line.overrides:
        raise ConfigError(f"{line.overrides[0]}: lessons trains what docs/LESSONS.md lists; use train to change a setting")
    names = chosen(line.words, [claim.name for claim in page.CLAIMS], "claim")
    claims = [claim for claim in page.CLAIMS if claim.name in names]
    seeds = count(line.options.get("--seeds"), "--seeds") or 3
    if "--list" in line.options:
        page.show(claims)
        return 0
    if "--check" in line.options:
        page.check()
        return 0
    require_matplotlib("lessons")
    if "--page" not in line.options:
        for seed in range(seeds):
            for claim in claims:
                for arm in claim.arms:
                    measure(claim.name, arm, seed)
    page.write(claims)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run("lessons", sys.argv[1:], "scripts"))
