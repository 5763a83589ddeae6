"""The typed, closed schema of a run. Loads no torch.

`configs/config.yaml` holds the defaults and explanations, this file the types and the legal values,
`cnnlab.config.checking` the rules between keys. Any section with a `_target_` is a field of one type, a mapping annotated with
its kind; `sections` finds them all.
"""

import dataclasses
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar, Union, cast

from omegaconf import MISSING

from cnnlab.config import targets
from cnnlab.config.targets import Kind
from cnnlab.errors import ConfigError, suggest

T = TypeVar("T")
Model = Annotated[dict[str, Any], Kind("model", ("input_shape", "num_outputs"))]
Task = Annotated[dict[str, Any], Kind("task", ("num_classes", "numbers"))]
Optimizer = Annotated[dict[str, Any], Kind("optimizer", ("params",))]
Schedule = Annotated[dict[str, Any], Kind("schedule", ("step", "total_steps", "steps_per_epoch"))]
Augmentation = Annotated[dict[str, Any], Kind("augment", ("images", "generator"))]
MOST_THREADS = 256  # a stack takes up to 10 MB, and OpenMP ends the process if there are too many
RESIZE = ("crop", "pad", "stretch")  # ways to resize pictures to one size, see `data.pictures.decode`
SOURCE_SETTINGS = ("size", "resize", "on_error", "memory_gb")  # of `data`, for the sources that take them
Source = Annotated[dict[str, Any], Kind("source", ("root", "download"))]


def legal(
    choices: Sequence[str] = (), minimum: float | None = None, above: float | None = None, maximum: int | None = None
) -> Any:
    """A field without a default, with the limits that `check_values` checks: >= `minimum`, > `above`, <= `maximum`."""
    return field(default=MISSING, metadata={"choices": choices, "minimum": minimum, "above": above, "maximum": maximum})


@dataclass
class DataConfig:
    name: str = MISSING
    shape: list[int] | None = MISSING
    num_classes: int | None = legal(minimum=2)
    source: Source = MISSING
    root: str = MISSING
    download: bool = MISSING
    size: int | None = legal(minimum=1, maximum=10_000)
    resize: str | None = legal(choices=RESIZE)
    on_error: str | None = legal(choices=("stop", "skip"))
    memory_gb: float | None = legal(minimum=0)
    validation: Union[int, float] = legal(minimum=0)  # noqa: UP007 - OmegaConf 2.3 does not read `int | float`
    limit: int | None = legal(minimum=1)
    classes: list[int] | None = MISSING
    normalize: bool = MISSING


@dataclass
class TrainerConfig:
    epochs: int = legal(minimum=1, maximum=10**9)
    steps: int | None = legal(minimum=1, maximum=10**12)
    batch_size: int = legal(minimum=1, maximum=10**9)
    precision: str = legal(choices=("fp32", "tf32", "bf16"))
    device: str = MISSING
    threads: int | None = legal(minimum=1, maximum=MOST_THREADS)
    deterministic: bool = MISSING
    clip_norm: float | None = legal(above=0)
    patience: int | None = legal(minimum=1)
    cache_features: bool = MISSING
    log_every: int = legal(minimum=1, maximum=10**9)
    log_gradients: bool = MISSING
    log_images: bool = MISSING


@dataclass
class ParameterGroup:
    """How the parameters whose names match (fnmatch) are trained; see `cnnlab.training.groups`."""

    match: str = MISSING
    lr_factor: float = 1.0
    weight_decay: float | None = None
    frozen: bool = False


@dataclass
class PhaseConfig:
    """Epochs of a run with their own parameters to train, learning rate and fresh optimizer; see `cnnlab.training.phases`.

    lr_factor: a factor of optimizer.lr. schedule: within the phase; None: the run's.
    """

    epochs: int = MISSING
    parameters: list[ParameterGroup] = field(default_factory=list)
    lr_factor: float = 1.0
    schedule: Schedule | None = None


@dataclass
class EvaluationConfig:
    every: int = legal(minimum=1, maximum=10**9)
    split: str = legal(choices=("validation", "test"))
    weights: str = legal(choices=("last", "best"))
    batch_size: int = legal(minimum=1, maximum=10**9)


@dataclass
class CheckpointConfig:
    every_s: float = legal(minimum=0)


