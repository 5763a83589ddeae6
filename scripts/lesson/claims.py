"""A claim of the notes: its words, how it is tested, and what was found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scripts import ledger
from scripts.ledger import Entry
from scripts.lesson.arms import ARMS
from scripts.lesson.measure import Arm
from scripts.lesson.rules import Finding, estimate, plain
from scripts.transfer import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scripts.transfer import Arm as TransferArm

Value = Callable[[Entry], float | None]


def test(entry: Entry) -> float:
    return float(entry["test"])


def train(entry: Entry) -> float:
    return float(entry["train"])


def gap(entry: Entry) -> float:
    """Return by how much the training accuracy (during the last epoch) exceeds the test accuracy."""
    return train(entry) - test(entry)


def probed(name: str, key: object) -> Value:
    """Return a function that reads a number measured by a probe; it returns None before that."""
    return lambda entry: entry.get("probes", {}).get(name, {}).get(str(key))


class Measured:
    """The ledgers' entries for the arms of a claim."""

    def __init__(self, arms: "Sequence[Arm | TransferArm]", entries: Sequence[Entry]) -> None:
        self.arms = arms
        self.entries = {arm.name: ledger.of_recipe(entries, arm.recipe) for arm in arms}

    def values(self, arm: str, of: Value = test) -> list[float]:
        """Return one number per seed; none if nothing is measured."""
        return [value for entry in self.entries[arm] if (value := of(entry)) is not None]

    def fewest_and_most(self) -> tuple[int, int]:
        """Return the smallest and the largest number of seeds of an arm."""
        counts = [len(entries) for entries in self.entries.values()]
        return min(counts), max(counts)

    def seeds(self, *arms: str) -> int:
        """Return the number of seeds that each of these arms has."""
        return min(len(self.entries[arm]) for arm in arms)


@dataclass(frozen=True)
class Table:
    """A Markdown table."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Claim:
    """One entry of `claims:` in configs/published.yaml; its words are in words.yaml, its arms in arms.py.

    find: tests the parts of the claim. published: the experiments of `scripts.reproduce` that it takes from docs/results.json.
    transferred: the arms of `scripts.transfer`, from docs/transfer.json. tables: what was measured. draw: its picture, once
    everything is measured.
    """

    name: str
    find: Callable[[Measured], list[Finding]]
    published: Sequence[Arm] = ()
    tables: Callable[[Measured], list[Table]] = field(default=lambda measured: [scores(measured)])
    draw: "Callable[[Measured], Figure] | None" = None
    transferred: "Sequence[TransferArm]" = ()

    @property
    def arms(self) -> Sequence[Arm]:
        """The arms that are trained for it."""
        return ARMS.get(self.name, ())

    def measured(self, entries: Sequence[Entry]) -> Measured:
        return Measured([*self.arms, *self.published, *self.transferred], entries)


def experiment(name: str, identifier: str) -> Arm:
    """Return an arm that `python -m scripts.reproduce IDENTIFIER` measures."""
    return Arm(name, (f"experiment={identifier}",))


def cell(values: Sequence[float]) -> str:
    return plain(estimate(values)) if values else "not measured yet"


def scores(measured: Measured, arms: Sequence[str] | None = None) -> Table:
    """Return parameters, seeds, training and test accuracy of the arms (default: all)."""
    rows = []
    for name in arms or [arm.name for arm in measured.arms]:
        entries = measured.entries[name]
        parameters = f"{entries[0]['parameters']:,}" if entries else ""
        rows.append(
            [words(name), parameters, str(len(entries)), cell(measured.values(name, train)), cell(measured.values(name))]
        )
    return Table(["", "parameters", "seeds", "training accuracy", "test accuracy"], rows)


def with_published(measured: Measured) -> list[Table]:
    """Return the scores of the lessons' own runs, then of those at the published size."""
    published = [arm.name for arm in measured.arms if arm.settings[0].startswith("experiment=")]
    return [scores(measured, [arm.name for arm in measured.arms if arm.name not in published]), scores(measured, published)]
