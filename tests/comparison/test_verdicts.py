"""The first configuration against the others: which test is used, for what it is corrected, and what is said of it."""

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


def judged(path: Path) -> tuple[Table, list[Verdict]]:
    (table,) = tables(configurations(read_runs([str(path)]))[0])
    return table, table.verdicts.rows


def seeds(path: Path, optimizer: str, tests: Sequence[float], validation: float, first: int = 0) -> None:
    for seed, test in enumerate(tests, first):
        name = f"{optimizer}-{seed}"
        fake_run(path / name, f"optimizer={optimizer}", seed=seed, test=test, validation=validation, wrong=[seed])


def test_one_seed_each_is_mcnemar(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "optimizer=adam", validation=0.99, test=0.98, wrong=[0, 1])
    fake_run(tmp_path / "b", "optimizer=sgd", validation=0.95, test=0.9, wrong=range(1, 11))
    table, (verdict,) = judged(tmp_path)
    # Only adam is right on 9 images, only sgd on 1: 2 (C(10,0) + C(10,1)) / 2^10.
    assert (verdict.test, verdict.text) == (MCNEMAR, "this network is worse")
    assert verdict.p == pytest.approx(22 / 1024)
    assert verdict.difference == pytest.approx(-0.08)
    assert any("about these trained networks" in note for note in presentation.notes(table))


def test_several_seeds_are_a_paired_t_test_over_the_common_ones(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96, 0.97, 0.91], 0.99)
    seeds(tmp_path, "sgd", [0.92, 0.94, 0.93], 0.90)
    _, (verdict,) = judged(tmp_path)
    # Differences -0.03, -0.02, -0.04: t = -0.03 / (0.01 / sqrt(3)) = -5.196, p = 0.0351 with 2 degrees of freedom.
    assert (verdict.test, verdict.text) == (PAIRED_T, "worse")
    assert verdict.difference == pytest.approx(-0.03)
    assert verdict.p == pytest.approx(0.0351, abs=5e-5)
    assert presentation.verdict_cells(verdict) == ["-0.0300", "0.0351", "worse"]


def test_no_difference_is_said_plainly(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96, 0.97], 0.99)
    seeds(tmp_path, "sgd", [0.96, 0.95, 0.97], 0.90)
    _, (verdict,) = judged(tmp_path)
    assert verdict.p == pytest.approx(1)
    assert verdict.text == "not distinguishable with 3 seeds"


def test_the_best_by_validation_may_be_worse_on_the_test_images(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.80, 0.81, 0.82], 0.99)
    seeds(tmp_path, "sgd", [0.95, 0.97, 0.96], 0.90)
    _, (verdict,) = judged(tmp_path)
    assert verdict.text == "better on the test images"


def test_a_smaller_error_is_better(tmp_path: Path) -> None:
    for name, base in (("adam", 1.0), ("sgd", 2.0)):
        for seed in range(3):
            test = base + 0.01 * seed**2 * base
            fake_run(
                tmp_path / f"{name}{seed}", "task=regression", f"optimizer={name}", seed=seed, metric="mae", test=test,
                validation=test,
            )  # fmt: skip
    table, (verdict,) = judged(tmp_path)
    assert table.rows[0].test.mean < 1.1
    assert verdict.text == "worse"
    assert "lower is better" in presentation.notes(table)[0]


def test_holm_counts_only_what_was_tested(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96, 0.97], 0.99)
    seeds(tmp_path, "sgd", [0.92, 0.94, 0.93], 0.90)  # p = 0.0351 alone
    seeds(tmp_path, "adamw", [0.94, 0.96, 0.98], 0.89)  # no difference
    seeds(tmp_path, "rmsprop", [0.5], 0.88, first=7)  # not tested
    table, verdicts = judged(tmp_path)
    assert [verdict.text for verdict in verdicts] == [
        "not distinguishable with 3 seeds",
        "not distinguishable with 3 seeds",
        "not tested: no common seeds",
    ]
    # Three of the six pairs have seeds in common: adam and sgd, adam and adamw, sgd and adamw.
    assert table.verdicts.num_tests == 3
    assert verdicts[0].p == pytest.approx(3 * 0.0351, abs=2e-4)
    assert any("all 3 pairs" in note for note in presentation.notes(table))


def test_one_seed_in_common_says_nothing_of_settings(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.97], 0.99)
    fake_run(tmp_path / "b", "optimizer=sgd", seed=1, validation=0.95, test=0.9, wrong=range(10, 20))
    table, (verdict,) = judged(tmp_path)
    assert (verdict.test, verdict.p, verdict.text) == ("", None, "not tested: only seed 1 in common")
    assert verdict.difference == pytest.approx(0.9 - 0.97)
    assert table.verdicts.num_tests == 0


def test_pairs_without_row_1_count_too(tmp_path: Path) -> None:
    """Row 1 was chosen by its scores, so that any pair could have been shown."""
    fake_run(tmp_path / "a", "optimizer=adam", validation=0.99, test=0.98, wrong=[0, 1])
    fake_run(tmp_path / "b", "optimizer=sgd", validation=0.95, test=0.9, wrong=range(1, 11))  # 22 / 1024 against adam
    fake_run(tmp_path / "c", "optimizer=adamw", validation=0.94, test=0.97, wrong=[0, 1, 2])  # 1 against adam
    table, (sgd, adamw) = judged(tmp_path)
    # sgd and adamw: only adamw is right on 8 images, only sgd on 1: 2 (1 + 9) / 2^9 = 0.0391. Holm: 22 / 1024 x 3.
    assert table.verdicts.num_tests == 3
    assert (sgd.p, adamw.p) == (pytest.approx(66 / 1024), 1)
    assert sgd.text == "not distinguishable with one seed each"


