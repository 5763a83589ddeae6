"""model=transfer: the network of another run for other images, the layers that fit taken over."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import SMALL, resume

from cnnlab import cli, composing, config, load
from cnnlab.config import trust
from cnnlab.errors import ConfigError
from cnnlab.training.checkpoint import content_hash

LENET = ("model=lenet", "trainer.epochs=1")
DATA = tuple(setting for setting in SMALL if not setting.startswith("model"))


def train(run: Path, *settings: str) -> Path:
    """Train with DATA and `settings` in the directory `run`, which is returned."""
    assert cli.run("train", [*DATA, *settings, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet that tells the digits 0 to 4."""
    return train(tmp_path_factory.mktemp("source") / "run", *LENET, "data.classes=[0,1,2,3,4]")


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last.safetensors")


def test_layers_that_fit_are_taken_and_frozen_ones_stay(call, source: Path, tmp_path: Path) -> None:
    frozen = "parameters=[{match: 'blocks.*', frozen: true}, {match: '*.dense0.*', frozen: true}]"
    place, seven = f"hydra.run.dir={tmp_path / 'run'}", "data.classes=[3,4,5,6,7,8,9]"
    code, _, err = call("train", *DATA, "model=transfer", f"model.run={source}", "trainer.epochs=1", seven, frozen, place)
    assert code == 0
    assert "blocks.*" in err.partition("; new:")[0]
    assert "output" in err.partition("; new:")[2]  # 7 outputs, 5 there
    old, new = tensors(source), tensors(tmp_path / "run")
    same = {name for name in new if name.startswith("model.") and name in old and torch.equal(old[name], new[name])}
    assert same == {name for name in new if name.startswith(("model.blocks", "model.dense.dense0", "model.head.dense0"))}


def test_the_new_run_opens_and_goes_on_without_the_old_one(source: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(source, tmp_path / "old"))
    run = train(tmp_path / "run", "model=transfer", f"model.run={old}", "trainer.epochs=1", "data.classes=[5,6]")
    again = train(tmp_path / "again", "model=transfer", f"model.run={run}", "trainer.epochs=1")
    shutil.rmtree(old)
    section = config.read(run / "config.yaml").model
    assert section["network"]["_target_"] == "cnnlab.models.ConvNet"
    assert load(run).description.classes == ("5", "6")
    assert config.read(again / "config.yaml").model["network"] == section["network"]  # not one within another
    resume(run, "trainer.epochs=2")


