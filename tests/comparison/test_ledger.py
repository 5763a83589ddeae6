"""The ledger of results: found again by recipe and seed, compared with what was published."""

import datetime
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from fake_runs import fake_run

from cnnlab.comparison import ledger, published
from cnnlab.errors import CheckpointError
from cnnlab.tracking.run import RunDirectory


def entry(seed: int, test: float, **more: object) -> ledger.Entry:
    base = {"id": "x", "recipe": "r", "precision": "fp32", "seed": seed, "train": 0.9, "test": test}
    return base | {"parameters": 100, "seconds": 10.0, "device": "CPU", "threads": 2, "date": "2026-11-21"} | more


WRONG = ("0.5", True, float("nan"), float("inf"), 99.37, -3)


def test_the_date_is_that_of_the_run(tmp_path: Path) -> None:
    run = RunDirectory(fake_run(tmp_path / "run", validation=None, ended=1_000_000_000))
    environment = json.loads(run.environment.read_text()) | {
        "device": "CPU",
        "instructions": "AVX2",
        "packages": {"torch": "2"},
    }
    run.environment.write_text(json.dumps(environment))
    found = ledger.entry("x", run)
    assert found["date"] == datetime.date.fromtimestamp(1_000_000_000).isoformat()
    assert (found["train"], found["test"], found["parameters"]) == (0.9, 0.9, 61_706)


def test_entries_survive_and_replace_their_like(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert ledger.read(path) == []
    for one in (entry(1, 0.5), entry(0, 0.6), entry(1, 0.7)):
        ledger.add(path, one)
    assert [(one["seed"], one["test"]) for one in ledger.read(path)] == [(0, 0.6), (1, 0.7)]


def test_no_entry_of_many_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(ledger.add, [(path, entry(seed, 0.5)) for seed in range(12)])
    assert [one["seed"] for one in ledger.read(path)] == list(range(12))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"id": "x"}]', *(json.dumps([entry(0, wrong)]) for wrong in WRONG)])
def test_a_damaged_ledger_is_told_and_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"results\.json"):
        ledger.add(path, entry(0, 0.5))
    assert path.read_text() == text


def compared(tests: Sequence[float], train: float, goals: dict[str, float | None]) -> ledger.Comparison:
    entries = [entry(seed, test, train=train) for seed, test in enumerate(tests)]
    (row,) = ledger.compare({"x": goals}, {("x", "fp32"): "r"}, entries)
    return row


@pytest.mark.parametrize(
    ("tests", "train", "verdict"),
    [
        ((0.890, 0.892), 0.90, "within tolerance"),
        ((0.8801, 0.8801), 0.90, "within tolerance"),  # 0.0099 below
        ((0.8790,), 0.90, "test measured 0.0010 below the tolerance"),
        ((0.9010,), 0.90, "test measured 0.0010 above the tolerance"),
        ((0.89, 0.89), 0.8790, "training measured 0.0010 below the tolerance"),
        ((0.87,), 0.87, "training measured 0.0100 below the tolerance and test measured 0.0100 below the tolerance"),
    ],
)
def test_one_or_two_seeds_against_the_tolerance(tests: tuple[float, ...], train: float, verdict: str) -> None:
    row = compared(tests, train, {"train": 0.90, "test": 0.89})
    assert (row.verdict, row.fails(1), row.fails(20)) == (verdict, "measured" in verdict, "measured" in verdict)
    assert [figure.difference for figure in row.figures] == pytest.approx([train - 0.90, fmean(tests) - 0.89])
    assert [figure.interval() for figure in row.figures] == [None, None]


@pytest.mark.parametrize(
    ("goal", "verdict", "fails", "fails_of_28"),
    [
        # 0.88, 0.89, 0.90: 0.89 ± 4.30265 x 0.01 x sqrt(4 / 3) = 0.89 ± 0.049683; of 28 figures t(1 - 0.025 / 28, 2) = 23.6326
        (0.9396, "reproduced", False, False),
        (0.8404, "reproduced", False, False),
        (0.9407, "test published 0.0010 above our seeds' interval", True, False),
        (0.8393, "test published 0.0010 below our seeds' interval", True, False),
        (0.6000, "test published 0.2403 below our seeds' interval", True, True),  # 0.89 - 23.6326 x 0.011547 = 0.6171
    ],
)
def test_three_seeds_against_their_prediction_interval(goal: float, verdict: str, fails: bool, fails_of_28: bool) -> None:
    row = compared((0.88, 0.89, 0.90), 0.9, {"train": None, "test": goal})
    assert (row.verdict, row.fails(1), row.fails(28)) == (verdict, fails, fails_of_28)
    assert row.figures[0].interval() == pytest.approx((0.89 - 0.049683, 0.89 + 0.049683), abs=1e-6)


