"""The first configuration of a table tested against each of the others, in words.

Which row is first depends on the scores that are tested: a run that is lucky on the validation images is lucky on the test
images, too. So the tests are corrected for all pairs of the table; the verdicts then hold whichever row is first, and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.runs import Run
from cnnlab.comparison.statistics import LEVEL, holm, mcnemar, paired_t
from cnnlab.errors import CheckpointError

MCNEMAR, PAIRED_T = "exact McNemar test", "paired t-test"


@dataclass(frozen=True)
class Verdict:
    """A configuration against the first one of its table.

    difference: of the test scores, less the first one's (over the common seeds, where there are any). test: MCNEMAR,
    PAIRED_T, or empty where nothing could be tested. p: Holm-corrected. text: plain words.
    """

    difference: float
    test: str
    p: float | None
    text: str


@dataclass(frozen=True)
class Verdicts:
    """rows: a verdict for each row of a table but the first. num_tests: the pairs of the table that p is corrected for."""

    rows: list[Verdict]
    num_tests: int


@dataclass(frozen=True)
class Answers:
    """What a classifier said of each test image: class and true class, int64, N."""

    predicted: NDArray[np.int64]
    label: NDArray[np.int64]


def judge(table: Sequence[Configuration]) -> Verdicts:
    """Test all pairs of the rows of a table, which were measured on the same images, and judge those with the first row.

    Two rows with one seed each, or one seed in common: McNemar's exact test on the images, which is about these two networks.
    Else the paired t-test over the common seeds, which is about their settings. All pairs are one family for Holm's correction.
    """
    seeds = sorted({seed for row in table for seed in row.seeds})
    scores = np.full((len(table), len(seeds)), np.nan)
    for number, row in enumerate(table):
        scores[number, np.searchsorted(seeds, row.seeds)] = [run.test for run in row.runs]
    held = ~np.isnan(scores)
    common = held.astype(int) @ held.T.astype(int)
    alone = np.array([row.n == 1 for row in table])
    both_alone = alone[:, None] & alone

    p = np.where(both_alone, np.nan, paired_t(scores))
    reasons: dict[int, str] = {}  # why a row was not tested against the first
    networks = [({number: row.runs[0] for number, row in enumerate(table) if row.n == 1}, both_alone)]
    for column in range(len(seeds)):
        rows = {number: row.runs[row.seeds.index(seeds[column])] for number, row in enumerate(table) if held[number, column]}
        networks.append((rows, (common == 1) & np.outer(held[:, column], held[:, column]) & ~both_alone))
    for runs, pairs in networks:
        if np.triu(pairs, 1).any():
            p = np.where(pairs, _mcnemar(runs, len(table), reasons), p)

    above = np.triu_indices(len(table), 1)
    spreadless = ((common > 1) & ~both_alone & np.isnan(p))[above]  # tested, with no answer
    family = np.where(spreadless, 1.0, p[above])
    family[~np.isnan(family)] = holm(family[~np.isnan(family)])
    corrected = np.where(spreadless, np.nan, family)[: len(table) - 1]  # the pairs with row 0 come first
    found = [
        _verdict(table[0], table[number], float(corrected[number - 1]), reasons.get(number, reasons.get(0, "")))
        for number in range(1, len(table))
    ]
    return Verdicts(found, int((~np.isnan(family)).sum()))


def read_answers(path: Path) -> Answers:
    """The classes in the `predictions.safetensors` of a run.

    Raises:
        CheckpointError: missing, without the labels, of a regression, or unreadable.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            names = set(file.keys())
            if "prediction" in names:
                raise CheckpointError("a regression, which predicts no classes")
            if not {"class", "label"} <= names:
                raise CheckpointError(f"{path} lacks {' and '.join(sorted({'class', 'label'} - names))}")
            answers = Answers(file.get_tensor("class"), file.get_tensor("label"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if answers.predicted.ndim != 1 or answers.predicted.shape != answers.label.shape:
        raise CheckpointError(f"{path} has {answers.predicted.shape} classes and {answers.label.shape} labels")
    return answers


def _mcnemar(runs: dict[int, Run], count: int, reasons: dict[int, str]) -> NDArray[np.float64]:
    """p of each pair of `count` rows, of which `runs` has a network each; nan where there is none, or no answers of it.

    reasons: gets why, by row.
    """
    right: dict[int, NDArray[np.bool_]] = {}
    labels: dict[int, int] = {}
    for number, run in runs.items():
        try:
            answers = read_answers(run.directory.predictions)
        except CheckpointError as error:
            reasons[number] = str(error)
        else:
            right[number], labels[number] = answers.predicted == answers.label, hash(answers.label.tobytes())
    p = np.full((count, count), np.nan)
    for same in set(labels.values()):
        rows = [number for number, label in labels.items() if label == same]
        p[np.ix_(rows, rows)] = mcnemar(np.stack([right[row] for row in rows]))
    for number, label in labels.items():
        if label != labels.get(0, label):
            reasons[number] = "different test images"
    return p


def _verdict(first: Configuration, other: Configuration, p: float, reason: str) -> Verdict:
    """The corrected p (nan: not tested, for `reason`) in words."""
    own, others = ({run.seed: run.test for run in row.runs} for row in (first, other))
    seeds = sorted(own.keys() & others.keys())
    alone = first.n == other.n == 1
    difference = other.test.mean - first.test.mean
    if seeds and not alone:
        difference = sum(others[seed] - own[seed] for seed in seeds) / len(seeds)
    if np.isnan(p):
        if len(seeds) > 1:
            reason = "the same difference with every seed leaves no spread to go by"
        elif not seeds and not alone:
            reason = "no common seeds"
        return Verdict(difference, "", None, f"not tested: {reason}")
    who = "this network is " if alone else f"the network of seed {seeds[0]} is " if len(seeds) == 1 else ""
    if p >= LEVEL:
        words = "one seed each" if alone else f"seed {seeds[0]} alone in common" if len(seeds) == 1 else f"{len(seeds)} seeds"
        text = f"not distinguishable with {words}"
    else:
        text = who + ("better on the test images" if (difference > 0) == first.runs[0].higher_is_better else "worse")
    return Verdict(difference, MCNEMAR if who else PAIRED_T, p, text)
