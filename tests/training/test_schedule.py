"""Schedules against torch's schedulers, which count from 0 like ours."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import choices
from torch.optim import lr_scheduler

from cnnlab import composing
from cnnlab.errors import ConfigError
from cnnlab.training.schedule import build_schedule, cosine, depends_on_end, one_cycle, step_decay

TOTAL, PER_EPOCH = 37, 5


def torch_factors(build: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], count: int) -> list[float]:
    """The learning rates of `count` steps, with an initial one of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64, requires_grad=True)], lr=1.0)
    scheduler = build(optimizer)
    factors = []
    for step in range(count):
        factors.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step < count - 1:
            scheduler.step()
    return factors


# torch's schedulers multiply up their factors step by step, which costs some 1e-15 a step.
def close(values: list[float]) -> Any:
    return pytest.approx(values, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize(("every", "gamma"), [(5, 0.1), (2, 0.5), (1, 0.9)])
def test_step_decay_is_torchs_step_lr(every: int, gamma: float) -> None:
    expected = torch_factors(lambda optimizer: lr_scheduler.StepLR(optimizer, every * PER_EPOCH, gamma), TOTAL)
    assert [step_decay(step, PER_EPOCH, every, gamma) for step in range(TOTAL)] == close(expected)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_torchs_cosine_annealing(final: float) -> None:
    expected = torch_factors(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, final), TOTAL)
    assert [cosine(step, TOTAL, PER_EPOCH, final=final) for step in range(TOTAL)] == close(expected)


def test_warm_up_is_a_line_before_a_whole_half_cosine() -> None:
    warmup = 8  # 1.6 epochs of 5 steps
    line = torch_factors(lambda optimizer: lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup), warmup)
    fall = torch_factors(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL - warmup), TOTAL - warmup)
    assert [cosine(step, TOTAL, PER_EPOCH, warmup_epochs=1.6) for step in range(TOTAL)] == close(line + fall)


@pytest.mark.parametrize("peak", [0.3, 0.5])
def test_one_cycle_is_torchs_one_cycle(peak: float) -> None:
    # torch puts the peak at pct_start * total - 1, ours is at peak * (total - 1); torch's final divisor is relative.
    share = (peak * (TOTAL - 1) + 1) / TOTAL

    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(
            optimizer, 1.0, TOTAL, pct_start=share, cycle_momentum=False, div_factor=25, final_div_factor=400
        )

    assert [one_cycle(step, TOTAL, peak) for step in range(TOTAL)] == close(torch_factors(build, TOTAL))


def test_one_cycle_reaches_its_three_corners_exactly() -> None:
    factors = [one_cycle(step, 11, 0.3, 20.0, 500.0) for step in range(11)]
    assert factors[0] == pytest.approx(1 / 20, rel=1e-14)
    assert factors[3] == 1
    assert factors[10] == pytest.approx(1 / 500, rel=1e-12)


@pytest.mark.parametrize("choice", choices("schedule"))
def test_every_choice_stays_within_1_and_depends_on_the_runs_end_exactly_when_it_says_so(choice: str) -> None:
    section = composing.compose([f"schedule={choice}"]).schedule
    schedules = [build_schedule(section, total, PER_EPOCH) for total in (TOTAL, TOTAL + 10)]
    short, long = ([schedule(step) for step in range(TOTAL)] for schedule in schedules)
    assert all(0 < factor <= 1 and isinstance(factor, float) for factor in short)
    assert max(short) > 0.99  # the optimizer's lr is the largest one
    assert depends_on_end(section) is (short != long)


def test_the_configured_values_reach_the_schedule() -> None:
    section = composing.compose(["schedule=step", "schedule.every_epochs=2", "schedule.gamma=0.5"]).schedule
    schedule = build_schedule(section, TOTAL, PER_EPOCH)
    assert [schedule(step) for step in (0, 9, 10, 19, 20)] == [1, 1, 0.5, 0.5, 0.25]
    cosines = build_schedule(composing.compose(["schedule=cosine", "schedule.final=0.2"]).schedule, 10, 1)
    assert cosines(5) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 2)) / 2)


@pytest.mark.parametrize(
    "overrides",
    [
        ("step", "every_epochs=0"),
        ("step", "gamma=0"),
        ("cosine", "warmup_epochs=8"),
        ("cosine", "warmup_epochs=-1"),
        ("cosine", "final=1.5"),
        ("one_cycle", "peak=0.0"),
        ("one_cycle", "peak=1.0"),
        ("one_cycle", "final_divisor=0.5"),
        ("one_cycle", "initial_divisor=0.5"),
        ("constant", "gama=1"),
    ],
)
def test_values_out_of_range_are_refused_before_the_run(overrides: tuple[str, str]) -> None:
    choice, value = overrides
    section = composing.compose([f"schedule={choice}", f"schedule.{value}"]).schedule
    with pytest.raises(ConfigError, match=value.partition("=")[0]):
        build_schedule(section, TOTAL, PER_EPOCH)


def test_a_run_of_one_step_has_a_learning_rate() -> None:
    assert one_cycle(0, 1) == pytest.approx(1 / 25)
    assert cosine(0, 1, 1) == 1
