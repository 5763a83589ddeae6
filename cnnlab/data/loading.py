"""Loading the configured data set: read the source, keep the chosen classes, hold out the validation images."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from cnnlab.config import targets
from cnnlab.config.schema import SOURCE_SETTINGS, DataConfig
from cnnlab.data.content import channel_statistics, digest
from cnnlab.data.sampling import held_out_count, limited, stratified
from cnnlab.data.source import Declared, Shape, Source
from cnnlab.data.splits import CPU, Split, View, take
from cnnlab.errors import CnnlabError, ConfigError, DataError

SHARED: dict[str, Source] = {}  # what `share` has read, by `_place`


@dataclass(frozen=True)
class DataSet:
    """A data set ready for training.

    train, validation, test: splits with batches on the device. classes: their names. numbers: the source's label for each
    class, which regression predicts. mean, std: normalize pixels / 255, float32, C; 0 and 1 without normalization.
    train_digest, test_digest: hashes of the source's images and labels of the chosen classes, independent of the seed, the
    validation split and the limit (a source's own validation images count as training images). They show a resumed run that
    its data changed, and a comparison that scores are on different images.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    mean: Tensor
    std: Tensor
    train_digest: str
    test_digest: str

    @property
    def shape(self) -> Shape:
        """C, H, W for images; C and the other sizes for other data."""
        return self.train.shape

    def splits(self) -> dict[str, Split]:
        """The splits by name; validation only if there is one."""
        held_out = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train} | held_out | {"test": self.test}


def load_data(cfg: DataConfig, seed: int, device: torch.device = CPU) -> DataSet:
    """Read the data set that `cfg` names, keep the chosen classes, and split off the validation images.

    device: of the batches and of images held in memory; each of the source's arrays is moved there once.

    Raises:
        DataError: files are missing or invalid.
        ConfigError: data.shape is not the images', or the data set cannot provide the requested split, limit or classes.
    """
    if (cfg.shape, cfg.num_classes) != (None, None) and (declared := _declared(cfg)):
        _require(cfg, declared.shape, len(declared.classes))  # before anything is downloaded
    source = SHARED.get(_place(cfg)) or _read(cfg)
    _require(cfg, source.train.shape, len(source.classes))
    splits, classes, numbers = source.splits(), source.classes, tuple(range(len(source.classes)))
    if not cfg.validation:
        splits.pop("validation", None)
    if cfg.classes is not None:
        numbers = tuple(cfg.classes)
        if len(numbers) < 2 or len(set(numbers)) != len(numbers) or not set(numbers) <= set(range(len(classes))):
            named = enumerate(classes)
            listing = ", ".join(name if name == str(number) else f"{number} {name}" for number, name in named)
            raise ConfigError(f"data.classes={cfg.classes}: expected two or more different classes out of {listing}")
        splits = {name: _only(split, numbers) for name, split in splits.items()}
        classes = tuple(classes[number] for number in numbers)
    test_digest = digest(splits["test"])
    train_digest = digest(*(split for name, split in splits.items() if name != "test"))
    splits = {name: split.to(device) for name, split in splits.items()}
    train, test, validation = splits["train"], splits["test"], splits.get("validation")
    if validation is None and (count := held_out_count(cfg.validation, len(train))):
        kept, held_out = stratified(train.labels, count, seed)
        train, validation = take(train, kept), take(train, held_out)
    if cfg.limit is not None:
        train = take(train, limited(len(train), cfg.limit, seed))
    channels = train.shape[0]
    mean, std = channel_statistics(train) if cfg.normalize else (torch.zeros(channels), torch.ones(channels))
    return DataSet(cfg.name, train, validation, test, classes, numbers, mean, std, train_digest, test_digest)


def describe(cfg: DataConfig) -> tuple[Shape, tuple[int, ...]]:
    """Return the shape of the images and the numbers of the classes without reading any images.

    They are set in `cfg`, or else declared by its source.

    Raises:
        ConfigError: they are neither set nor declared.
    """
    declared = _declared(cfg) if cfg.shape is None or (cfg.num_classes is None and cfg.classes is None) else None
    shape = cfg.shape or (declared and declared.shape)
    numbers = cfg.classes or range(cfg.num_classes or (len(declared.classes) if declared else 0))
    if not shape or not numbers:
        key, value = ("num_classes", "10") if shape else ("shape", "[3,150,150]")
        raise ConfigError(f"data.{key}: {cfg.source['_target_']} declares none; add data.{key}={value}, for example")
    return tuple(shape), tuple(numbers)


def share(cfg: DataConfig) -> None:
    """Read the source that `cfg` names once, for `load_data` in this process and in all that are forked from it.

    Raises:
        DataError, ConfigError: as in `load_data`.
    """
    SHARED[_place(cfg)] = _read(cfg)


