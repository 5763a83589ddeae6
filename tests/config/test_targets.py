import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from small_runs import train
from torch import Tensor, nn

import cnnlab
from cnnlab.config import targets
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
        "runtime": RuntimeError("of no runtime"),
        "data": DataError("no file"),
    }[kind]


number = 3


def here(name: str, **keys: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{name}", **keys}


def test_locate_finds_classes_functions_and_builtins() -> None:
    assert targets.locate(here("Thing"), "x") is Thing
    assert targets.locate({"_target_": "torch.optim.Adam"}, "x") is torch.optim.Adam
    assert targets.locate({"_target_": "builtins.len"}, "x") is len


@pytest.mark.parametrize("path", [None, 3, "Adam", ".Adam", "torch.", "no_such_package.Adam", "torch.optim.Adam.nothing.there"])
def test_locate_refuses_what_is_no_dotted_path_of_a_callable(path: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^x\._target_={path}: "):
        targets.locate({"_target_": path}, "x")


@pytest.mark.parametrize(("path", "says"), [("torch.optim.Adma", "Adam"), (f"{__name__}.number", "int")])
def test_locate_says_what_is_near_and_what_it_found(path: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x\._target_={path}: .*\b{says}\b"):
        targets.locate({"_target_": path}, "x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, not yet on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    return tmp_path


def test_locate_looks_in_the_current_directory(folder: Path) -> None:
    (folder / "own_networks_1.py").write_text("def make():\n    import own_networks_later as late\n    return late.SEVEN\n")
    (folder / "own_networks_later.py").write_text("SEVEN = 7\n")
    targets.locate({"_target_": "torch.optim.Adam"}, "x")
    assert str(folder) not in sys.path
    assert targets.instantiate({"_target_": "own_networks_1.make"}, "x") == 7


def test_a_command_takes_no_module_from_the_folder_of_a_run(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "trainer.epochs=2")
    for name in ("tensorflow", "tabulate", "colorama", "gmpy2", "flint", "yaml", "hydra", "rich"):
        (run / f"{name}.py").write_text("open('canary', 'w')")
    line = [sys.executable, "-m", "cnnlab.train", "resume=.", "trainer.epochs=3", "console=quiet"]
    env = os.environ | {"PYTHONPATH": str(Path(cnnlab.__file__).parents[1])}
    ended = subprocess.run(line, cwd=run, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not (run / "canary").exists()


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("own_networks_2", "import no_such_package", "no_such_package"),
        ("own_networks_3", "def make(:", "SyntaxError"),
        ("own_networks_4", "1 / 0", "ZeroDivisionError"),
        ("own_networks_5", "from torch import no_such_name", "ImportError"),
    ],
)
def test_a_module_that_cannot_be_imported(folder: Path, name: str, source: str, says: str) -> None:
    (folder / f"{name}.py").write_text(source)
    with pytest.raises(ConfigError, match=rf"^x\._target_={name}\.make: .*{says}"):
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


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("value", "of no value$"),
        ("type", r"of no type \(test_targets\.py, line \d+\)$"),
        ("runtime", r"of no runtime \(test_targets\.py, line \d+\)$"),
    ],
)
def test_instantiate_passes_on_a_refusal_and_says_where_a_call_failed(kind: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x: test_targets\.raises .*{says}"):
        targets.instantiate(here("raises", kind=kind), "x")


def test_a_failure_is_told_where_ones_own_code_is_not_where_torchs_is() -> None:
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(RuntimeError) as raised:
        layer(torch.zeros(1, 4))
    assert "(test_targets.py, line " in targets.failure(raised.value)


def test_instantiate_leaves_cnnlabs_own_errors_alone() -> None:
    with pytest.raises(DataError, match=r"^no file$"):
        targets.instantiate(here("raises", kind="data"), "x")


@pytest.mark.parametrize(
    ("section", "provided", "message"),
    [
        (here("Thing", size=3, rat=1), (), r"^x\.rat: .*x\.rate\?"),
        (here("Thing", size=3, fla=1, zzz=2), (), r"^x\.fla: .*x\.flag"),
        (here("Thing", size=3), ("size",), r"^x\.size: "),
        (here("Thing"), (), r"^x\.size: .*x\.size=VALUE"),
        (here("provided_and_more", images=1), ("images",), r"^x\.images: "),
        (here("positional", a=1, b=2), (), r"^x\.a: "),
        (here("number", size=3), (), r"^x\._target_="),
        (here("no_keys", size=3), (), r"^x\.size: "),
        (here("Thing", size="3"), (), r"^x\.size=3: .*got str"),
        (here("Thing", size=3, mode="c"), (), r"^x\.mode=c: .*a, b"),
        (here("Thing", size=3, sides=[1]), (), r"^x\.sides=\[1\]: "),
        ({"_target_": "torch.optim.Adam", "lr": "high"}, ("params",), r"^x\.lr=high: "),
        ({"_target_": "torch.optim.Adam", "beta": 0.9}, ("params",), r"^x\.beta: .*x\.betas\?"),
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


def test_require() -> None:
    for kind in (nn.Module, torch.optim.Optimizer):
        with pytest.raises(ConfigError, match=rf"^x\._target_=test_targets\.Thing: .*{kind.__name__}"):
            targets.require(Thing(1), kind, here("Thing"), "x")
    targets.require(Thing(1), Thing, here("Thing"), "x")


def test_keys_and_parameters() -> None:
    assert targets.keys_of(here("Thing", size=3)) == {"size": 3}
    assert list(targets.parameters_of(here("Thing"), "x")) == ["size", "rate", "mode", "sides", "flag"]
    assert targets.parameters_of({"_target_": "builtins.dict"}, "x") == {}


def test_a_failing_function_written_in_c_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"^x: torch\.zeros "):
        targets.instantiate({"_target_": "torch.zeros", "size": [-1]}, "x")
