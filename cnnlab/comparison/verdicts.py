"""The first configuration of a table tested against each of the others, in words.

Which row is first depends on the scores that are tested: a run lucky on the validation images tends to be lucky on the test
images, too. So the tests are corrected for all pairs of the table; the verdicts then hold whichever row is first, and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.runs import Run
from cnnlab.comparison.statistics import LEVEL, corrected, mcnemar, paired_t
from cnnlab.errors import CheckpointError
from cnnlab.reading import MAX_RECORD, read_bytes

MCNEMAR, PAIRED_T = "exact McNemar test", "paired t-test"


@dataclass(frozen=True)
class Verdict:
    """A configuration against the first one of its table.

    difference: its test score minus the first one's (over the common seeds, if any). test: MCNEMAR, PAIRED_T, or empty if
    nothing could be tested. p: Holm-corrected. short: better, worse, not distinguishable or not tested. text: the same with
    details: the number of seeds, or why it was not tested.
    """

    difference: float
    test: str
    p: float | None
    short: str
    text: str


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on all rows but the first. num_tests: the pairs that p is corrected for. num_seeds: the fewest common seeds
    in a paired t-test with the first row, None without such a test."""

    rows: list[Verdict]
    num_tests: int
    num_seeds: int | None


@dataclass(frozen=True)
class Answers:
    """A classifier's predicted class and the true class of each test image: int64, N."""

    predicted: NDArray[np.int64]
    label: NDArray[np.int64]


def judge(table: Sequence[Configuration]) -> Verdicts:
    """Test all pairs of rows of a table, measured on the same images, and judge those with the first row.

    Two rows with one seed each are compared by McNemar's exact test on the images, which is about these two networks; other
    rows by the paired t-test over two or more common seeds. All pairs are one family for Holm's correction.
    """
    seeds = sorted({seed for row in table for seed in row.seeds})
    scores = np.full((len(table), len(seeds)), np.nan)
    for number, row in enumerate(table):
        scores[number, np.searchsorted(seeds, row.seeds)] = [run.test for run in row.runs]
    held = (~np.isnan(scores)).astype(int)
    common, p = held @ held.T, paired_t(scores)
    spreadless = (common > 1) & np.isnan(p)
    alone = [number for number, row in enumerate(table) if row.n == 1]
    reasons: dict[int, str] = {}  # why the network of a row was not tested against the first row's
    if len(alone) > 1:
        p[np.ix_(alone, alone)] = _mcnemar([table[number].runs[0] for number in alone], alone, reasons)
    final, num_tests = corrected(p, spreadless)
    others = range(1, len(table))
    found = [_verdict(table[0], table[row], final[0, row], reasons.get(row, reasons.get(0, ""))) for row in others]
    counts = [int(common[0, row]) for row, verdict in zip(others, found, strict=True) if verdict.test == PAIRED_T]
    return Verdicts(found, num_tests, min(counts, default=None))


def read_answers(path: Path) -> Answers:
    """Read the classes in the `predictions.safetensors` of a run.

    Raises:
        CheckpointError: missing, without the labels, of a regression, not of integers, or unreadable.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        held = load(read_bytes(path, MAX_RECORD))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # KeyError: a dtype that NumPy does not have
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if "prediction" in held:
        raise CheckpointError("a regression predicts no classes")
    if not {"class", "label"} <= held.keys():
        raise CheckpointError(f"{path} lacks {' and '.join(sorted({'class', 'label'} - held.keys()))}")
    answers = Answers(held["class"], held["label"])
    if kinds := {str(array.dtype) for array in (answers.predicted, answers.label)} - {"int64"}:
        raise CheckpointError(f"{path} holds classes of {' and '.join(sorted(kinds))}, expected int64")
    if answers.predicted.ndim != 1 or answers.predicted.shape != answers.label.shape:
        raise CheckpointError(f"{path} has {answers.predicted.shape} classes and {answers.label.shape} labels")
    return answers


def _mcnemar(runs: Sequence[Run], rows: Sequence[int], reasons: dict[int, str]) -> NDArray[np.float64]:
    """Return p for each pair of networks; nan if a network's answers cannot be read or are for other images.

    rows: the networks' rows in the table; reasons: receives, by row, why it was not tested.
    """
    right: dict[int, NDArray[np.bool_]] = {}
    labels: dict[int, int] = {}
    for number, (run, row) in enumerate(zip(runs, rows, strict=True)):
        try:
            answers = read_answers(run.directory.predictions)
        except CheckpointError as error:
            reasons[row] = str(error)
        else:
            right[number], labels[number] = answers.predicted == answers.label, hash(answers.label.tobytes())
            if labels[number] != labels.get(0, labels[number]):
                reasons[row] = "different test images"
    p = np.full((len(runs), len(runs)), np.nan)
    for same in set(labels.values()):
        alike = [number for number, label in labels.items() if label == same]
        p[np.ix_(alike, alike)] = mcnemar(np.stack([right[number] for number in alike]))
    return p


def _verdict(first: Configuration, other: Configuration, p: float, reason: str) -> Verdict:
    """Put the corrected p (nan: not tested, for `reason`) into words."""
    own, others = ({run.seed: run.test for run in row.runs} for row in (first, other))
    seeds = sorted(own.keys() & others.keys())
    alone = first.n == other.n == 1
    difference = other.test.mean - first.test.mean
    if seeds:
        difference = sum(others[seed] - own[seed] for seed in seeds) / len(seeds)
    if np.isnan(p):
        if not alone:
            reason = "the difference is the same with every seed, so there is no spread to test"
            if len(seeds) < 2:
                reason = f"only seed {seeds[0]} in common" if seeds else "no common seeds"
        return Verdict(difference, "", None, "not tested", f"not tested: {reason}")
    if p >= LEVEL:
        short = "not distinguishable"
        text = f"{short} with {'one seed each' if alone else f'{len(seeds)} seeds'}"
    else:
        short = "better" if (difference > 0) == first.runs[0].higher_is_better else "worse"
        text = ("this network is " if alone else "") + short + (" on the test images" if short == "better" else "")
    return Verdict(difference, MCNEMAR if alone else PAIRED_T, float(p), short, text)