def _place(cfg: DataConfig) -> str:
    return json.dumps([cfg.source, _provided(cfg)], sort_keys=True, default=str)


def _provided(cfg: DataConfig) -> dict[str, Any]:
    """Return the arguments offered to a source: the location of its files, and those of its settings that are set.

    Raises:
        ConfigError: a setting is set that the source does not take.
    """
    settings = {name: getattr(cfg, name) for name in SOURCE_SETTINGS if getattr(cfg, name) is not None}
    takes = targets.parameters_of(cfg.source, "data.source")
    for name, value in settings.items():
        if name not in takes:
            raise ConfigError(f"data.{name}={value}: {cfg.source['_target_']} takes no {name}; leave it out")
    shape = {} if cfg.shape is None or "shape" in cfg.source else {"shape": cfg.shape}
    return {"root": cfg.root, "download": cfg.download} | shape | settings


def _declared(cfg: DataConfig) -> Declared | None:
    """Return what the source declares; None for a function that is not marked with `declares`."""
    targets.check(cfg.source, "data.source", tuple(_provided(cfg)))
    tell = getattr(targets.locate(cfg.source, "data.source"), "describe", None)
    if tell is None:
        return None
    given = _provided(cfg) | targets.keys_of(cfg.source)
    try:
        declared = tell(**{name: given[name] for name in inspect.signature(tell).parameters if name in given})
    except CnnlabError:
        raise
    except Exception as error:
        raise ConfigError(
            f"data.source._target_={cfg.source['_target_']}: its declaration fails: {targets.failure(error)}"
        ) from error
    targets.require(declared, Declared, cfg.source, "data.source")
    return cast(Declared, declared)


def _read(cfg: DataConfig) -> Source:
    source: Source = targets.instantiate(cfg.source, "data.source", **_provided(cfg))
    targets.require(source, Source, cfg.source, "data.source")
    names = source.classes
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DataError(f"data.source: its classes are {names!r:.60}, expected a tuple of names")
    for name, split in source.splits().items():
        _check_split(split, len(source.classes), f"data.source: its {name}")
        if split.shape != source.train.shape:
            raise DataError(f"data.source: train images of {source.train.shape}, {name} images of {split.shape}")
    declared = _declared(cfg)
    if declared and (*declared.shape, *declared.classes) != (*source.train.shape, *source.classes):
        given, said = (f"{(*shape,)} of {', '.join(names):.60}" for shape, names in (
            (source.train.shape, source.classes), (declared.shape, declared.classes)))  # fmt: skip
        raise DataError(f"data.source: its images are {given}, but it declares {said}")
    return source


def _check_split(split: Split, num_classes: int, where: str) -> None:
    """Raise DataError unless a split of a source, perhaps a custom one, implements the protocol `Split`."""
    try:
        labels, first = split.labels, split.gather(torch.zeros(1, dtype=torch.int64, device=split.device))
    except (AttributeError, TypeError, ValueError, LookupError, RuntimeError) as error:
        raise DataError(f"{where} split gives no image: {targets.failure(error)}; use InMemory, for example") from error
    if first.dtype not in (torch.uint8, torch.float32) or first.shape != (1, *split.shape) or not 3 <= first.ndim <= 5:
        got = f"{first.dtype} {(len(split), *first.shape[1:])}"
        raise DataError(f"{where} images are {got}, expected torch.uint8 or torch.float32, N x C x H x W")
    if labels.dtype != torch.int64 or labels.shape != (len(split),):
        raise DataError(f"{where} labels are {labels.dtype} {tuple(labels.shape)}, expected torch.int64 ({len(split)},)")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"{where} labels range from {labels.min()} to {labels.max()}, but there are {num_classes} classes")


def _require(cfg: DataConfig, shape: tuple[int, ...], num_classes: int) -> None:
    """Raise ConfigError if data.shape or data.num_classes is set to something other than the data's."""
    for key, expected, found in (("shape", cfg.shape, list(shape)), ("num_classes", cfg.num_classes, num_classes)):
        if expected not in (None, found):
            raise ConfigError(f"data.{key}={expected}: {cfg.name} has {found}")


def _only(split: Split, numbers: tuple[int, ...]) -> View:
    """Keep the images of the classes `numbers`, relabeled 0, 1, ... in that order."""
    renumber = torch.full((int(split.labels.max()) + 1,), -1)
    for new, old in enumerate(numbers):
        if old < len(renumber):
            renumber[old] = new
    labels = renumber[split.labels]
    keep = torch.nonzero(labels >= 0).flatten()
    return replace(take(split, keep), labels=labels[keep])
