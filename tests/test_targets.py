import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from cnnlab import targets
from cnnlab.errors import ConfigError, DataError


class Thing:
    def __init__(
        self,
        size: int,
        rate: float = 0.1,
        mode: Literal["a", "b"] = "a",
        sides: tuple[int, int] | None = None,
        flag: bool = False,
    ) -> None:
        self.arguments = (size, rate, mode, sides, flag)


def collect(**keys: Any) -> dict[str, Any]:
    return keys


def provided_and_more(images: str, more: int = 1, **keys: Any) -> dict[str, Any]:
    return {"images": images, "more": more, **keys}


def positional(a: int, /, b: int) -> int:
    return b


def raises(kind: str) -> None:
    raise {
        "value": ValueError("of no value"),
        "type": TypeError("of no type"),
        "runtime": RuntimeError("a mistake"),
        "data": DataError("no file"),
    }[kind]


number = 3


def here(name: str, **keys: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{name}", **keys}


def test_locate_finds_classes_functions_and_builtins() -> None:
    assert targets.locate(here("Thing"), "x") is Thing
    assert targets.locate({"_target_": "torch.optim.Adam"}, "x") is torch.optim.Adam
    assert targets.locate({"_target_": "builtins.len"}, "x") is len


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, r"x\._target_=None: expected the dotted path"),
        ({"_target_": 3}, r"x\._target_=3: expected the dotted path"),
        ({"_target_": "Adam"}, r"x\._target_=Adam: expected the dotted path"),
        ({"_target_": ".Adam"}, r"x\._target_=\.Adam: "),
        ({"_target_": "torch."}, r"x\._target_=torch\.: torch has no ''"),
        ({"_target_": "torch.optim.Adma"}, r"torch\.optim has no 'Adma'\. Did you mean Adam"),
        ({"_target_": "no_such_package.Adam"}, r"no module 'no_such_package'; looked in the installed packages and in /"),
        ({"_target_": "torch.optim.Adam.nothing.there"}, r"no module 'torch\.optim\.Adam"),
        (here("number"), r"number: expected a class or a function, got int"),
    ],
)
def test_locate_says_what_is_wrong(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        targets.locate(section, "x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, not yet on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    return tmp_path


def test_locate_looks_in_the_current_directory(folder: Path) -> None:
    (folder / "own_networks_1.py").write_text("def make():\n    return 7\n")
    assert targets.instantiate({"_target_": "own_networks_1.make"}, "x") == 7


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("own_networks_2", "import no_such_package\n", r"no module 'no_such_package'"),
        ("own_networks_3", "def make(:\n", r"importing it failed: SyntaxError"),
        ("own_networks_4", "1 / 0\n", r"importing it failed: ZeroDivisionError: division by zero"),
        ("own_networks_5", "from torch import no_such_name\n", r"importing it failed: ImportError: cannot import name"),
    ],
)
def test_a_module_that_cannot_be_imported(folder: Path, name: str, source: str, message: str) -> None:
    (folder / f"{name}.py").write_text(source)
    with pytest.raises(ConfigError, match=rf"^x\._target_={name}\.make: {message}"):
        targets.locate({"_target_": f"{name}.make"}, "x")


def test_instantiate_passes_the_keys_and_what_the_target_takes() -> None:
    assert targets.instantiate(here("Thing", size=3, rate=1, sides=[4, 5]), "x", images="ignored").arguments == (
        3, 1, "a", [4, 5], False,
    )  # fmt: skip
    assert targets.instantiate(here("provided_and_more", other=2), "x", images="i", labels="l") == {
        "images": "i",
        "more": 1,
        "other": 2,
    }
    assert targets.instantiate(here("collect", anything=[1]), "x", images="i") == {"anything": [1]}


@pytest.mark.parametrize("kind", ["value", "type"])
def test_instantiate_passes_a_refusal_on(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"x: test_targets\.raises refused its arguments: of no {kind}"):
        targets.instantiate(here("raises", kind=kind), "x")


def test_instantiate_says_where_a_call_failed() -> None:
    with pytest.raises(ConfigError, match=r"^x: test_targets\.raises failed: RuntimeError: a mistake"):
        targets.instantiate(here("raises", kind="runtime"), "x")


def test_instantiate_leaves_cnnlabs_own_errors_alone() -> None:
    with pytest.raises(DataError, match=r"^no file$"):
        targets.instantiate(here("raises", kind="data"), "x")


