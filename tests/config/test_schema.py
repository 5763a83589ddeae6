"""Sections that name a callable: found wherever they stand, and checked in one place."""

from dataclasses import dataclass

import pytest
from conftest import choices

from cnnlab import composing, config
from cnnlab.config import checking, schema, targets
from cnnlab.errors import ConfigError


@dataclass
class Phase:
    epochs: int
    schedule: schema.Schedule
    augment: dict[str, schema.Augmentation]


@dataclass
class Course:
    phases: list[Phase]


def test_sections_are_found_inside_mappings_and_lists() -> None:
    flip, cosine = {"_target_": "a.flip"}, {"_target_": "a.cosine"}
    course = Course([Phase(1, cosine, {}), Phase(2, cosine, {"flip": flip})])
    plain = {"phases": [{"schedule": cosine}, {"schedule": cosine, "augment": {"flip": flip}}]}
    for value in (course, plain):
        assert [(where, kind.name, section) for where, kind, section in schema.sections(value, Course)] == [
            ("phases[0].schedule", "schedule", cosine),
            ("phases[1].schedule", "schedule", cosine),
            ("phases[1].augment.flip", "augment", flip),
        ]


@pytest.mark.parametrize("value", [None, 3, "x", [], {"phases": None}, {"phases": [3, {"augment": []}]}])
def test_an_unchecked_file_may_hold_anything(value: object) -> None:
    assert list(schema.sections(value, Course)) == []


@pytest.mark.parametrize("change", ["model", "task", "optimizer", "schedule", "augment.flip", "data.source"])
def test_every_section_is_checked(change: str) -> None:
    cfg = composing.typed(composing.compose(["data=digits", "augment=flip", f"{change}.no_such_key=1"]))
    with pytest.raises(ConfigError, match=rf"^{change}\.no_such_key: "):
        checking.check_targets(cfg)
    assert config.recipe(cfg)[f"{change}.no_such_key"] == 1


@pytest.mark.parametrize("group", ["model", "task", "optimizer", "schedule", "augment", "data", "experiment"])
def test_every_choice_of_the_configs_takes_its_keys(group: str) -> None:
    for choice in choices(group):
        checking.check_targets(composing.typed(composing.compose([f"{group}={choice}"])))


def test_what_cnnlab_passes_is_no_key() -> None:
    cfg = composing.typed(composing.compose(["data=mnist", "augment=flip", "schedule=cosine"]))
    for where, kind, section in schema.sections(cfg):
        for name in kind.provided:
            with pytest.raises(ConfigError, match=rf"^{where}\.{name}: "):
                targets.check({**section, name: 1}, where, kind.provided)