def test_single_seeds_beside_several(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.97, 0.96], 0.99)
    fake_run(tmp_path / "b", "optimizer=sgd", seed=1, validation=0.95, test=0.9, wrong=range(10, 20))
    fake_run(tmp_path / "c", "optimizer=adamw", seed=7, validation=0.94, test=0.8, wrong=range(10, 30))
    table, (sgd, adamw) = judged(tmp_path)
    assert table.verdicts.num_tests == 1  # sgd and adamw, one seed each
    assert (sgd.text, adamw.text) == ("not tested: only seed 1 in common", "not tested: no common seeds")


def test_the_note_counts_the_seeds_in_common(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96, 0.97], 0.99)
    seeds(tmp_path, "sgd", [0.93, 0.96, 0.96], 0.90, first=1)
    table, (verdict,) = judged(tmp_path)
    assert verdict.text == "not distinguishable with 2 seeds"
    # t(0.975, 1) / sqrt(2) = 12.7062 / 1.41421
    assert any("With 2 seeds a difference must be at least 9.0 times" in note for note in presentation.notes(table))


def test_what_the_seeds_that_are_missing_did(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96], 0.99)
    seeds(tmp_path, "sgd", [0.93, 0.94], 0.90)
    for seed in (2, 3):
        failed_run(tmp_path / f"lost{seed}", "optimizer=adam", seed=seed)
    rows, left_out = configurations(read_runs([str(tmp_path)]))
    (table,) = tables(rows, left_out)
    assert table.lost == [2, 0]
    assert any("not in n (row 1: 2)" in note for note in presentation.notes(table))


def test_a_pair_without_spread_still_counts(tmp_path: Path) -> None:
    """It was tested, with no answer: that must not make the correction of the others smaller."""
    seeds(tmp_path, "adam", [0.95, 0.96, 0.97], 0.99)
    seeds(tmp_path, "sgd", [0.92, 0.94, 0.93], 0.90)
    seeds(tmp_path, "rmsprop", [0.94, 0.95, 0.96], 0.89)  # 0.01 below adam with every seed
    table, (sgd, rmsprop) = judged(tmp_path)
    assert rmsprop.p is None
    assert table.verdicts.num_tests == 3
    assert sgd.p == pytest.approx(3 * 0.0351, abs=2e-4)


def test_why_nothing_can_be_said(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [0.95, 0.96, 0.97], 0.99)
    seeds(tmp_path, "sgd", [0.94, 0.95, 0.96], 0.98)
    seeds(tmp_path, "rmsprop", [0.94, 0.95], 0.97, first=7)
    table, verdicts = judged(tmp_path)
    assert [verdict.p for verdict in verdicts] == [None, None]
    assert "same difference with every seed" in verdicts[0].text
    assert "no common seeds" in verdicts[1].text
    assert presentation.verdict_cells(verdicts[0])[:2] == ["-0.0100", "-"]
    assert not any("Tested" in note for note in presentation.notes(table))


def test_identical_predictions(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "optimizer=adam", wrong=[3])
    fake_run(tmp_path / "b", "optimizer=sgd", wrong=[3])
    _, (verdict,) = judged(tmp_path)
    assert (verdict.p, verdict.text) == (1, "not distinguishable with one seed each")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (None, "predictions.safetensors is missing"),
        ({"class": LABELS}, "lacks label"),
        ({"class": LABELS, "label": LABELS[::-1].copy()}, "different test images"),
        ({"class": LABELS[:50].copy(), "label": LABELS[:50].copy()}, "different test images"),
        ({"class": LABELS[:50].copy(), "label": LABELS}, "(50,) classes"),
        ({"prediction": LABELS.astype(np.float32), "label": LABELS}, "a regression"),
        (b"nonsense", "cannot be read"),
    ],
)
def test_predictions_that_cannot_be_paired(tmp_path: Path, tensors: dict | bytes | None, says: str) -> None:
    fake_run(tmp_path / "a", "optimizer=adam", validation=0.99, wrong=[3])
    other = fake_run(tmp_path / "b", "optimizer=sgd") / "predictions.safetensors"
    if isinstance(tensors, bytes):
        other.write_bytes(tensors)
    elif tensors is not None:
        save_file(tensors, other)
    _, (verdict,) = judged(tmp_path)
    assert verdict.p is None
    assert verdict.text.startswith("not tested: ")
    assert says in verdict.text


def test_values_for_programs_are_not_rounded(tmp_path: Path) -> None:
    seeds(tmp_path, "adam", [1 / 3, 2 / 3], 0.99)
    table, _ = judged(tmp_path)
    values = json.loads(json.dumps(presentation.as_values(table, 1, ["optimizer", "optimizer.lr", "no.such"])))
    assert values["settings"] == {"optimizer": "adam", "optimizer.lr": 0.001, "no.such": None}
    assert (values["seeds"], values["n"], values["test_mean"], values["parameters"]) == ([0, 1], 2, 0.5, 61_706)
    assert values["test_std"] == pytest.approx(1 / 18**0.5, rel=1e-12)
    low, high = values["test_interval"]
    assert (high - low) / 2 == pytest.approx(12.7062047362 / 6, rel=1e-9)  # t(0.975, 1) std / sqrt(2)
