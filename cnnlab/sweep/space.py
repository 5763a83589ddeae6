"""The space of a search: Hydra's own syntax, translated to Optuna's distributions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from cnnlab.config.schema import key_types
from cnnlab.errors import ConfigError
from cnnlab.sweep.grid import listed_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

EXAMPLE = "'optimizer.lr=tag(log,interval(1e-4,1e-1))' 'trainer.batch_size=32,64,128'"


@dataclass
class Space:
    """A search space. fixed: overrides of every trial. seeds: each trial runs with all; [None]: the default. distributions: by
    key, such as "optimizer.lr". keys: the same keys as they are written in overrides, such as "++optimizer.lr"."""

    fixed: list[str]
    seeds: Sequence[str | None]
    distributions: "dict[str, BaseDistribution]"
    keys: dict[str, str]

    def jobs(self, params: Mapping[str, Any]) -> list[list[str]]:
        """Return the overrides of a trial's jobs, one job per seed."""
        chosen = [f"{key}={params[name]}" for name, key in self.keys.items()]
        return [[*self.fixed, *chosen, *([f"seed={seed}"] if seed else [])] for seed in self.seeds]

    def probes(self) -> list[dict[str, Any]]:
        """Return as few sets of values as cover both ends of each range, a point within it, and each choice."""
        candidates = {name: _candidates(distribution) for name, distribution in self.distributions.items()}
        number = max(len(values) for values in candidates.values())
        return [{name: values[min(at, len(values) - 1)] for name, values in candidates.items()} for at in range(number)]

    def described(self) -> dict[str, str]:
        """Return what a later search must have in common to continue the same study."""
        from optuna.distributions import distribution_to_json

        return {name: distribution_to_json(distribution) for name, distribution in self.distributions.items()}


def parse(overrides: Sequence[Override]) -> Space:
    """Split a command line into fixed overrides, seeds and keys to search.

    `interval(a,b)` is a float from a to b, `int(interval(a,b))` an integer, `range(a,b,step)` goes in steps and excludes b,
    `tag(log,interval(a,b))` has a logarithmic scale, `x,y,z` or `choice(x,y,z)` are categories. The last override of a key
    counts.

    Raises:
        ConfigError: a range is empty or cannot be searched, or there is nothing to search.
    """
    space = Space([], [None], {}, {})
    for override in {override.key_or_group: override for override in overrides}.values():
        name, key = override.key_or_group, override.get_key_element()
        if not override.is_sweep_override():
            space.fixed.append(key if override.is_delete() else f"{key}={override.get_value_element_as_str()}")
        elif name == "seed":
            if override.is_interval_sweep():
                raise ConfigError(f"{override.input_line}: a trial runs with each seed; list them: seed=0,1,2")
            space.seeds = list(override.sweep_string_iterator())
        else:
            space.distributions[name], space.keys[name] = _distribution(override), key
    if not space.distributions:
        raise ConfigError(f"hydra/sweeper=optuna: nothing to search; give keys a range or choices: {EXAMPLE}")
    return space


def _distribution(override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    line, given = override.input_line, override.value()
    tags = set(getattr(given, "tags", ()))
    if tags - {"log"} or (tags and not isinstance(given, IntervalSweep)):
        raise ConfigError(f"{line}: expected no tag other than log, on an interval: tag(log,interval(1e-4,1e-1))")
    if isinstance(given, IntervalSweep):
        low, high = given.start or 0, given.end or 0
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{line}: expected an interval from a smaller to a larger number")
        if tags and low <= 0:
            raise ConfigError(f"{line}: expected an interval above 0 for a logarithmic scale")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=bool(tags))
        if key_types().get(override.key_or_group) in (int, int | None):
            raise ConfigError(f"{line}: takes integers; write int(interval({low:g},{high:g}))")
        return FloatDistribution(low, high, log=bool(tags))
    if isinstance(given, RangeSweep):
        values = sorted(listed_values(line or "", given.range))
        if not values:
            raise ConfigError(f"{line}: an empty range")
        step = values[1] - values[0] if len(values) > 1 else 1
        if all(isinstance(value, int) for value in values):
            return IntDistribution(int(values[0]), int(values[-1]), step=int(step))
        return FloatDistribution(values[0], values[-1], step=abs(float(given.step)))
    return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))


def _candidates(distribution: "BaseDistribution") -> list[Any]:
    """Return both ends and a value between them that is not a round number; or all choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    within = low + (high - low) * 0.61803 if step is None else low + step * round((high - low) / step * 0.61803)
    return [low, high, within]
