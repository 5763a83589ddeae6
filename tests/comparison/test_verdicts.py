"""The first configuration against the others: which test is used, and for what it is corrected."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_runs import LABELS, failed_run, fake_run
from safetensors.numpy import save_file

from cnnlab.comparison import presentation
from cnnlab.comparison.runs import read_runs
from cnnlab.comparison.tables import Table, configurations, tables
from cnnlab.comparison.verdicts import MCNEMAR, PAIRED_T, Verdict

BEST, WORSE = ([0.95, 0.96, 0.97], 0), ([0.92, 0.94, 0.93], 0)  # p of the pair: differences -0.03, -0.02, -0.04, t = -5.196
P = 0.0351  # with 2 degrees of freedom


def judged(path: Path) -> tuple[Table, list[Verdict]]:
    (table,) = tables(*configurations(read_runs([str(path)])))
    return table, table.verdicts.rows


def seeds(path: Path, optimizer: str, tests: Sequence[float], validation: float, first: int = 0) -> None:
    for seed, test in enumerate(tests, first):
        name = f"{optimizer}-{seed}"
        fake_run(path / name, f"optimizer={optimizer}", seed=seed, test=test, validation=validation, wrong=[seed])


def alone(path: Path, optimizer: str, validation: float, test: float, wrong: Sequence[int]) -> Path:
    return fake_run(path / optimizer, f"optimizer={optimizer}", validation=validation, test=test, wrong=wrong)


@pytest.mark.parametrize(
    ("rows", "expected", "num_tests"),
    [
        ([([0.95, 0.96, 0.97, 0.91], 0), WORSE], [P], 1),  # over the common seeds
        ([BEST, ([0.96, 0.95, 0.97], 0)], [1.0], 1),
        ([BEST, ([0.93, 0.96, 0.96], 1)], [0.2952], 1),  # seeds 1 and 2: -0.03 and -0.01, t = -2 with 1 degree of freedom
        (
            [BEST, WORSE, ([0.94, 0.96, 0.98], 0), ([0.5], 7)],
            [3 * P, 1.0, None],
            3,
        ),  # Holm: of pairs with common seeds
        ([BEST, WORSE, ([0.94, 0.95, 0.96], 0)], [3 * P, None], 3),  # a pair without spread counts, too
        ([([0.95, 0.97], 0), ([0.9], 1)], [None], 0),  # one seed in common says nothing of settings
        ([BEST, ([0.9], 1), ([0.8], 7)], [None, None], 1),  # the two with one seed each, by McNemar's test
        ([BEST, ([0.94, 0.95, 0.96], 0), ([0.94, 0.95], 7)], [None, None], 1),
    ],
)
def test_pairs_over_seeds(tmp_path: Path, rows: list, expected: list[float | None], num_tests: int) -> None:
    names = ("adam", "sgd", "adamw", "rmsprop")[: len(rows)]
    for number, (name, (tests, first)) in enumerate(zip(names, rows, strict=True)):
        seeds(tmp_path, name, tests, 0.99 - 0.01 * number, first)
    table, verdicts = judged(tmp_path)
    assert [verdict.p if verdict.p is None else round(verdict.p, 4) for verdict in verdicts] == [
        p if p is None else pytest.approx(p, abs=2e-4) for p in expected
    ]
    assert table.verdicts.num_tests == num_tests
    for verdict in verdicts:
        assert (verdict.text == "worse") == (verdict.p is not None and verdict.p < 0.05)
        assert (verdict.test == PAIRED_T) == (verdict.p is not None)


def test_one_seed_each_is_mcnemar(tmp_path: Path) -> None:
    alone(tmp_path, "adam", 0.99, 0.98, [0, 1])
    alone(tmp_path, "sgd", 0.95, 0.9, range(1, 11))
    _, (verdict,) = judged(tmp_path)
    # Only adam is right on 9 images, only sgd on 1: 2 (C(10,0) + C(10,1)) / 2^10.
    assert (verdict.test, verdict.p, verdict.difference) == (MCNEMAR, pytest.approx(22 / 1024), pytest.approx(-0.08))
    # Row 1 was chosen by its scores, so that any pair could have been shown: Holm's correction is for all three.
    alone(tmp_path, "adamw", 0.94, 0.97, [0, 1, 2])
    table, (sgd, adamw) = judged(tmp_path)
    assert table.verdicts.num_tests == 3
    assert (sgd.p, adamw.p) == (pytest.approx(66 / 1024), 1)


@pytest.mark.parametrize(
    ("changes", "metric", "first", "second", "better"),
    [
        ([], "accuracy", [0.95, 0.96, 0.97], [0.92, 0.94, 0.93], False),
        ([], "accuracy", [0.80, 0.81, 0.82], [0.95, 0.97, 0.96], True),  # best by validation, worse on the test images
        (["task=regression"], "mae", [1.0, 1.01, 1.04], [2.0, 2.02, 2.08], False),  # a smaller error is better
        (["task=regression"], "mae", [2.0, 2.02, 2.08], [1.0, 1.01, 1.04], True),
    ],
)
def test_the_direction(
    tmp_path: Path, changes: list[str], metric: str, first: list[float], second: list[float], better: bool
) -> None:
    for name, tests, validation in (("adam", first, 0.9), ("sgd", second, 0.8 if metric == "accuracy" else 1.0)):
        for seed, test in enumerate(tests):
            line = (*changes, f"optimizer={name}")
            fake_run(tmp_path / f"{name}{seed}", *line, seed=seed, metric=metric, test=test, validation=validation)
    _, (verdict,) = judged(tmp_path)
    assert ("better" in verdict.text, "worse" in verdict.text) == (better, not better)


def test_seeds_without_a_score_are_counted(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96], 0.99)
    seeds(tmp_path, "sgd", [0.93, 0.94], 0.90)
    for seed in (2, 3):
        failed_run(tmp_path / f"lost{seed}", "optimizer=adam", seed=seed)
    assert judged(tmp_path)[0].lost == [2, 0]


@pytest.mark.parametrize(
    "tensors",
    [
        None,
        {"class": LABELS},
        {"class": LABELS, "label": LABELS[::-1].copy()},
        {"class": LABELS[:50].copy(), "label": LABELS[:50].copy()},
        {"class": LABELS[:50].copy(), "label": LABELS},
        {"prediction": LABELS.astype(np.float32), "label": LABELS},
        {"class": np.full(100, np.nan), "label": np.full(100, np.nan)},
        b"nonsense",
    ],
)
def test_predictions_that_cannot_be_paired(tmp_path: Path, tensors: dict | bytes | None) -> None:
    alone(tmp_path, "adam", 0.99, 0.9, [3])
    other = alone(tmp_path, "sgd", 0.9, 0.9, [3]) / "predictions.safetensors"
    assert judged(tmp_path)[1][0].p == 1  # the same predictions
    other.unlink()
    if isinstance(tensors, bytes):
        other.write_bytes(tensors)
    elif tensors is not None:
        save_file(tensors, other)
    table, (verdict,) = judged(tmp_path)
    assert (verdict.p, table.verdicts.num_tests) == (None, 0)


def test_values_for_programs_are_not_rounded(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [1 / 3, 2 / 3], 0.99)
    table, _ = judged(tmp_path)
    values = json.loads(json.dumps(presentation.as_values(table, 1, ["optimizer", "optimizer.lr", "no.such"])))
    assert values["settings"] == {"optimizer": "adam", "optimizer.lr": 0.001, "no.such": None}
    assert (values["seeds"], values["n"], values["test_mean"], values["parameters"]) == ([0, 1], 2, 0.5, 61_706)
    assert values["test_std"] == pytest.approx(1 / 18**0.5, rel=1e-12)
    low, high = values["test_interval"]
    assert (high - low) / 2 == pytest.approx(12.7062047362 / 6, rel=1e-9)  # t(0.975, 1) std / sqrt(2)
