"""What a run's files may name: everything that cnnlab offers, and nothing that only looks like it."""

import copy
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import choices

from cnnlab import composing, config, trust
from cnnlab.errors import ConfigError
from cnnlab.schema import Config

SECTIONS = ("model", "task", "optimizer", "schedule", "augment.flip", "data.source")
HOSTILE = [
    "os.system", "subprocess.call", "builtins.eval", "runpy.run_path", "shutil.rmtree", "logging.os.system",
    "canary_module.Net", "cnnlab.targets.instantiate", "cnnlab.targets.importlib.import_module", "cnnlab.train.main",
    "cnnlab.trust.import_module", "cnnlab.models.targets.instantiate", "cnnlab.models.build_model",
    "cnnlab.models.torch.load", "cnnlab.data.load_data", "cnnlab.training.task.torch.load", "cnnlab.training.task.Task",
    "cnnlab.training.schedule.build_schedule", "cnnlab.data.augment.torch.load", "cnnlab.data.idx.fetch_idx",
    "cnnlab.data.idx.Path", "cnnlab.data.idx.gzip.open", "torch.load", "torch.hub.load", "torch.zeros",
    "torch.nn.modules.module.warnings.warn", "torch.nn.init.zeros_", "torch.nn.os", "torch.nn.functional.relu",
    "torch.nn.Parameter", "torch.nn.parallel.data_parallel.torch.load", "torch.optim.lr_scheduler.StepLR",
    "torch.optim.optimizer.functools.partial", "torch.utils.data.DataLoader", "torch.nn.Module.load_state_dict",
    "torchvision.models.get_model", "torchvision.models.get_weight", "torchvision.models.resnet.ResNet",
    "torchvision.datasets.MNIST", "torchvision.models.segmentation.fcn_resnet50", "torchvision.io.write_file", "torch.nn.",
    ".nn", "nn", "torch.nn..Linear", "", "torch nn.Linear",
]  # fmt: skip
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
def test_each_section_takes_its_own_kind_and_nothing_else(where: str, canary: Path) -> None:
    for kind, paths in ALLOWED.items():
        for path in paths:
            trust.check(naming(kind, {"_target_": path}))
            if kind != where:
                with pytest.raises(ConfigError, match=rf"^{where}\._target_={path}: "):
                    trust.check(naming(where, {"_target_": path}))
    for path in HOSTILE:
        with pytest.raises(ConfigError, match="^" + re.escape(f"{where}._target_={path}")):
            trust.check(naming(where, {"_target_": path}))
    assert not canary.exists()
    assert "canary_module" not in sys.modules


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


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_a_run_of_someone_else_runs_nothing_of_theirs(call, canary: Path, command: str) -> None:
    quick = ("data=digits", "data.limit=100", "data.validation=0", "trainer.steps=1", "console=quiet")
    assert call("train", *quick, "model._target_=canary_module.Net", "hydra.run.dir=run")[0] == 2  # 784 outputs
    assert canary.exists()  # what the command line names is called
    canary.unlink()
    assert call("train", *quick, "model=mlp", "hydra.run.dir=run")[0] == 0
    path, arguments = Path("run/config.yaml"), (["run"] if command == "evaluate" else ["resume=run", "trainer.steps=9"])
    honest = path.read_text()
    for where in SECTIONS:
        for target in ("os.system", "canary_module.Net", "cnnlab.targets.instantiate"):
            path.write_text(config.to_yaml(naming(where, {"_target_": target, "command": f"touch {canary}"})))
            code, out, err = call(command, *arguments)
            assert (code, out) == (2, "")
            assert f"{where}._target_={target}" in err
            assert err.count("\n") == 1
    assert not canary.exists()
    path.write_text(honest)
    assert call(command, *arguments)[0] == 0


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
    assert "goes with resume=RUN" in call("train", *quick, *own, "trust=mine_trusted")[2]
