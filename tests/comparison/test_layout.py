"""A table in the width of a terminal."""

from pathlib import Path

import pytest
from fake_runs import fake_run
from rich.cells import cell_len

from cnnlab.comparison import layout
from cnnlab.comparison.runs import read_runs
from cnnlab.comparison.tables import Table, configurations, in_order, tables


@pytest.fixture
def table(tmp_path: Path) -> Table:
    for seed in range(3):
        for model, rate in (("lenet", 0.001), ("mlp", 0.001), ("mlp", 0.0316227766)):
            name = f"{model}-lr{rate}-a-long-name-of-a-run-seed{seed}"
            fake_run(tmp_path / name, f"model={model}", f"optimizer.lr={rate}", seed=seed, test=0.9 + 0.01 * seed)
    (made,) = tables(configurations(read_runs([str(tmp_path)]))[0])
    return made


@pytest.mark.parametrize("width", [74, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(table: Table, width: int) -> None:
    lines, missing = layout.lines(table, in_order(table), width)
    assert max(map(cell_len, lines)) <= width
    heads = lines[0].split()
    assert {"model", "lr", "n", "test", "run"} <= set(heads)
    assert "95 % interval" in missing


def test_settings_stay_where_names_of_runs_would_be_taken_for_each_other(tmp_path: Path) -> None:
    for batch in (32, 64):
        for rate in (0.001, 0.003):
            name = f"lenet-lr{rate}-batch_size{batch}-seed0"
            fake_run(tmp_path / name, f"optimizer.lr={rate}", f"trainer.batch_size={batch}", test=0.9 + rate)
    (made,) = tables(configurations(read_runs([str(tmp_path)]))[0])
    lines, missing = layout.lines(made, in_order(made), 60)
    assert {"lr", "batch_size"} <= set(lines[0].split())
    assert "run" in missing


def test_without_a_limit_everything_is_there(table: Table) -> None:
    lines, missing = layout.lines(table, in_order(table), None)
    assert missing == []
    assert "optimizer.lr" in lines[0]
    assert "lenet-lr0.001-a-long-name-of-a-run-seed0 +2" in lines[1]
    assert layout.lines(table, in_order(table), max(map(cell_len, lines))) == (lines, [])
