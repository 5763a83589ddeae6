"""The directory of a sweep: named by `sweep.name`, and used by only one sweep at a time."""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cnnlab.composing.overrides import quoted
from cnnlab.errors import ConfigError, RunTakenError, suggest
from cnnlab.tracking import files
from cnnlab.tracking.run import claim

SWEEPS = Path("outputs/sweeps")
KEYS = ("sweep.name", "sweep.zip")
DIRECTORY = "hydra.sweep.dir="


def settings(overrides: Sequence[str], sweeping: bool) -> tuple[list[str], list[str]]:
    """Return the overrides without those of `sweep.`, and the latter translated to Hydra's.

    Raises:
        ConfigError: a key or value of `sweep.` is invalid, or there is one without -m.
    """
    own, given = [], dict[str, str]()
    for override in overrides:
        key, _, value = override.partition("=")
        if not key.startswith("sweep."):
            own.append(override)
        elif key not in KEYS:
            raise ConfigError(f"{key}: no such key.{suggest(key, KEYS)} Keys: {', '.join(KEYS)}.")
        elif not sweeping:
            raise ConfigError(f"{override}: belongs to a sweep; add -m")
        else:
            given[key] = value
    for override in own:
        if sweeping and override.startswith("hydra.sweep.subdir="):
            raise ConfigError(f"{override}: a sweep names its jobs' directories itself")
        if "sweep.name" in given and override.startswith(DIRECTORY):
            raise ConfigError(f"{override}: sweep.name also sets the sweep's directory; keep one of them")
    return own, [*_zipped(given, own), *_named(given)]


@contextmanager
def locked(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Create the sweep's directory and lock it against other sweeps; yield the overrides with it added, by name or time.

    Raises:
        RunTakenError: another sweep is running in it, or it is a file.
    """
    named = [override.removeprefix(DIRECTORY).strip("'\"") for override in overrides if override.startswith(DIRECTORY)]
    ours = not named or not Path(named[-1]).exists()
    if named:
        directory = Path(named[-1])
        if directory.exists() and not directory.is_dir():
            raise RunTakenError(f"{directory}: is a file; choose another hydra.sweep.dir")
        files.make_directory(directory)
    else:
        directory = claim(SWEEPS / time.strftime("%Y-%m-%d_%H-%M-%S"), may_rename=True)
    try:
        with files.exclusive(directory / ".lock"):
            try:
                others = [override for override in overrides if not override.startswith(DIRECTORY)]
                yield [*others, f"{DIRECTORY}{quoted(directory)}"]
            finally:  # while no other sweep can have begun in it
                if ours and directory.is_dir() and {path.name for path in directory.iterdir()} <= {".lock", ".manifest.lock"}:
                    shutil.rmtree(directory, ignore_errors=True)  # stopped before it began
    except BlockingIOError:
        message = f"{directory}: another sweep is running in it; wait for it, or choose another sweep.name"
        raise RunTakenError(message) from None


def _zipped(given: dict[str, str], own: Sequence[str]) -> list[str]:
    if "sweep.zip" not in given:
        return []
    keys = given["sweep.zip"]
    if not re.fullmatch(r"\[[\w./@ ]+(,[\w./@ ]+)+\]", keys):
        raise ConfigError(f"sweep.zip={keys}: expected two or more keys, such as [optimizer.lr,trainer.batch_size]")
    if "hydra/sweeper=optuna" in own:
        raise ConfigError("sweep.zip: only for a grid; a search draws the value of each key independently")
    return [f"hydra.sweeper.zip={keys}"]


def _named(given: dict[str, str]) -> list[str]:
    if "sweep.name" not in given:
        return []
    name = given["sweep.name"].strip("'\"")
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII):
        raise ConfigError(f"sweep.name={name}: expected a directory name of letters, digits and . _ + -")
    return [f"{DIRECTORY}{SWEEPS / name}"]
