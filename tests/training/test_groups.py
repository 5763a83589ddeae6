"""Groups of parameters: which pattern counts, what is frozen, and updates against an optimizer for each parameter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_run
from safetensors.torch import load_file
from small_runs import SMALL, resume, train
from torch import nn

from cnnlab import composing
from cnnlab.config.schema import ParameterGroup
from cnnlab.errors import ConfigError
from cnnlab.training import groups
from cnnlab.training.session import build_session
from cnnlab.training.step import build_optimizer

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def group(match: str, **values: Any) -> ParameterGroup:
    return ParameterGroup(match=match, **values)


def test_the_first_match_counts() -> None:
    chosen = [group("0.bias", frozen=True), group("0.*", lr_factor=0.1), group("*.weight", weight_decay=0.5)]
    found = groups.matched(network(), chosen)
    first, second, third = chosen
    assert [found[name] for name in ("0.bias", "0.weight", "1.weight", "2.weight")] == [first, second, third, third]
    assert found["1.bias"] is found["2.bias"] is groups.PLAIN


@pytest.mark.parametrize(
    ("chosen", "key"),
    [
        ([group("blocks.*")], r"parameters\[0\]\.match=blocks\.\*"),
        ([group("*"), group("2.*")], r"parameters\[1\]\.match=2\.\*"),
        ([group("*", frozen=True)], "parameters="),
    ],
)
def test_patterns_that_cannot_be_meant(chosen: list[ParameterGroup], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        groups.freeze(network(), chosen)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_each_group_moves_as_by_an_optimizer_of_its_own(name: str) -> None:
    """Two steps of a gradient of ones: the last layer at a tenth of the rate and with weight decay, the first bias frozen."""
    model, lr, decay = network(), 0.5, 0.25
    before = {key: value.detach().double() for key, value in model.named_parameters()}
    chosen = [group("0.bias", frozen=True), group("2.*", lr_factor=0.1, weight_decay=decay)]
    groups.freeze(model, chosen)
    optimizer = build_optimizer({"_target_": f"torch.optim.{name}", "lr": lr, "weight_decay": 0.0}, model, CPU, chosen)
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
    for key, value in model.named_parameters():
        last = key.startswith("2.")
        alone = nn.Parameter(before[key].clone())  # in float64, with the settings of its group
        settings = {"lr": lr * (0.1 if last else 1.0), "weight_decay": decay if last else 0.0}
        by_itself = getattr(torch.optim, name)([alone], **settings)
        for _ in range(0 if key == "0.bias" else 2):
            alone.grad = torch.ones_like(alone)
            by_itself.step()
        torch.testing.assert_close(value.detach().double(), alone.detach(), rtol=0, atol=1e-6)


def test_an_optimizer_without_weight_decay_cannot_have_one() -> None:
    section = {"_target_": "torch.optim.Rprop", "lr": 0.5}
    with pytest.raises(ConfigError, match="weight_decay"):
        build_optimizer(section, network(), CPU, [group("0.*", weight_decay=0.1)])


def test_frozen_batch_norm_keeps_its_statistics_and_uses_them() -> None:
    model = network()
    groups.freeze(model, [group("1.*", frozen=True)])
    groups.train_mode(model)
    norm = model[1]
    before = norm.running_mean.clone()
    values = torch.randn(8, 3) * 5 + 2
    assert torch.equal(norm(values), nn.functional.batch_norm(values, before, norm.running_var, norm.weight, norm.bias))
    assert torch.equal(norm.running_mean, before)
    assert model[0].training
    assert model[2].training


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("[{match: 'head.*', lr_factor: -1}]", "lr_factor"),
        ("[{match: 'head.*', frozen: true, lr_factor: 2}]", "lr_factor"),
        ("[{match: 'head.*', frozne: true}]", "frozne"),
        ("[{frozen: true}]", "match"),
        ("[{match: 'haed.*', frozen: true}]", "haed"),
        ("{}", "parameters"),
    ],
)
def test_bad_groups_on_the_command_line(value: str, key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    train(tmp_path / "run", f"parameters={value}", code=2)
    err = capsys.readouterr().err
    assert (err.count("\n"), key in err) == (1, True)


def test_a_run_that_trains_its_head_alone_resumes_to_the_bit(tmp_path: Path) -> None:
    chosen = ("model=lenet", "parameters=[{match: 'blocks.*', frozen: true}, {match: '*.bias', lr_factor: 2}]")
    whole = train(tmp_path / "whole", *chosen, "trainer.epochs=2")
    parted = resume(train(tmp_path / "parted", *chosen, "trainer.epochs=1"), "trainer.epochs=2")
    assert_same_run(whole, parted)
    tensors = load_file(whole / "last.safetensors")
    moved = {name.split(".")[1] for name in tensors if name.startswith("optimizer.")}
    assert moved == {"head"}  # state by the parameter's name, of those that are trained
    first = build_session(composing.typed(composing.compose([*SMALL, *chosen]))).model.state_dict()
    assert all(torch.equal(tensors[f"model.{name}"], value) for name, value in first.items() if name.startswith("blocks."))
