"""What a run's files may name: everything that cnnlab offers, and nothing that only looks like it."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import choices

from cnnlab import composing
from cnnlab.config import trust
from cnnlab.config.schema import Config
from cnnlab.errors import ConfigError

SECTIONS = ("model", "task", "optimizer", "schedule", "augment.flip", "data.source")
HONEST = composing.typed(composing.compose(["data=digits", "augment=flip"]))
NETWORK, OPTIMIZER = "torch.nn.Flatten", "torch.optim.NAdam"
ALLOWED = {
    "model": [
        "cnnlab.models.ConvNet",
        "cnnlab.models.mlp.MLP",
        NETWORK,
        "torch.nn.modules.flatten.Flatten",
        "torchvision.models.resnet18",
        "torchvision.models.mobilenetv2.mobilenet_v2",
    ],
    "task": ["cnnlab.training.task.Binary"],
    "optimizer": [OPTIMIZER, "torch.optim.nadam.NAdam", "torch.optim.Adafactor"],
    "schedule": ["cnnlab.training.schedule.cosine"],
    "augment.flip": ["cnnlab.data.augment.random_crop"],
    "data.source": ["cnnlab.data.digits.load", "cnnlab.data.cifar.load"],
}


def naming(where: str, section: Any) -> Config:
    """A configuration with another section at `where`."""
    cfg = copy.deepcopy(HONEST)
    section_of, _, name = where.rpartition(".")
    if section_of == "augment":
        cfg.augment[name] = section
    else:
        setattr(cfg.data if section_of else cfg, name, section)
    return cfg


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current directory that writes a file when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "canary_module.py").write_text(
        "import pathlib\npathlib.Path('sprung').touch()\nfrom torch.nn import Flatten as Net\n"
    )
    monkeypatch.delitem(sys.modules, "canary_module", raising=False)
    return tmp_path / "sprung"


@pytest.mark.parametrize("where", SECTIONS)
def test_each_section_takes_its_own_kind_and_no_other(where: str) -> None:
    for kind, paths in ALLOWED.items():
        for path in paths:
            trust.check(naming(kind, {"_target_": path}))
            if kind != where:
                with pytest.raises(ConfigError, match=rf"^{where}\._target_={path}: "):
                    trust.check(naming(where, {"_target_": path}))


@pytest.mark.parametrize("where", SECTIONS)
@pytest.mark.parametrize("section", [None, 3, "os.system", [], {}, {"_target_": None}, {"_target_": ["os.system"]}])
def test_a_section_without_a_name_is_refused(where: str, section: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{where}\._target_="):
        trust.check(naming(where, section))


@pytest.mark.parametrize("group", ["model", "task", "optimizer", "schedule", "augment", "data"])
def test_everything_in_the_configs_is_in_the_list(group: str) -> None:
    for choice in choices(group):
        classes = ["data.classes=[3,5]"] if choice == "binary" else []
        trust.check(composing.typed(composing.compose([f"{group}={choice}", *classes])))


def test_a_package_that_is_trusted_passes_by_its_first_name_alone(canary: Path) -> None:
    cfg = naming("model", {"_target_": "canary_module.Net"})
    trust.check(cfg, ["canary_module"])
    assert not canary.exists()  # what calls it will import it
    for other in (["canary"], ["canary_module.Net"], ["torch"], []):
        with pytest.raises(ConfigError, match="trust=canary_module"):
            trust.check(cfg, other)


def test_trust_on_a_command_line() -> None:
    assert trust.split(["trust=mine", "a=1", "trust=[b, c]"]) == (["mine", "b", "c"], ["a=1"])
    for bad in ("", "mine.Net", "[a,]", "a b"):
        with pytest.raises(ConfigError, match=r"^trust="):
            trust.split([f"trust={bad}"])


def test_the_argument_of_a_printed_command() -> None:
    cfg = naming("model", {"_target_": "mine.Net"})
    assert trust.argument(cfg) == " trust=mine"
    cfg.data.source = {"_target_": "yours.load"}
    assert trust.argument(cfg) == " 'trust=[mine,yours]'"
    for where, paths in ALLOWED.items():
        assert [trust.argument(naming(where, {"_target_": path})) for path in paths] == [""] * len(paths)
    assert trust.argument({"model": {"inner": {"_target_": "mine.Net"}}}) == ""  # which nobody calls
    odd = {"model": {"_target_": "$(rm -rf x).Net"}, "task": {"_target_": 3}, "augment": None, "data": "x"}
    assert trust.argument(odd) == ""


OWN = """
import torch


class Net(torch.nn.Sequential):
    def __init__(self, num_outputs):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, num_outputs))


def flip(images, generator):
    return images.flip(3)
"""


def test_a_network_of_ones_own_goes_on_where_its_package_is_trusted(call) -> None:
    Path("mine_trusted.py").write_text(OWN)
    own = ("model._target_=mine_trusted.Net", "+augment.flip._target_=mine_trusted.flip")
    quick = ("data=digits", "data.limit=100", "trainer.steps=1", "console=plain")
    code, out, _ = call("train", *quick, *own, "hydra.run.dir=run")
    assert code == 0
    assert "python -m cnnlab.evaluate run trust=mine_trusted\n" in out
    assert "resume=run trust=mine_trusted trainer.steps=2\n" in out
    for command, *arguments in (("evaluate", "run"), ("train", "resume=run", "trainer.steps=2")):
        code, _, err = call(command, *arguments)
        assert code == 2
        assert "trust=mine_trusted" in err
        assert call(command, *arguments, "trust=[mine_trusted]")[0] == 0
    Path("run/result.json").unlink()
    assert "resume=run trust=mine_trusted\n" in call("compare", "run")[1]
    assert "works only with resume=RUN" in call("train", *quick, *own, "trust=mine_trusted")[2]