def test_weights_of_before_the_first_step_are_those_of_the_run(source: Path, tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint begins with them again."""
    settings = ("model=transfer", f"model.run={source}", "trainer.epochs=1", "data.classes=[5,6]")
    whole, killed = train(tmp_path / "whole", *settings), tmp_path / "killed"
    killed.mkdir()
    for name in ("config.yaml", "environment.json"):
        shutil.copy(whole / name, killed)
    resume(killed)
    assert all(torch.equal(tensor, tensors(killed)[name]) for name, tensor in tensors(whole).items())


def test_a_smaller_image_keeps_the_convolutions(call, source: Path, tmp_path: Path) -> None:
    settings = [*DATA, "model=transfer", f"model.run={source}", "trainer.steps=1", f"hydra.run.dir={tmp_path / 'run'}"]
    settings += ["data.source._target_=test_every_model.blank_source", "data.source.shape=[1,20,20]", "data.validation=0"]
    settings += ["data.limit=null"]
    code, _, err = call("train", *settings)
    assert code == 0, err
    taken, _, new = err.partition("; new:")
    assert "blocks.*" in taken
    assert "dense0" in new


@pytest.mark.parametrize(
    ("changes", "says"),
    [(["model.run=nowhere"], "model.run=nowhere"), ([], "model.run"), (["model.run={here}"], "config.yaml")],
)
def test_runs_that_cannot_be_taken(call, tmp_path: Path, changes: list[str], says: str) -> None:
    code, _, err = call("summary", "data=digits", "model=transfer", *(change.format(here=tmp_path) for change in changes))
    assert (code, len(err.splitlines())) == (2, 1)
    assert says in err


def test_a_pretrained_network_is_taken_as_it_was_trained(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as ImageNet's weights were, which need not be there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    small = ("model=pretrained", "model.backbone=shufflenet_v2_x0_5", "model.weights=none", "trainer.epochs=1")
    old = train(tmp_path / "old", *small)
    path = old / "config.yaml"
    path.write_text(path.read_text().replace("weights: none", "weights: imagenet", 1))
    frozen = "parameters=[{match: 'backbone.*', frozen: true}]"
    settings = [*DATA, "model=transfer", f"model.run={old}", "trainer.epochs=1", "data.classes=[1,2]", frozen]
    code, _, err = call("train", *settings, f"hydra.run.dir={tmp_path / 'new'}")
    assert (code, len(err.splitlines())) == (0, 1)
    assert "mean, std, backbone.*; new: head.*" in err
    one, other = tensors(old), tensors(tmp_path / "new")
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("model.backbone."))


def test_nothing_fits(call, tmp_path: Path) -> None:
    mlp = train(tmp_path / "mlp", "model=mlp", "trainer.epochs=1")
    path = mlp / "config.yaml"
    assert call("train", *DATA[:3], "model=transfer", f"model.run={mlp}", "model.network._target_=cnnlab.models.MLP",
                "model.network.hidden=[9]", "data.classes=[1,2]", "console=quiet", f"hydra.run.dir={tmp_path / 'new'}"
                )[0] == 2  # fmt: skip
    assert not (tmp_path / "new").exists()
    path.write_text(path.read_text().replace("cnnlab.models.MLP", "os.system"))
    code, _, err = call("summary", "data=digits", "model=transfer", f"model.run={mlp}")
    assert code == 2
    assert "os.system" in err


def test_a_run_made_so_without_its_network(call, tmp_path: Path, source: Path) -> None:
    run = Path(shutil.copytree(source, tmp_path / "run"))
    section = {"_target_": "cnnlab.models.transferred", "run": "x"}
    config_ = yaml.safe_load((run / "config.yaml").read_text()) | {"model": section}
    (run / "config.yaml").write_text(yaml.safe_dump(config_))
    code, _, err = call("summary", "data=digits", "model=transfer", f"model.run={run}")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "model.network" in err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensor: (tensor * 100).to(torch.uint8), "no layer of it fits"),
        (lambda tensor: tensor.to(torch.complex64), "no layer of it fits"),
        (lambda tensor: torch.full_like(tensor, torch.nan), "last.safetensors"),
    ],
)
def test_weights_that_no_training_leaves(
    call, source: Path, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], says: str
) -> None:
    path = Path(shutil.copytree(source, tmp_path / "run")) / "last.safetensors"
    with safe_open(path, "pt") as file:
        said = file.metadata()["cnnlab"]
    changed = {name: change(tensor) if name.startswith("model.") else tensor for name, tensor in load_file(path).items()}
    save_file(changed, path, {"cnnlab": said, "sha256": content_hash(changed, said)})
    place = f"hydra.run.dir={tmp_path / 'new'}"
    code, _, err = call("train", *DATA, "model=transfer", f"model.run={path.parent}", "trainer.epochs=1", place)
    assert code == 2
    assert says in err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_a_nested_network_is_looked_at_as_any_other(source: Path) -> None:
    cfg = composing.typed(composing.compose(["data=digits", "model=transfer", f"model.run={source}"]))
    trust.check(cfg)
    cfg.model = cfg.model | {"network": {"_target_": "os.system", "command": "true"}}
    with pytest.raises(ConfigError, match=r"model\.network"):
        trust.check(cfg)


def test_its_recipe_is_not_that_of_a_new_network(source: Path) -> None:
    given = ("data=digits", "model=transfer", f"model.run={source}")
    cfg = composing.typed(composing.compose(list(given)))
    assert cfg.model["run"] == str(source)
    assert config.recipe_hash(cfg) != config.recipe_hash(composing.typed(composing.compose(["data=digits", "model=lenet"])))


def test_summary_of_it(call, source: Path) -> None:
    code, out, _ = call("summary", "data=digits", "model=transfer", f"model.run={source}")
    assert code == 0
    assert "parameters" in out
