"""Phases: each trains its own parameters at its own rate with a fresh optimizer, and a run is resumed inside any of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_run
from safetensors.torch import load_file
from small_runs import SMALL, epoch_lines, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnnlab import composing, config
from cnnlab.config import trust
from cnnlab.errors import ConfigError
from cnnlab.training.session import build_session

HEAD = '{epochs: 1, parameters: [{match: "blocks.*", frozen: true}]}'
COSINE = "{_target_: cnnlab.training.schedule.cosine}"
ALL = f'{{epochs: 2, lr_factor: 0.1, schedule: {COSINE}, parameters: [{{match: "*.bias", frozen: true}}]}}'
NETWORK = ("model=lenet", "model.batch_norm=true", "optimizer=adam", "augment=[flip]", "model.dropout=0.1")
PHASED = (*NETWORK, f"phases=[{HEAD},{ALL}]", "trainer.epochs=3")  # 4 steps an epoch
STEPS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run", *PHASED)


def session(*overrides: str) -> Any:
    return build_session(composing.typed(composing.compose([*SMALL, *overrides])))


def test_each_phase_has_its_parameters_rate_and_a_fresh_optimizer() -> None:
    made = session(*PHASED)
    trained = [{name for name, parameter in made.model.named_parameters() if parameter.requires_grad}]
    assert not made.enter_phase(3)
    made.step(torch.arange(8), 3, 1.0)
    first = made.step.optimizer
    assert made.enter_phase(4)
    assert first.state
    assert not made.step.optimizer.state
    assert all(parameter.grad is None for parameter in made.model.parameters())
    trained.append({name for name, parameter in made.model.named_parameters() if parameter.requires_grad})
    names = {name for name, _ in made.model.named_parameters()}
    assert trained == [{n for n in names if not n.startswith("blocks.")}, {n for n in names if not n.endswith(".bias")}]
    # Half a cosine over the 8 steps of the second phase, from a tenth of 0.001.
    assert made.lr(4) == pytest.approx(1e-4, rel=1e-12)
    assert made.lr(8) == pytest.approx(5e-5, rel=1e-12)


def test_the_loss_curve_and_the_metrics_go_on(whole: Path) -> None:
    lines = epoch_lines(whole)
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert lines[0]["lr"] == pytest.approx(1e-3)
    assert lines[1]["lr"] < 1e-4


def test_console_and_tensorboard_tell_the_phase(call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, _ = call("train", *SMALL, *PHASED, "console=plain", f"hydra.run.dir={run}")
    assert code == 0
    assert [line.partition(" train ")[0].rstrip() for line in out.splitlines() if line.startswith("epoch")] == [
        "epoch 1/3 phase 1", "epoch 2/3 phase 2", "epoch 3/3 phase 2",
    ]  # fmt: skip
    assert "trainer.epochs=" not in out  # it cannot be lengthened
    events = EventAccumulator(str(run)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("training/phase")] == [(4, 1), (8, 2), (12, 2)]


def test_frozen_batch_norm_keeps_its_statistics_in_its_phase(tmp_path: Path) -> None:
    run = train(tmp_path / "run", *NETWORK, f"phases=[{HEAD}]", "trainer.epochs=1")
    found = load_file(run / "last.safetensors")
    means = {name: tensor for name, tensor in found.items() if name.endswith("running_mean")}
    assert means
    assert not any(tensor.any() for name, tensor in means.items() if ".blocks." in name)


def test_one_phase_is_a_run_without_phases(tmp_path: Path) -> None:
    groups = '[{match: "blocks.*", frozen: true}]'
    plain = train(tmp_path / "plain", *NETWORK, f"parameters={groups}", "trainer.epochs=1")
    phased = train(tmp_path / "phased", *NETWORK, f"phases=[{HEAD}]", "trainer.epochs=1")
    assert_same_run(plain, phased)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (("trainer.epochs=4",), "trainer.epochs=3"),
        (("trainer.steps=4",), "trainer.steps"),
        (("trainer.patience=2",), "trainer.patience"),
        (("parameters=[{match: 'x'}]",), "parameters"),
        (("phases=[{epochs: 0}]", "trainer.epochs=1"), "phases[0]"),
        (("phases=[{epochs: 1, lr_factor: 0}]", "trainer.epochs=1"), "phases[0]"),
        (("phases=[{epochs: 1, lr_factr: 0}]", "trainer.epochs=1"), "lr_factor"),
        (("phases=[{lr_factor: 1}]", "trainer.epochs=1"), "phases[0].epochs"),
        (("phases=[{epochs: 1}, {epochs: 1, parameters: [{match: 'nothing.*'}]}]", "trainer.epochs=2"),
         "phases[1].parameters[0].match"),
        (("phases=[{epochs: 1, parameters: [{match: '*', frozen: true}]}]", "trainer.epochs=1"), "phases[0].parameters"),
        (("phases=[{epochs: 1, schedule: {_target_: cnnlab.training.schedule.cosin}}]", "trainer.epochs=1"),
         "phases[0].schedule._target_"),
        (("phases=[{epochs: 1, schedule: {_target_: cnnlab.training.schedule.cosine, warmup_epochs: 5}}]", "trainer.epochs=1"),
         "phases[0].schedule"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_the_first_step(call, tmp_path: Path, changes: tuple[str, ...], key: str) -> None:
    run = tmp_path / "run"
    code, _, err = call("train", *SMALL, *PHASED, *changes, f"hydra.run.dir={run}")
    assert (code, run.exists()) == (2, False)
    assert key in err
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize("override", ["trainer.epochs=6", "trainer.steps=40"])
def test_it_cannot_be_lengthened(call, whole: Path, override: str) -> None:
    before = config.read(whole / "config.yaml")
    assert call("train", f"resume={whole}", override)[0] == 2
    assert config.read(whole / "config.yaml") == before
    code, out, _ = call("train", f"resume={whole}")
    assert code == 0
    assert "trainer.epochs=" not in out


def test_a_schedule_of_a_phase_is_looked_at_as_any_other() -> None:
    cfg = composing.typed(composing.compose([*SMALL, *PHASED]))
    trust.check(cfg)
    cfg.phases[1].schedule = {"_target_": "os.system", "command": "true"}
    with pytest.raises(ConfigError, match=r"phases\[1\]\.schedule\._target_=os\.system"):
        trust.check(cfg)


def test_no_phases_leave_every_recipe_as_it_was() -> None:
    assert not any(key.startswith("phases") for key in config.recipe(composing.typed(composing.compose([]))))
