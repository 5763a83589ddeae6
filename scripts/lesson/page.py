"""docs/LESSONS.md from the ledgers, and the pictures beside it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from cnnlab.errors import CheckpointError, ConfigError, DataError
from scripts import ledger, transfer
from scripts.ledger import Entry
from scripts.lesson import drawing, reuse, space, training
from scripts.lesson.claims import Claim, Measured, Table
from scripts.lesson.measure import LEDGER
from scripts.lesson.rules import SIGNS, Finding, verdict
from scripts.published import views
from scripts.published.comparison import read_published

PAGE, PICTURES = Path("docs/LESSONS.md"), Path("docs/lessons")
WORDS: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text())
CLAIMS: Sequence[Claim] = sorted(
    [*space.CLAIMS, *training.CLAIMS, *reuse.CLAIMS], key=lambda claim: list(WORDS).index(claim.name)
)
INTRODUCTION = """# Lessons: what the notes claim, tested

Five sets of course notes argue for convolutional networks: C, after Geron and Chollet; D, Dinh's draft; K, Kamada; L, slides on
Keras's functional API; V, Varma's lecture ([`configs/published.yaml`](../configs/published.yaml)). Each of their claims is
tested here by an experiment that a laptop can repeat, and the outcome is stated plainly, including where a claim did not hold.

**How to read it.** Accuracies are means over seeds ± the half-width of the 95 % interval (Student's t); intervals of
differences are Welch's. A seed determines the initial weights, the order and, where only 10,000 images are used, which ones. A
part of a claim is "yes" when its whole interval lies on the claimed side, "no" when all of it lies on the other side, and
otherwise "open": these seeds cannot tell. A claim held if all its parts did, in part if one did not, as far as could be told if
some are open, and is largely open if most are. The networks are small and trained briefly, so the verdicts are about this size.
About one interval in twenty misses the truth by chance, and this page has dozens of them. The CIFAR-10 used is a copy in which
93 of 60,000 images were re-encoded ([RESULTS.md](RESULTS.md)).

**How to repeat it.** `python -m scripts.lessons` trains what is missing from [`docs/lessons.json`](lessons.json) (about an hour
on one core for everything), draws the pictures and writes this page; `python -m scripts.lessons CLAIM --seeds 5` adds seeds to
one claim. What is in the ledger is not trained again, unless you remove its entries and `outputs/lessons`. Claims about
published results use [`docs/results.json`](results.json), which `python -m scripts.reproduce` fills. Each network is also one
plain command, listed with its claim, to be run in the repository's root.
"""


def read() -> list[Entry]:
    """Return the entries of the three ledgers."""
    return [*ledger.read(LEDGER), *ledger.read(views.LEDGER), *ledger.read(transfer.LEDGER)]


def write(chosen: Sequence[Claim]) -> None:
    """Draw the pictures of the chosen claims and write the page of all of them."""
    from matplotlib import rc_context

    entries = read()
    for claim in chosen:
        if claim.draw is None:
            continue
        measured = claim.measured(entries)
        seeds = measured.fewest_and_most()
        with suppress(CheckpointError, DataError), rc_context(drawing.STYLE):
            if min(seeds):
                drawing.save(claim.draw(measured), PICTURES / f"{claim.name}.png", seeds)
                continue
        print(f"{claim.name}: no new picture; python -m scripts.lessons {claim.name} trains what it shows")
    PAGE.write_text(text(entries))
    show(chosen)


def check() -> None:
    """Raise ConfigError if the page differs from the ledgers."""
    if PAGE.read_text() != text(read()):
        raise ConfigError(f"{PAGE}: differs from the ledgers; python -m scripts.lessons --page rewrites it")


def show(chosen: Sequence[Claim]) -> None:
    """Print the verdicts."""
    entries = read()
    for claim in chosen:
        findings = claim.find(claim.measured(entries))
        print(f"{claim.name:<18}{verdict(findings)}")
        for finding in findings:
            print(f"    {SIGNS[finding.holds]:<5} {finding.text}")


def text(entries: Sequence[Entry]) -> str:
    """Return the page."""
    sources = {entry["claim"]: entry["source"] for entry in read_published("claims")}
    summary, sections = ["| | claim | verdict |", "|---|---|---|"], []
    for number, claim in enumerate(CLAIMS, 1):
        measured = claim.measured(entries)
        findings = claim.find(measured)
        title, quote = (WORDS[claim.name][key] for key in ("title", "quote"))
        anchor = f"{number}-{title.lower().replace(',', '').replace(' ', '-')}"
        summary.append(f"| {number} | [{title}](#{anchor}): {quote} | {verdict(findings)} |")
        sections.append(_section(number, claim, sources[quote], measured, findings))
    return "\n".join([INTRODUCTION, *summary, "", *sections])


def _section(number: int, claim: Claim, source: str, measured: Measured, findings: Sequence[Finding]) -> str:
    words = WORDS[claim.name]
    lines = [f"## {number}. {words['title']}", "", f"> {words['quote']} ({source})", ""]
    lines += [f"**{verdict(findings).capitalize()}.**", ""]
    lines += [f"- {SIGNS[finding.holds]}: {finding.text}" for finding in findings]
    lines += ["", words["tested"], ""]
    if claim.draw is not None and min(measured.fewest_and_most()):
        lines += [f"![{words['title']}](lessons/{claim.name}.png)", ""]
    for table in claim.tables(measured):
        lines += [*_markdown(table), ""]
    if claim.arms:
        lines += [f"Repeat it: `python -m scripts.lessons {claim.name}`", ""]
        lines += ["<details><summary>Each network as one command</summary>", "", "```"]
        lines += [*(arm.command(0) for arm in claim.arms), "```", "", "</details>", ""]
    if claim.published:
        names = " ".join(arm.settings[0].removeprefix("experiment=") for arm in claim.published)
        lines += [
            f"{'At the published size' if claim.arms else 'Repeat it'}: `python -m scripts.reproduce {names} --seeds 3`",
            "",
        ]
    if claim.transferred:
        ways = " ".join(dict.fromkeys(arm.of for arm in claim.transferred))
        lines += [f"Repeat it: `python -m scripts.transfer {ways}`; more in [TRANSFER.md](TRANSFER.md)", ""]
    used = [entry for kept in measured.entries.values() for entry in kept]
    if used:
        made = sorted({f"{entry['device']}, {_threads(entry)}, torch {entry['torch']}" for entry in used})
        dates = sorted({str(entry["date"]) for entry in used})
        lines += [f"Measured on {'; '.join(made)}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}.", ""]
    return "\n".join(lines)


def _threads(entry: Entry) -> str:
    return "1 thread" if entry["threads"] == 1 else f"{entry['threads']} threads"


def _markdown(table: Table) -> list[str]:
    rows = [list(table.header), ["---"] * len(table.header), *table.rows]
    return [f"| {' | '.join(row)} |" for row in rows]
