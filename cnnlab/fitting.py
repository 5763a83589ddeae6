"""`cnnlab.fit`: train from Python or a notebook, as `python -m cnnlab.train` does from a command line."""

from collections.abc import Sequence
from pathlib import Path

from cnnlab import composing
from cnnlab.config import trust
from cnnlab.errors import ConfigError, known_errors
from cnnlab.opening import OpenedRun, load
from cnnlab.tracking.run import begun
from cnnlab.training.experiment import run_new


def fit(*overrides: str, config_dirs: str | Path | Sequence[str | Path] = ()) -> OpenedRun:
    """Train a network in a new run directory, and open the run.

    In the main thread, the first Ctrl-C saves the run and ends it, and `python -m cnnlab.train resume=RUN` continues it; the
    previous signal handlers are restored afterwards.

    Args:
        overrides: such as "model=lenet", "data=digits", "trainer.epochs=3", "console=quiet".
        config_dirs: one or more directories with further choices; in "mine", model/tiny.yaml is "model=tiny".

    Raises:
        CnnlabError: a setting that cannot be used, missing data, a loss that diverged, Ctrl-C (StoppedError).
    """
    with known_errors():
        for override in overrides:
            if not isinstance(override, str):
                raise ConfigError(
                    f"{override!r}: expected overrides as on a command line, one string each: fit('model=lenet', ...)"
                )
        given = [config_dirs] if isinstance(config_dirs, str | Path) else config_dirs
        directories = [Path(directory) for directory in given]
        for directory in directories:
            if not directory.is_dir():
                raise ConfigError(f"config_dirs: {directory}: no such directory")
        new = composing.new_run(overrides, directories)
        with begun(new.directory, new.may_rename) as run:
            run_new(new.cfg, run.path, new.choices)
        return load(run.path, trust=trust.named(new.cfg))  # the caller named it