@dataclass
class Config:
    """The complete configuration of one run."""

    seed: int = MISSING
    console: str = legal(choices=("auto", "plain", "quiet"))
    data: DataConfig = field(default_factory=DataConfig)
    model: Model = MISSING
    task: Task = MISSING
    optimizer: Optimizer = MISSING
    schedule: Schedule = MISSING
    augment: dict[str, Augmentation] = MISSING
    parameters: list[ParameterGroup] = MISSING
    phases: list[PhaseConfig] = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def sections(value: Any, hint: Any = Config, where: str = "") -> Iterator[tuple[str, Kind, Any]]:
    """Yield every section with a `_target_` in `value`: its key, its kind, and its content, which may be anything.

    value: of the type `hint`, such as a Config, or the plain mapping of one, even if unchecked.
    """
    if typing.get_origin(hint) is Annotated:
        yield where, hint.__metadata__[0], value
        network = value.get("network") if isinstance(value, Mapping) else None
        if isinstance(network, Mapping) and "_target_" in network:  # model=transfer: another run's section
            yield from sections(network, hint, f"{where}.network")
    elif typing.get_origin(hint) in (Union, types.UnionType) and value is not None:
        yield from sections(value, typing.get_args(hint)[0], where)
    elif dataclasses.is_dataclass(hint):
        plain = value if isinstance(value, Mapping) else vars(value) if isinstance(value, cast(type, hint)) else {}
        for item in dataclasses.fields(hint):
            if item.name in plain:
                yield from sections(plain[item.name], item.type, f"{where}.{item.name}" if where else item.name)
    elif typing.get_origin(hint) is dict and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from sections(inner, typing.get_args(hint)[1], f"{where}.{key}")
    elif typing.get_origin(hint) is list and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from sections(inner, typing.get_args(hint)[0], f"{where}[{number}]")


def from_plain(kind: type[T], values: Any, where: str = "") -> T:
    """Build a dataclass from the plain values of YAML or JSON, each checked against the type of its field.

    where: the name of the section, for the error.

    Raises:
        ConfigError: not a mapping, an unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'the file'}: expected a mapping, got {type(values).__name__}")
    prefix, known = f"{where}." if where else "", _hints(cast(Hashable, kind))
    for key in values:
        if key not in known:
            near = suggest(f"{prefix}{key}", [f"{prefix}{name}" for name in known])
            raise ConfigError(f"{prefix}{key}: no such key.{near}")
    made: dict[str, Any] = {}
    for name, hint in known.items():
        if name not in values:
            raise ConfigError(f"{prefix}{name}: needs a value")
        value = values[name]
        if type(value) in _plain_types(hint):
            made[name] = value
            continue
        inner = next(iter(typing.get_args(hint)), None) if typing.get_origin(hint) is list else None
        if dataclasses.is_dataclass(hint):
            made[name] = from_plain(cast(type, hint), value, f"{prefix}{name}")
        elif dataclasses.is_dataclass(inner) and isinstance(value, list):
            made[name] = [from_plain(cast(type, inner), one, f"{prefix}{name}[{at}]") for at, one in enumerate(value)]
        elif not targets.fits(value, hint):
            shown = f"{prefix}{name}={value!s:.60}"
            raise ConfigError(f"{shown}: expected {targets.type_name(hint)}, got {type(value).__name__}")
        else:
            made[name] = _as_hinted(value, hint)
    return kind(**made)


@cache
def _hints(kind: Hashable) -> Mapping[str, Any]:
    """The types of a dataclass's fields, by name. The two caches cut the reading of a manifest of 100 jobs from 14 to 2 ms."""
    return typing.get_type_hints(cast(type, kind))


@cache
def _plain_types(hint: Any) -> frozenset[type]:
    """The plain types whose values fit `hint` without conversion: str and NoneType for `str | None`."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return frozenset({str, bool, int, float, type(None)} & set(options))


def _as_hinted(value: Any, hint: Any) -> Any:
    """Convert a value to `hint`: YAML's 1 to a float, JSON's list to a tuple, the value of an enum to its member."""
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and hint in (float, float | None) else value


def key_types() -> dict[str, Any]:
    """Every dotted key of the closed part of the schema, with its type."""
    return dict(_schema(Config))


def _schema(section: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, hint in _hints(section).items():
        if dataclasses.is_dataclass(hint):
            yield from _schema(cast(type, hint), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


def fields_of(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Yield every field below a section: its dotted key, its value, and its limits (see `legal`)."""
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value, item.metadata
