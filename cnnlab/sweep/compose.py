"""The configuration of each job of a sweep, composed and checked before any job runs."""

import copy
from collections.abc import Callable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from cnnlab import composing, config
from cnnlab.config.schema import Config


def job_key(cfg: Config) -> tuple[str, int]:
    """Return what identifies a job: its recipe and its seed."""
    return config.recipe_hash(cfg), cfg.seed


def of_sweep(context: HydraContext, node: DictConfig) -> "Composer":
    """Return the composer for the jobs of a sweep whose own configuration is `node`."""

    def whole(overrides: Sequence[str]) -> DictConfig:
        setup_globals()
        return context.config_loader.load_sweep_config(node, list(overrides))

    return Composer(whole)


class Composer:
    """Composes the checked configuration of a job from its overrides.

    Hydra takes 60 ms to compose one, so jobs that differ only in plain values share a composition. whole: Hydra's composition.
    """

    def __init__(self, whole: Callable[[Sequence[str]], DictConfig]) -> None:
        self.whole, self.groups = whole, composing.groups()
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Sequence[str]) -> Config:
        """Return the configuration; raise ConfigError if it is invalid."""
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = {override.key_or_group: override for override in parsed if self._is_value(override)}
        key = tuple(override.input_line or "" for override in parsed if override.key_or_group not in values)
        if key not in self.composed:
            self.composed[key] = composing.own_node(self.whole(key))
        own = copy.deepcopy(self.composed[key])
        for name, override in values.items():
            OmegaConf.update(own, name, override.value(), merge=True, force_add=True)
        return composing.typed(own)

    def _is_value(self, override: Override) -> bool:
        """Whether an override sets a value in the configuration, and neither chooses from a group nor concerns Hydra."""
        name = override.key_or_group
        return not (name in self.groups or name.startswith("hydra") or override.is_add() or override.is_delete())
