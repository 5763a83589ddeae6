"""The jobs of a command line, and their names."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.errors import ConfigError
from cnnlab.sweep.grid import LONGEST_NAME, expand, job_names, unused


def jobs(*overrides: str, zipped: tuple[str, ...] = ()) -> list[list[str]]:
    return expand(OverridesParser.create().parse_overrides(list(overrides)), zipped)


def test_every_combination_the_last_key_fastest() -> None:
    assert jobs("model=lenet,mlp", "seed=range(2)", "trainer.epochs=3") == [
        ["model=lenet", "seed=0", "trainer.epochs=3"],
        ["model=lenet", "seed=1", "trainer.epochs=3"],
        ["model=mlp", "seed=0", "trainer.epochs=3"],
        ["model=mlp", "seed=1", "trainer.epochs=3"],
    ]


@pytest.mark.parametrize(
    "line",
    [("seed=range(1000000000)",), ("seed=range(0,10,0)",), ("seed=range(0,1,0.0)",), ("seed=range(400)", "a=range(400)")],
)
def test_more_than_a_sweep_can_have_is_refused(line: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        jobs(*line)


def test_zipped_keys_go_side_by_side() -> None:
    zipped = ("optimizer.lr", "trainer.batch_size")
    assert jobs("++optimizer.lr=0.1,0.01", "seed=0,1", "trainer.batch_size=64,256", zipped=zipped) == [
        [f"++optimizer.lr={lr}", f"trainer.batch_size={batch_size}", f"seed={seed}"]
        for lr, batch_size in ((0.1, 64), (0.01, 256))
        for seed in (0, 1)
    ]


def test_lists_strings_and_deletions_stay_what_they_were() -> None:
    assert jobs("augment=[flip,crop]", "data.root='a, b'", "~experiment") == [
        ["augment=[flip,crop]", "data.root='a, b'", "~experiment"]
    ]
    assert jobs("model.hidden=[10],[20,30]") == [["model.hidden=[10]"], ["model.hidden=[20,30]"]]


def test_names_tell_what_differs() -> None:
    assert job_names(jobs("model=lenet,mlp", "++optimizer.lr=0.1,0.01", "seed=3", "trainer.epochs=2")) == [
        "lenet-lr0.1", "lenet-lr0.01", "mlp-lr0.1", "mlp-lr0.01",
    ]  # fmt: skip
    assert job_names(jobs("seed=0,12")) == ["seed0", "seed12"]
    assert job_names(jobs("seed=-1,1")) == ["seed-1", "seed1"]
    assert job_names(jobs("model.hidden=[10],[20,30]")) == ["hidden10", "hidden20-30"]
    assert job_names(jobs("augment=none,[flip,crop]")) == ["none", "flip-crop"]
    assert job_names(jobs("model=mlp", "seed=1")) == ["mlp-seed1"]
    assert job_names(jobs("experiment=mlp-relu-1", "seed=0,1")) == ["mlp-relu-1-seed0", "mlp-relu-1-seed1"]
    assert job_names([[]]) == ["job"]


@given(st.lists(st.text(st.characters(exclude_characters=","), min_size=1), min_size=2, max_size=4))
def test_any_value_makes_a_name_that_every_file_system_takes(values: list[str]) -> None:
    for name in job_names([[f"data.root={value}"] for value in values]):
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", name)
        assert len(name) <= LONGEST_NAME


def test_long_names_are_cut_and_still_differ() -> None:
    names = job_names([[f"data.root={'x' * 200}{last}"] for last in "ab"])
    assert [len(name) for name in names] == [LONGEST_NAME] * 2
    assert names[0] != names[1]


def test_a_taken_name_gets_a_number() -> None:
    assert unused("a", {"b"}) == "a"
    assert unused("a", {"a", "a_2"}) == "a_3"


def test_a_class_of_ones_own_names_its_job_by_its_path() -> None:
    jobs = [[f"model._target_=mine.{name}", "optimizer.lr=0.1"] for name in ("Net", "Wide")]
    assert job_names(jobs) == ["mine.Net", "mine.Wide"]
