"""Row 5: command lines and configurations that are malformed: one line that names the thing, exit 2, nothing lost."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from made import copied, edit_yaml, original, put
from malformed import place as place
from malformed import refuses, resume
from protocol import share
from small_runs import SMALL
from watch import state

from cnnlab import cli, composing, config
from cnnlab.config.schema import key_types

ODD = (
    "", "=", "=1", "a", "a b=1", "--", "-x", "--no-such", "trainer", "trainer=1", "hydra=5", "resume=", "resume=nowhere",
    "sweep.name=x", "sweep.no=1", "trust=x", "trainer..epochs=1", ".epochs=1", "trainer.=1", "+trainer.zz=1", "+zz=1",
    "~trainer.epochs", "model._target_=", "model._target_=os", "model._target_=no.such.Net", "model._target_=math.pi",
    "optimizer._target_=math.sin", "schedule._target_=math.sin", "task._target_=math.sin", "augment=flip,crop",
    "data.shape=[1]", "data.shape=[0,1,1]", "data.classes=[]", "data.classes=[0,99]", "phases=[{}]", "phases=[1]",
    "parameters=[{match: 1}]", f"seed={'9' * 5000}", "trainer.epochs=1e400", "--config-dir=nowhere", "--cfg=x",
    f"seed={'[' * 3000}{']' * 3000}", f"model.hidden={'[' * 100}8{']' * 100}", f"phases={'[' * 31}{']' * 31}",
    f"model.hidden=[{'1,' * 2000}1]",
)  # fmt: skip


def _settings() -> Iterator[tuple[str, str]]:
    """A setting that cannot be meant, and what the error has to name."""
    for key, hint in key_types().items():
        last = key.rpartition(".")[2]
        yield f"{key}=[[", last
        yield f"{key}zz=1", f"{last}zz"
        if not any(one is dict or getattr(one, "__origin__", None) is dict for one in (hint, *get_args(hint))):
            yield f"{key}={{a:[1]}}", last
            yield f"{key}=1,2", last
        if hint in (int, float, bool) or set(get_args(hint)) & {int, float}:
            yield f"{key}=word", last
    for group in composing.groups():
        yield f"{group}=no-such-choice", "no-such-choice"
    for odd in ODD:
        yield odd, ""


def _lines() -> Iterator[tuple[tuple[str, ...], str]]:
    for setting, names in _settings():
        yield ("train", *SMALL, setting, "hydra.run.dir=new"), names
    for command in cli.COMMANDS:
        yield (command, "--no-such-option"), "--no-such-option"
        if command not in ("train", "summary"):
            for words in ((), ("nowhere",), ("",), ("a-file",), ("last",), ("a-folder",), ("nowhere", "elsewhere")):
                extra = ("x.png",) if command == "predict" else ()
                yield (command, *words, *extra), ""
            yield (command, "RUN", "no.such.key=1"), "no.such.key"
    for odd in (
        "trainer.epochs=[2",
        "trainer.epochs=2,3",
        "trainer.epochs={a: 1}",
        "trainer.epochs=word",
        "trainer.epochs=0",
        "[",
        "trainer.epochs=",
        "data.root=[",
        "seed=1",
        "console=1",
        "trainer.steps=5",
        "=",
        "~trainer.epochs",
    ):
        yield ("train", "resume=RUN", odd), ""
        yield ("evaluate", "RUN", odd.replace("trainer.epochs", "data.size")), ""


@pytest.mark.parametrize(("line", "names"), share(_lines(), 6))
def test_a_command_line(call, place: Path, line: tuple[str, ...], names: str) -> None:
    (place / "a-file").write_text("x")
    (place / "a-folder").mkdir()
    arguments = [word.replace("RUN", str(original("run"))) for word in line]
    before = state(original("run"))
    refuses(call, *arguments, names=names, kept=place)
    assert state(original("run")) == before


SECTIONS_ITSELF = ("data", "model", "task", "optimizer", "schedule", "augment", "parameters", "phases", "trainer", "evaluation",
                   "checkpoint", "data.source", "augment.flip")  # fmt: skip


def _configurations() -> Iterator[tuple[str, Any]]:
    types = key_types()
    for key, value in config.flat(composing.typed(composing.compose([*SMALL, "augment=flip"]))).items():
        yield key, {"wrong": [1]}
        yield key, [["wrong"]]
        if key in types:
            if key not in config.ADDED:  # later than the first version
                yield key, "DELETE"
            yield f"{key}_", 1
            if type(None) not in (types[key], *get_args(types[key])) and not isinstance(value, dict):
                yield key, None
        if isinstance(value, int | float):
            yield key, "word"
        if isinstance(value, str):
            yield key, 7
    for section, value in itertools.product(SECTIONS_ITSELF, (None, "word", 3, "DELETE")):
        if (section, value) not in (("phases", "DELETE"), ("augment.flip", "DELETE")):  # legal
            yield section, value


@pytest.mark.parametrize(("key", "value"), share(_configurations(), 6))
def test_a_configuration(call, place: Path, key: str, value: Any) -> None:
    run = copied("run", place)

    def change(cfg: dict[str, Any]) -> None:
        if value != "DELETE":
            return put(cfg, key, value)
        *above, last = key.split(".")
        for part in above:
            cfg = cfg[part]
        del cfg[last]
        return None

    edit_yaml(run / "config.yaml", change)
    refuses(call, *resume(run), names=key.partition(".")[0], kept=run)
