"""cnnlab's plugins for Hydra, which finds them in this namespace package. Imported at every start: imports nothing heavy."""

import time
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cnnlab.errors import ConfigError


class ParallelLauncher(Launcher):
    """hydra/launcher=parallel: run as many jobs at a time as the machine takes. See configs/hydra/launcher/parallel.yaml."""

    def __init__(self, jobs: int | None, jobs_per_gpu: int) -> None:
        self.jobs, self.jobs_per_gpu = jobs, jobs_per_gpu
        self.began = time.monotonic()
        self.before = 0  # jobs that were done when the command began
        self.expected: int | None = None  # jobs in all, if a sweeper launches them in batches or some are done

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        for name, value in (("jobs", self.jobs), ("jobs_per_gpu", self.jobs_per_gpu)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"hydra.launcher.{name}={value}: expected a number of 1 or more")
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def at_a_time(self, jobs: int) -> int:
        """Return how many of `jobs` jobs run at a time."""
        from cnnlab.sweep import parallel

        return len(parallel.slots(self, jobs))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from cnnlab.sweep import parallel

        return parallel.launch(self, job_overrides, initial_job_idx)


class OptunaSweeper(Sweeper):
    """hydra/sweeper=optuna: a random or Bayesian search by validation score. See configs/hydra/sweeper/optuna.yaml."""

    def __init__(
        self,
        trials: int,
        sampler: str,
        seed: int,
        batch: int | None,
        prune: bool,
        prune_after_trials: int,
        prune_after_epochs: int,
    ) -> None:
        self.trials, self.sampler, self.seed, self.batch = trials, sampler, seed, batch
        self.pruning = {"prune_after_trials": prune_after_trials, "prune_after_epochs": prune_after_epochs}
        self.prune = prune

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        wanted = {"trials": (self.trials, 1), "batch": (self.batch, 1), "seed": (self.seed, 0)}
        for name, (value, least) in (wanted | {name: (value, 0) for name, value in self.pruning.items()}).items():
            if not (isinstance(value, int) and value >= least) and not (name == "batch" and value is None):
                raise ConfigError(f"hydra.sweeper.{name}={value}: expected a number of {least} or more")
        if self.sampler not in ("tpe", "random"):
            raise ConfigError(f"hydra.sweeper.sampler={self.sampler}: expected tpe or random")
        if not isinstance(self.prune, bool):
            raise ConfigError(f"hydra.sweeper.prune={self.prune}: expected true or false")
        self.context, self.node = hydra_context, config
        self.jobs_launcher = _launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        from cnnlab.sweep.search import search

        return search(self, _parsed(self.context, arguments))


class GridSweeper(Sweeper):
    """hydra/sweeper=grid: run every combination, except of keys zipped together. See configs/hydra/sweeper/grid.yaml."""

    def __init__(self, zip: Sequence[str]) -> None:
        self.zip = list(zip)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.node = hydra_context, config
        self.jobs_launcher = _launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        from cnnlab.sweep.grid import expand
        from cnnlab.sweep.running import require_all_done, run_grid

        jobs = run_grid(expand(_parsed(self.context, arguments), self.zip), self.context, self.node, self.jobs_launcher)
        require_all_done(jobs)
        return jobs


def _launcher(context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    from hydra.core.plugins import Plugins

    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task_function, config=config)


def _parsed(context: HydraContext, arguments: list[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create(config_loader=context.config_loader).parse_overrides(arguments)
