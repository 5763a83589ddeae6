"""A ledger of results: entries found again by recipe and seed, kept whole beside other processes and damage."""

import datetime
import json
import multiprocessing
from pathlib import Path

import pytest
from fake_runs import fake_run

from cnnlab.errors import CheckpointError
from cnnlab.tracking.run import RunDirectory
from scripts import ledger


def entry(seed: int, test: float) -> ledger.Entry:
    base = {"id": "x", "recipe": "r", "precision": "fp32", "seed": seed, "train": 0.9, "test": test}
    return base | {"parameters": 100, "seconds": 10.0, "device": "CPU", "threads": 2, "date": "2026-11-21"}


WRONG = ("0.5", True, float("nan"), float("inf"), 99.37, -3)


def test_the_entry_of_a_run(tmp_path: Path) -> None:
    run = RunDirectory(fake_run(tmp_path / "run", validation=None, ended=1_000_000_000))
    made_on = {"device": "CPU", "instructions": "AVX2", "packages": {"torch": "2"}}
    run.environment.write_text(json.dumps(json.loads(run.environment.read_text()) | made_on))
    found = ledger.entry("x", run)
    assert found["recipe"] == ledger.recipe("data=digits")
    assert found["date"] == datetime.date.fromtimestamp(1_000_000_000).isoformat()
    assert (found["train"], found["test"], found["parameters"], found["torch"]) == (0.9, 0.9, 61_706, "2")


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
