"""docs/SETTINGS.md: every setting, with a meaning, as configs/ says it."""

import re
from pathlib import Path

import pytest

from cnnlab import config
from cnnlab.composing.settings import commented
from cnnlab.config import schema
from scripts import settings

ROWS = re.findall(r"^\| `(.+?)` \| (.*?) \| (.*?) \| (.*) \|$", settings.text(), re.MULTILINE)


def test_every_setting_has_a_meaning() -> None:
    keys = {key for key, *_ in ROWS}
    closed = {key for key in schema.key_types() if not key.startswith(("data.source", "data.name"))}
    assert closed - keys <= {"model", "task", "optimizer", "schedule", "augment"}
    assert {"model.hidden_dropout", "optimizer.momentum", "augment.crop.padding", "hydra.sweeper.trials"} <= keys
    assert [key for key, _, takes, meaning in ROWS if not takes or not meaning.partition(" (")[0]] == []


def test_the_page_is_what_configs_say(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.config_dir().parent)
    assert call("settings", "--check", package="scripts") == (0, "", "")
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    settings.PAGE.write_text(settings.text().replace("`10`", "`11`"))
    assert call("settings", "--check", package="scripts")[0] == 2


def test_comments_belong_to_their_keys() -> None:
    assert commented("a: 1  # one\nb:\n  # above\n  c: [x]  # two # parts\n  d: 2\ne: 3\n") == {
        "a": "one",
        "b.c": "two # parts",
    }
