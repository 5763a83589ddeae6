"""The jobs of a sweep: all combinations of a command line's values, and a readable name for each."""

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TypeVar

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from cnnlab.errors import ConfigError, suggest

LONGEST_NAME = 80  # characters; file systems allow 255 bytes
MOST = 10_000  # jobs in a sweep, values for a key

Value = TypeVar("Value")


def expand(overrides: Sequence[Override], zipped: Sequence[str] = ()) -> list[list[str]]:
    """Return the overrides of every job: all combinations of the given values, in which `zipped` keys advance together.

    Args:
        overrides: parsed from the command line; the last one for a key counts.
        zipped: keys with the same number of values, such as ["optimizer.lr", "trainer.batch_size"].

    Raises:
        ConfigError: a zipped key with only one value, unequal counts, a range without steps (`interval`), or too many jobs.
    """
    values: dict[str, list[str]] = {}
    names: dict[str, str] = {}  # without + or ++
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            asked = (override.input_line or "").lstrip("+")
            raise ConfigError(f"{asked}: an interval has infinitely many values; search it with hydra/sweeper=optuna")
        key = override.get_key_element()
        names[override.key_or_group] = key
        if override.is_sweep_override():
            listed = listed_values(override.input_line or key, override.sweep_string_iterator)
            values[key] = [f"{key}={value}" for value in listed]
            if not values[key]:
                raise ConfigError(f"{override.key_or_group}: no value in {(override.input_line or '').partition('=')[2]}")
        else:
            values[key] = [key if override.is_delete() else f"{key}={override.get_value_element_as_str()}"]
    together = [names[name] for name in zipped if name in names]
    _check_zipped(zipped, {name: values[key] for name, key in names.items()})
    axes: list[list[tuple[str, ...]]] = []
    for key, texts in values.items():
        if key not in together:
            axes.append([(text,) for text in texts])
        elif key == together[0]:
            axes.append(list(zip(*(values[other] for other in together), strict=True)))
    if (count := math.prod(map(len, axes))) > MOST:
        raise ConfigError(f"{count:,} jobs: expected at most {MOST:,}; split them into several sweeps")
    return [[text for part in combination for text in part] for combination in itertools.product(*axes)]


def listed_values(line: str, values: Callable[[], Iterable[Value]]) -> list[Value]:
    """Return the values that an override, `line`, stands for.

    Raises:
        ConfigError: there are too many, or they cannot be listed, as in a range with steps of 0.
    """
    try:
        found = list(itertools.islice(values(), MOST + 1))
    except (ValueError, ArithmeticError, HydraException) as error:
        raise ConfigError(f"{line}: {error}") from error
    if len(found) > MOST:
        raise ConfigError(f"{line}: more than {MOST:,} values")
    return found


def _check_zipped(zipped: Sequence[str], values: dict[str, list[str]]) -> None:
    for name in zipped:
        if len(values.get(name, ())) < 2:
            several = [key for key, texts in values.items() if len(texts) > 1]
            raise ConfigError(f"sweep.zip: {name} needs two or more values, such as {name}=1,2.{suggest(name, several)}")
    if len(set(zipped)) < len(zipped):
        raise ConfigError(f"sweep.zip: a key appears twice: {', '.join(zipped)}")
    counts = {name: len(values[name]) for name in zipped}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(f"sweep.zip: expected the same number of values for each key, got {told}")


def job_names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return a short name for each job from the values that differ, such as "lenet-lr0.01-seed2", or from all for a lone job.

    An experiment is always included, since another may join the sweep later. Names contain only letters, digits and "._+-";
    two jobs may get the same name.
    """
    settings = [dict(override.lstrip("+").partition("=")[::2] for override in job) for job in jobs]
    keys = list(dict.fromkeys(key for job in settings for key in job))
    lone = len(jobs) == 1
    varying = [key for key in keys if lone or key == "experiment" or len({job.get(key) for job in settings}) > 1]
    names = []
    for job in settings:
        parts = [_part(key, job[key]) for key in varying if key in job]
        name = "-".join(part for part in parts if part) or "job"
        if len(name) > LONGEST_NAME:
            digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
            name = f"{name[: LONGEST_NAME - 9]}-{digest}"
        names.append(name)
    return names


def unused(name: str, taken: Container[str]) -> str:
    """Return `name`, or name_2, name_3, ... if it is taken."""
    numbered = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in numbered if candidate not in taken)


def _part(key: str, value: str) -> str:
    """Return "lr0.01" for optimizer.lr=0.01, "seed2" for seed=2, and just the name for a choice: "lenet", "mine.Net"."""
    text = re.sub(r"[^A-Za-z0-9._+]+", "-", value).strip(".")
    number = re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?|true|false|null", text, re.IGNORECASE)
    text = text if number else text.strip("-")
    last = key.rpartition(".")[2]
    return f"{last}{text}" if number or ("." in key and last != "_target_") else text