def test_a_narrow_interval_alone_is_no_failure() -> None:
    """Three seeds may agree by chance; a figure that is within its tolerance is not contradicted by that."""
    row = compared((0.8900, 0.8901, 0.8902), 0.9, {"train": None, "test": 0.8950})
    assert "above our seeds' interval" in row.verdict
    assert not row.fails(1)


def test_pooled_seeds_of_mlp_cifar_1_by_hand() -> None:
    # An audit's figures for seeds 0 to 9: 0.4653 ± 0.0121, interval 0.437 to 0.494.
    tests = (0.4581, 0.4825, 0.4549, 0.4667, 0.4517, 0.4648, 0.4814, 0.4746, 0.4481, 0.4703)
    row = compared(tests, 0.5, {"train": None, "test": 0.4748})
    assert str(row.test) == "0.4653 ± 0.0121"
    assert row.figures[0].interval() == pytest.approx((0.437, 0.494), abs=5e-4)


@pytest.mark.parametrize(
    ("change", "same", "says"),
    [
        ({}, True, "every digit"),
        ({"seconds": 99.0, "date": "2027-01-01", "torch": "3"}, True, "every digit"),
        ({"test": 0.5001}, False, "not the same: train +0.0000, test +0.0001"),
        ({"test": 0.5001, "torch": "3"}, True, "within the tolerance: train +0.0000, test +0.0001 (torch 3 here, 2 then)"),
        ({"test": 0.4899, "threads": 1}, False, "outside the tolerance"),
        ({"train": 0.93, "device": "other"}, False, "outside the tolerance"),
    ],
)
def test_a_result_measured_again(change: dict[str, Any], same: bool, says: str) -> None:
    old = entry(0, 0.5, torch="2", instructions="AVX2")
    found = ledger.agreement(old, old | change)
    assert found[0] is same
    assert says in found[1]


def test_an_entry_without_an_instruction_set_is_of_another_machine() -> None:
    old = entry(0, 0.5, torch="2")
    same, words = ledger.agreement(old, old | {"instructions": "AVX2", "test": 0.501})
    assert same
    assert "instructions AVX2 here, not recorded then" in words


def test_both_precisions_side_by_side() -> None:
    recipes = {(name, precision): name + precision for name in ("x", "y", "z") for precision in ("fp32", "bf16")}
    scores = {"xfp32": (0.50, 0.70), "xbf16": (0.62,), "yfp32": (0.80,), "ybf16": (0.78,), "zfp32": (0.9,)}
    entries = [
        entry(seed, test, id=recipe[0], recipe=recipe, precision=recipe[1:])
        for recipe, tests in scores.items()
        for seed, test in enumerate(tests)
    ]
    page = published.page(ledger.compare({}, recipes, entries), {})
    # +0.02 and -0.02: mean 0, standard deviation 0.02 * sqrt(2), so that the half-width is t(0.975, 1) * 0.02 = 12.7062 * 0.02
    assert "0.0000 on average over these 2 experiments, 95 % interval -0.2541 to +0.2541." in page
    assert "| x | 0.6000 ± 0.1414 | 0.6200 | +0.0200 |" in page
    assert "| y | 0.8000 | 0.7800 | -0.0200 |" in page
    assert "| z | 0.9" not in page
    alone = published.page(ledger.compare({}, recipes, entries[-1:]), {})
    assert "bfloat16" not in alone


def test_entries_of_an_older_recipe_do_not_count() -> None:
    assert ledger.compare({}, {("x", "fp32"): "new"}, [entry(0, 0.9)]) == []


def test_nothing_published_is_no_verdict() -> None:
    (row,) = ledger.compare({}, {("x", "fp32"): "r"}, [entry(0, 0.9)])
    assert (row.fails(1), row.verdict, row.figures) == (False, "none published", [])
    assert (row.test.std, str(row.test)) == (None, "0.9000")
