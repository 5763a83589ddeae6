"""The best configuration of a table tested against each of the others, in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnlab.comparison.configuration import Configuration
from cnnlab.comparison.statistics import LEVEL, holm, mcnemar, paired_t
from cnnlab.errors import CheckpointError

MCNEMAR, PAIRED_T = "exact McNemar test", "paired t-test"


@dataclass(frozen=True)
class Verdict:
    """A configuration against the best one.

    difference: of the test scores, less the best one's (over the common seeds, where there are any). test: MCNEMAR,
    PAIRED_T, or empty where nothing could be tested. p: Holm-corrected. text: plain words.
    """

    difference: float
    test: str
    p: float | None
    text: str


@dataclass(frozen=True)
class Answers:
    """What a classifier said of each test image: class and true class, int64, N."""

    predicted: NDArray[np.int64]
    label: NDArray[np.int64]


def against_best(best: Configuration, others: Sequence[Configuration]) -> list[Verdict]:
    """A verdict for each of `others`, measured on the same images as `best`.

    With one seed each, or one seed in common: McNemar's exact test on the images. Else the paired t-test over the common seeds.
    """
    answers = lru_cache(maxsize=2)(read_answers)  # the best one's are read once
    found = [_compare(best, other, answers) for other in others]
    adjusted = iter(holm([p for _, _, p, _ in found if p is not None]))
    higher = best.runs[0].higher_is_better
    verdicts = []
    for difference, test, p, words in found:
        if p is not None:
            p = next(adjusted)
            better = (difference > 0) == higher
            words = f"not distinguishable {words}" if p >= LEVEL else "better on the test images" if better else "worse"
        verdicts.append(Verdict(difference, test, p, words))
    return verdicts


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


def _compare(
    best: Configuration, other: Configuration, answers: Callable[[Path], Answers]
) -> tuple[float, str, float | None, str]:
    """Difference, test, uncorrected p, and words: how many seeds, or why there is no p."""
    by_seed = [{run.seed: run for run in row.runs} for row in (best, other)]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    alone = best.n == other.n == 1
    if alone or len(seeds) == 1:
        pair = [row.runs[0] if alone else runs[seeds[0]] for row, runs in zip((best, other), by_seed, strict=True)]
        difference = pair[1].test - pair[0].test
        try:
            first, second = (answers(run.directory.predictions) for run in pair)
        except CheckpointError as error:
            return difference, "", None, f"not tested: {error}"
        if not np.array_equal(first.label, second.label):
            return difference, "", None, "not tested: different test images"
        p = mcnemar(first.predicted == first.label, second.predicted == second.label)
        return difference, MCNEMAR, p, "with one seed each" if alone else f"with seed {seeds[0]} alone in common"
    if not seeds:
        return other.test.mean - best.test.mean, "", None, "not tested: no common seeds"
    ours, theirs = ([runs[seed].test for seed in seeds] for runs in by_seed)
    difference = sum(theirs) / len(seeds) - sum(ours) / len(seeds)
    found = paired_t(theirs, ours)
    if found is None:
        return difference, "", None, "not tested: the same difference with every seed leaves no spread to go by"
    return difference, PAIRED_T, found, f"with {len(seeds)} seeds"
