"""The settings that tell configurations apart."""

from pathlib import Path

import pytest
from fake_runs import fake_run

from cnnlab.comparison import columns
from cnnlab.comparison.runs import Run, read_runs

CASES = [
    # what the runs were started with, and the columns
    (["model=lenet", "model=mlp"], ["model"]),  # model.blocks, model.hidden, ... are what the names mean
    (["model=mlp", "model=mlp model.hidden=[64]"], ["model.hidden"]),
    (["model=lenet", "model=mlp", "model=mlp model.hidden=[64]"], ["model", "model.hidden"]),
    (["model=lenet", "model=mlp", "model=mlp model.dropout=0.5"], ["model", "model.dropout"]),
    (["optimizer=adam", "optimizer=sgd"], ["optimizer"]),
    (["optimizer=adam", "optimizer=sgd", "optimizer=sgd optimizer.lr=1"], ["optimizer", "optimizer.lr"]),
    (["optimizer=adam optimizer.lr=0.1", "optimizer=sgd optimizer.lr=0.3"], ["optimizer"]),
    (["augment=none", "augment=[flip,crop]", "augment=[crop]"], ["augment"]),
    (["augment=[crop]", "augment=[crop] augment.crop.padding=2"], ["augment.crop.padding"]),
    (["trainer.epochs=1", "trainer.epochs=2 model=mlp"], ["model", "trainer.epochs"]),
    (["trainer.threads=1", "trainer.threads=2"], []),  # no recipe
    (["experiment=mlp-relu-1", "experiment=mlp-relu-3"], ["experiment"]),
    (["experiment=mlp-relu-1", "experiment=chollet-mnist"], ["experiment"]),
    (
        ["experiment=mlp-relu-1", "experiment=mlp-relu-1 trainer.epochs=1", "experiment=mlp-relu-3"],
        ["experiment", "trainer.epochs"],
    ),
    (["experiment=mlp-relu-3", "data=fashion model=mlp optimizer.lr=0.1 trainer.batch_size=1024"], None),
    (["model=lenet"], []),
    (["model=custom ++model._target_=torch.nn.Flatten", "model=custom ++model._target_=torch.nn.Identity"], ["model"]),
]


def runs_of(tmp_path: Path, lines: list[str]) -> list[Run]:
    for number, line in enumerate(lines):
        fake_run(tmp_path / str(number), *line.split())
    return [run for run in read_runs([str(tmp_path)]) if isinstance(run, Run)]


@pytest.mark.parametrize(("lines", "expected"), CASES)
def test_the_columns(tmp_path: Path, lines: list[str], expected: list[str] | None) -> None:
    runs = runs_of(tmp_path, lines)
    found = columns.differing(runs)
    if expected is not None:
        assert found == expected
    recipes = {line for line in lines if "threads" not in line}
    assert len({columns.label(run, found) for run in runs}) == max(1, len(recipes))  # no two rows look alike


def test_a_run_without_an_experiment_explains_nothing(tmp_path: Path) -> None:
    found = columns.differing(runs_of(tmp_path, ["experiment=mlp-relu-3", "model=mlp"]))
    assert found[0] == "experiment"
    assert {"model.hidden", "trainer.batch_size"} < set(found)


def test_without_recorded_choices_settings_are_shown(tmp_path: Path) -> None:
    for name, rate in (("a", 0.1), ("b", 0.2)):
        (fake_run(tmp_path / "runs" / name, f"optimizer.lr={rate}") / "environment.json").write_text("{}")
    runs = runs_of(tmp_path / "runs", [])
    assert columns.differing(runs) == ["optimizer.lr"]
    assert columns.common(runs) == {"augment": "none"}


def test_values_are_written_as_on_a_command_line(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, ["model=mlp model.hidden=[64,32] data.limit=100 trainer.deterministic=true augment=[crop,flip]"])
    keys = ("model", "augment", "model.hidden", "data.limit", "trainer.deterministic", "trainer.steps", "model.kernel")
    assert [columns.text(run, key) for key in keys] == ["mlp", "[crop,flip]", "[64, 32]", "100", "true", "null", ""]
    assert columns.label(run, keys[:2]) == "model=mlp augment=[crop,flip]"
