"""Phases of a run, each with its own trainable parameters, learning rate and fresh optimizer; most runs have one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cnnlab.config.schema import Config, ParameterGroup
from cnnlab.training.groups import freeze, matched
from cnnlab.training.schedule import build_schedule
from cnnlab.training.step import build_optimizer


@dataclass(frozen=True)
class Phase:
    """One phase of a run.

    where: the key of `groups` in the configuration. first, end: its first step and the one after its last.
    lr_factor: the factor of the optimizer's lr at a step of the run."""

    where: str
    first: int
    end: int
    groups: Sequence[ParameterGroup]
    lr_factor: Callable[[int], float]

    def begin(self, cfg: Config, model: nn.Module, trainable: Sequence[str], device: torch.device) -> torch.optim.Optimizer:
        """Freeze the parameters that this phase freezes, and build an optimizer over the rest.

        trainable: names of the parameters that the network itself leaves trainable.

        Raises:
            ConfigError: groups that do not suit the network or the optimizer.
        """
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trainable)
        freeze(model, self.groups, self.where)
        return build_optimizer(cfg.optimizer, model, device, self.groups)

    def trained(self, model: nn.Module) -> list[str]:
        """Names of the parameters that the phase does not freeze."""
        return [name for name, group in matched(model, self.groups, self.where).items() if not group.frozen]


def build_phases(cfg: Config, total_steps: int, steps_per_epoch: int) -> list[Phase]:
    """Build the phases of a run; without `phases`, a single one from `parameters` and `schedule`.

    Raises:
        ConfigError: a schedule that refuses its values.
    """
    if not cfg.phases:
        schedule = build_schedule(cfg.schedule, total_steps, steps_per_epoch)
        return [Phase("parameters", 0, total_steps, cfg.parameters, schedule)]
    phases: list[Phase] = []
    for number, one in enumerate(cfg.phases):
        first, steps, where = phases[-1].end if phases else 0, one.epochs * steps_per_epoch, f"phases[{number}]"
        key = "schedule" if one.schedule is None else f"{where}.schedule"
        schedule = build_schedule(one.schedule or cfg.schedule, steps, steps_per_epoch, key)
        scaled = _scaled(schedule, one.lr_factor, first)
        phases.append(Phase(f"{where}.parameters", first, first + steps, one.parameters, scaled))
    return phases


def _scaled(schedule: Callable[[int], float], factor: float, first: int) -> Callable[[int], float]:
    return lambda step: factor * schedule(step - first)