@pytest.mark.parametrize(
    ("section", "provided", "message"),
    [
        (
            here("Thing", size=3, rat=1),
            (),
            r"x\.rat: no such key of test_targets\.Thing\. Did you mean x\.rate\? Keys: size, rate,",
        ),
        (here("Thing", size=3, fla=1, zzz=2), (), r"Did you mean x\.flag"),
        (here("Thing", size=3, moed=1), (), r"Did you mean x\.mode\?"),
        (here("Thing", size=3), ("size",), r"x\.size: no such key of .* Keys: rate, mode, sides, flag\."),
        (here("Thing"), (), r"x\.size: test_targets\.Thing needs a value for it; add x\.size=VALUE"),
        (here("provided_and_more", images=1), ("images",), r"x\.images: no such key"),
        (here("positional", a=1, b=2), (), r"x\.a: no such key .* Keys: b\."),
        (here("number", size=3), (), r"expected a class or a function"),
        (here("no_keys", size=3), (), r"x\.size: no such key of test_targets\.no_keys\. It has no keys\."),
        (here("Thing", size="3"), (), r"x\.size=3: expected an integer, got str"),
        (here("Thing", size=3.0), (), r"x\.size=3\.0: expected an integer, got float"),
        (here("Thing", size=True), (), r"x\.size=True: expected an integer, got bool"),
        (here("Thing", size=3, rate="fast"), (), r"x\.rate=fast: expected a number, got str"),
        (here("Thing", size=3, mode="c"), (), r"x\.mode=c: expected one of a, b"),
        (here("Thing", size=3, sides=[1]), (), r"x\.sides=\[1\]: expected a list of 2 values or null, got list"),
        (here("Thing", size=3, flag=1), (), r"x\.flag=1: expected true or false, got int"),
        ({"_target_": "torch.optim.Adam", "lr": "high"}, ("params",), r"x\.lr=high: expected a number"),
        ({"_target_": "torch.optim.Adam", "beta": 0.9}, ("params",), r"x\.beta: .* Did you mean x\.betas\?"),
    ],
)
def test_check_says_which_key_is_wrong(section: dict[str, Any], provided: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        targets.check(section, "x", provided)


def no_keys() -> None:
    pass


@pytest.mark.parametrize(
    ("section", "provided"),
    [
        (here("Thing", size=3, rate=1, mode="b", sides=None, flag=True), ()),
        (here("provided_and_more", anything=object()), ("images",)),
        ({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0, "nesterov": False}, ("params",)),
        ({"_target_": "torchvision.models.resnet18", "weights": "IMAGENET1K_V1"}, ()),  # an enumeration, or its word
        ({"_target_": "builtins.max", "key": None}, ()),  # has no signature to check against
    ],
)
def test_check_lets_through_what_fits(section: dict[str, Any], provided: Sequence[str]) -> None:
    targets.check(section, "x", provided)


@pytest.mark.parametrize(
    ("hint", "fitting", "others", "words"),
    [
        (int, [0, -3], [1.0, "1", True, None, [1]], "an integer"),
        (float, [0.5, 2], ["0.5", True, None], "a number"),
        (bool, [True], [0, "true"], "true or false"),
        (str, ["a"], [1, True, ["a"]], "a word"),
        (int | None, [3, None], ["3", 3.5], "an integer or null"),
        (float | Tensor, [0.1, 3], ["a", [1.0]], "a number"),
        (Literal["x", 3], ["x", 3], ["y", None], "one of x, 3"),
        (list[int], [[], [1, 2]], [1, "12", [1, "a"]], "a list"),
        (Sequence[float], [[1, 2.5], (1,)], ["12", {"a": 1}, ["a"]], "a list"),
        (tuple[int, int], [[1, 2], (1, 2)], [[1], [1, 2, 3], [1, "a"], 3], "a list of 2 values"),
        (tuple[int, ...], [[], [1], [1, 2, 3]], [["a"], 3], "a list"),
        (list, [[1, "a"]], ["a", 3], "a list"),
        (dict[str, int], [{"a": 1}], [[1], 3], "a mapping"),
        (Sequence[Mapping[str, Any]], [[{"a": 1}], []], [[1], {"a": 1}], "a list"),
        (Any, [1, "a", None, [1]], [], "Any"),
        (nn.Module, [], [1, "a"], "Module"),
        (Callable[[int], int], ["anything"], [], "Callable"),
    ],
)
def test_which_values_fit_which_hint(hint: Any, fitting: list[Any], others: list[Any], words: str) -> None:
    for value in fitting:
        assert targets.fits(value, hint), value
    for value in others:
        assert not targets.fits(value, hint), value
    assert targets.type_name(hint) == words


@pytest.mark.parametrize(
    ("kind", "words"), [(nn.Module, r"torch\.nn\.modules\.Module"), (torch.optim.Optimizer, r"torch\.optim\.Optimizer")]
)
def test_require(kind: type, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\._target_=test_targets\.Thing: expected {words}, got Thing"):
        targets.require(Thing(1), kind, here("Thing"), "x")
    targets.require(Thing(1), Thing, here("Thing"), "x")


def test_keys_and_parameters() -> None:
    assert targets.keys_of(here("Thing", size=3)) == {"size": 3}
    assert list(targets.parameters_of(here("Thing"), "x")) == ["size", "rate", "mode", "sides", "flag"]
    assert targets.parameters_of({"_target_": "builtins.dict"}, "x") == {}


def test_a_failing_function_written_in_c_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"^x: torch\.zeros failed: RuntimeError"):
        targets.instantiate({"_target_": "torch.zeros", "size": [-1]}, "x")
