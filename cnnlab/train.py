"""`python -m cnnlab.train KEY=VALUE ...`: train a network, sweep with -m, or continue a run with resume=RUN."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cnnlab import cli, composing, config
from cnnlab.composing.overrides import explain, prepare
from cnnlab.composing.settings import choices_help
from cnnlab.config import trust
from cnnlab.errors import ConfigError
from cnnlab.sweep.directory import locked, settings
from cnnlab.tracking.run import COMMAND, begun, open_run
from cnnlab.training import lengthening

FLAGS = ("-h", "--help", "-m", "--multirun", "--resolve")
WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd")
CFG_VALUES = ("job", "hydra", "all")

HELP = """Train a network on a data set; every setting is written KEY=VALUE.

  python -m cnnlab.train                          LeNet on MNIST
  python -m cnnlab.train model=chollet data=fashion optimizer=rmsprop
  python -m cnnlab.train data=cifar10 'augment=[flip,crop]' schedule=one_cycle
  python -m cnnlab.train model=lenet --help       that network's own settings
  python -m cnnlab.train -m model=lenet,mlp seed=0,1,2       all six runs
  python -m cnnlab.train -m sweep.name=night ...  rerun: only what is missing
  python -m cnnlab.train resume=RUN               continue a stopped run
  python -m cnnlab.train resume=RUN trainer.epochs=20        train it longer
  python -m cnnlab.train model._target_=mine.Net  a torch.nn.Module in mine.py
  python -m cnnlab.train resume=RUN trust=mine    a run that uses mine.py

RUN is the directory of a run, or last.

Groups and their choices (GROUP=CHOICE --help explains one):
{groups}

Settings and their defaults:
{settings}
A group's own settings are changed in the same way: optimizer.lr=0.01, model.dropout=0.2.

Sweeps (with -m):
  KEY=A,B             each of these values; 'seed=range(5)' is 0,1,2,3,4
  sweep.name=NAME     write to outputs/sweeps/NAME; an earlier sweep of this name is resumed
  'sweep.zip=[A,B]'   keys A and B take their values side by side, not in every combination
  hydra.launcher.jobs=N          jobs at a time; hydra.launcher.jobs_per_gpu=N on each GPU
  hydra/launcher=parallel        or basic (one after another), joblib, submitit_slurm, submitit_local
  hydra/sweeper=optuna           search instead, by the validation score: random or Bayesian
  hydra.sweeper.trials=20        how many trials; a key can be given as
    KEY=A,B  'KEY=interval(A,B)'  'KEY=int(interval(A,B))'
    'KEY=tag(log,interval(A,B))'  (with seed=0,1,2, the value of a trial is the mean of three)

Options:
  -m, --multirun      run every combination of comma-separated values
  --cfg job           print the configuration instead of training
  --config-dir DIR    also look for choices in DIR: DIR/model/mine.yaml is model=mine
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, FLAGS, WITH_VALUE)
    if "--help" in line.options or "-h" in line.options:
        cli.print_help(choices_help(line.overrides) or help_text())
        return 0
    extra = cli.config_directories(line)
    _check_line(line)
    resumed = [override.partition("=")[2] for override in line.overrides if override.startswith("resume=")]
    if resumed:
        return _resume(resumed[-1], [override for override in line.overrides if not override.startswith("resume=")])
    options = [part for name, value in line.options.items() for part in (name, value) if part is not None]
    sweeping = bool({"-m", "--multirun"} & set(line.options))
    own, sweep = settings(line.overrides, sweeping)
    if set(line.options) <= {"--config-dir", "-cd"}:
        sys.argv = ["cnnlab.train", *arguments]  # recorded in environment.json
        return _train(composing.new_run(own, extra))
    overrides = prepare(own, composing.groups(extra), sweeping) + sweep
    if sweeping and not set(line.options) & {"--cfg", "-c", "--info", "-i"}:
        cli.tell_loading("torch and the sweep")
        typed = shlex.join(["cnnlab.train", *arguments])
        with locked(overrides) as placed, _environment(COMMAND, typed):
            return _enter_hydra(placed, options)
    return _enter_hydra(overrides, options)


def _check_line(line: cli.CommandLine) -> None:
    """Raise ConfigError for options that cannot be combined and for plain words, which train does not take."""
    options = line.options
    for name in ("--cfg", "-c"):
        if name in options and options[name] not in CFG_VALUES:
            raise ConfigError(f"{name} {options[name]}: expected one of {', '.join(CFG_VALUES)}")
        if name in options and {"-m", "--multirun"} & set(options):
            raise ConfigError(f"{name}: shows the configuration of one run; leave out -m and lists of values")
    for name in ("--resolve", "--package", "-p"):
        if name in options and not {"--cfg", "-c"} & set(options):
            raise ConfigError(f"{name}: works only with --cfg job")
    for override in line.overrides:
        if override.startswith("trust=") and not any(other.startswith("resume=") for other in line.overrides):
            raise ConfigError(f"{override}: works only with resume=RUN; what the command line itself names is trusted")
        if override.startswith("resume=") and options:
            raise ConfigError(f"{override}: continues one run; leave out {', '.join(options)}")
    if line.words[:1] == ["resume"]:
        raise ConfigError(f"resume: write it as one word, resume={' '.join(line.words[1:]) or 'RUN'}")
    if line.words:
        near = [f"{group}={word}" for word in line.words for group, choices in composing.groups().items() if word in choices]
        raise ConfigError(f"{line.words[0]}: expected KEY=VALUE.{' Did you mean ' + ' '.join(near) + '?' if near else ''}")


def _resume(directory: str, overrides: Sequence[str]) -> int:
    """Continue a run in its own directory, or say that there is nothing to do."""
    trusted, overrides = trust.split(overrides)
    cli.tell_loading("torch and the run")
    run, recorded = open_run(directory, trusted)
    cfg = lengthening.with_overrides(run, recorded, overrides)
    done = lengthening.nothing_to_do(run, recorded, cfg)
    if done:
        print(done)
        return 0
    with run.locked():
        from cnnlab.training.experiment import run_resumed

        run_resumed(cfg, run)
    return 0


def help_text() -> str:
    """Return the text of --help; groups and settings are read from `configs/`."""
    groups = "\n".join(f"  {name:<12}{' '.join(choices)}" for name, choices in composing.groups().items())
    root = (config.config_dir() / "config.yaml").read_text()
    settings = root.partition("\n\n")[2].partition("\nhydra:")[0]
    return HELP.format(groups=groups, settings="\n".join("  " + row for row in settings.splitlines()) + "\n")


def _train(new: composing.NewRun) -> int:
    if new.cfg.console != "quiet":
        cli.tell_loading(f"torch and {new.cfg.data.name}")
    with begun(new.directory, new.may_rename) as run:
        from cnnlab.training.experiment import run_new

        run_new(new.cfg, run.path, new.choices)
    return 0


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Context manager that sets an environment variable, which jobs in other processes read."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _enter_hydra(overrides: Sequence[str], options: Sequence[str]) -> int:
    """Let Hydra show the configuration, or compose and call each job of a sweep."""
    from cnnlab.sweep.job import job

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing its own text
    sys.argv = ["cnnlab.train", *options, *overrides]
    enter = hydra.main(config_path=str(config.config_dir()), config_name="config", version_base="1.3")
    try:
        enter(job)()  # other processes import `job` by its name
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, overrides) from error
    return 0


if __name__ == "__main__":
    sys.exit(cli.run("train", sys.argv[1:]))
