"""The ledger of results: found again by recipe and seed, compared with what was published."""

import datetime
import json
import multiprocessing
from pathlib import Path
from statistics import fmean

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


@pytest.mark.parametrize(
    ("tests", "train", "verdict"),
    [
        ((0.890, 0.892), 0.90, "reproduced"),
        ((0.8801, 0.8801), 0.90, "reproduced"),  # 0.010 below
        ((0.8790, 0.8790), 0.90, "test 0.0010 below its tolerance"),
        ((0.95, 0.95), 0.90, "reproduced"),  # better is no failure
        ((0.89, 0.89), 0.8790, "training 0.0010 below its tolerance"),
        ((0.87, 0.87), 0.87, "training 0.0100 below its tolerance and test 0.0100 below its tolerance"),
    ],
)
def test_means_against_the_tolerance(tests: tuple[float, float], train: float, verdict: str) -> None:
    entries = [entry(seed, test, train=train) for seed, test in enumerate(tests)]
    (row,) = ledger.compare({"x": {"train": 0.90, "test": 0.89}}, {("x", "fp32"): "r"}, entries)
    assert (row.verdict, row.within) == (verdict, verdict == "reproduced")
    assert row.differences == pytest.approx((train - 0.90, fmean(tests) - 0.89))
    assert (row.n, row.test.mean) == (2, pytest.approx(fmean(tests)))
    # The sample standard deviation of two numbers is their distance over the root of two.
    assert row.test.std == pytest.approx(abs(tests[0] - tests[1]) / 2**0.5)


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
    assert (row.within, row.verdict, row.differences) == (None, "none published", (None, None))
    assert (row.test.std, str(row.test)) == (None, "0.9000")
