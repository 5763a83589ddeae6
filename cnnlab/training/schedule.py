"""The learning rate as a function of the step: each schedule returns a factor for the optimizer's lr.

`step` counts updates from 0. A schedule that takes `total_steps` depends on where the run ends, so a run that uses it cannot be
lengthened.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from cnnlab.config import targets
from cnnlab.errors import ConfigError


def constant(step: int) -> float:
    """A factor of 1 throughout."""
    return 1.0


def step_decay(step: int, steps_per_epoch: int, every_epochs: int = 5, gamma: float = 0.1) -> float:
    """Start at 1 and multiply by `gamma` after every `every_epochs` epochs.

    Raises:
        ValueError: `every_epochs` below 1 or `gamma` not positive.
    """
    if every_epochs < 1 or gamma <= 0:
        raise ValueError(f"every_epochs={every_epochs}, gamma={gamma}: expected 1 or more, and more than 0")
    return float(gamma ** (step // (every_epochs * steps_per_epoch)))


def cosine(step: int, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final: float = 0.0) -> float:
    """Rise linearly to 1 over `warmup_epochs`, then fall to `final` along half a cosine.

    Raises:
        ValueError: the warm-up is negative or leaves no step, or `final` is outside 0 to 1.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
    """
    warmup = round(warmup_epochs * steps_per_epoch)
    if not 0 <= warmup < total_steps or not 0 <= final <= 1:
        raise ValueError(
            f"warmup_epochs={warmup_epochs}, final={final}: expected a warm-up shorter than the run "
            f"({total_steps / steps_per_epoch:g} epochs), and 0 to 1"
        )
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return final + (1 - final) * _half_cosine((step - warmup) / (total_steps - warmup))


def one_cycle(
    step: int, total_steps: int, peak: float = 0.3, initial_divisor: float = 25.0, final_divisor: float = 10000.0
) -> float:
    """Rise from 1 / initial_divisor to 1 at the share `peak` of the run, then fall to 1 / final_divisor, along cosines.

    Raises:
        ValueError: `peak` outside 0 to 1, or a divisor below 1.

    Source: Smith and Topin 2018, arXiv:1708.07120.
    """
    if not 0 < peak < 1 or initial_divisor < 1 or final_divisor < 1:
        raise ValueError(
            f"peak={peak}, initial_divisor={initial_divisor}, final_divisor={final_divisor}: "
            "expected a share between 0 and 1, and divisors of 1 or more"
        )
    place = step / max(total_steps - 1, 1)
    low, part = (1 / initial_divisor, 1 - place / peak) if place < peak else (1 / final_divisor, (place - peak) / (1 - peak))
    return low + (1 - low) * _half_cosine(part)


def build_schedule(
    section: Mapping[str, Any], total_steps: int, steps_per_epoch: int, where: str = "schedule"
) -> Callable[[int], float]:
    """Build the configured schedule, a function of the step alone, and try it once; `where` is its key.

    Raises:
        ConfigError: an unknown key, or a value that the schedule refuses.
    """
    schedule = targets.bind(section, where, ("step",), total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    try:
        float(schedule(step=0))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    except TypeError as error:
        raise ConfigError(f"{where}: {error}; expected a function of the step that returns a factor") from error
    return lambda step: float(schedule(step=step))


def depends_on_end(section: Mapping[str, Any]) -> bool:
    """Whether the schedule depends on the run's length."""
    return "total_steps" in targets.parameters_of(section, "schedule")


def _half_cosine(part: float) -> float:
    """1 at 0, 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * part))
