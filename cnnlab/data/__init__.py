"""Data sets: from files to uint8 tensors, split and ready for the device."""

import hashlib
import json

import torch

from cnnlab import targets
from cnnlab.data.images import DataSet, Images, Source
from cnnlab.data.splits import held_out_count, limited, stratified
from cnnlab.errors import ConfigError, DataError
from cnnlab.schema import DataConfig

__all__ = ["DataSet", "Images", "Source", "load_data", "share"]

SHARED: dict[str, Source] = {}  # what `share` has read, by its place


def load_data(cfg: DataConfig, seed: int) -> DataSet:
    """Read the set that `cfg` names, keep the chosen classes, split off the validation images.

    Raises:
        DataError: files that are missing or not what they should be.
        ConfigError: data.shape is not the images', or a split, limit or class that the set cannot give.
    """
    source = SHARED.get(_place(cfg)) or _read(cfg)
    if list(source.train.images.shape[1:]) != cfg.shape or len(source.classes) != cfg.num_classes:
        raise ConfigError(
            f"data.shape={cfg.shape}, data.num_classes={cfg.num_classes}: {cfg.name} has images of "
            f"{list(source.train.images.shape[1:])} and {len(source.classes)} classes"
        )
    train, test, classes, numbers = source.train, source.test, source.classes, tuple(range(len(source.classes)))
    if cfg.classes is not None:
        numbers = tuple(cfg.classes)
        if len(numbers) < 2 or len(set(numbers)) != len(numbers) or not set(numbers) <= set(range(len(classes))):
            named = enumerate(classes)
            listing = ", ".join(name if name == str(number) else f"{number} {name}" for number, name in named)
            raise ConfigError(f"data.classes={cfg.classes}: expected two or more different ones of {listing}")
        train, test = _only(train, numbers), _only(test, numbers)
        classes = tuple(classes[number] for number in numbers)
    digests = _digest(train), _digest(test)
    validation = None
    if count := held_out_count(cfg.validation, len(train)):
        kept, held_out = stratified(train.labels, count, seed)
        train, validation = train.take(kept), train.take(held_out)
    if cfg.limit is not None:
        train = train.take(limited(len(train), cfg.limit, seed))
    channels = train.images.shape[1]
    mean, std = _statistics(train) if cfg.normalize else (torch.zeros(channels), torch.ones(channels))
    return DataSet(cfg.name, train, validation, test, classes, numbers, mean, std, *digests)


def share(cfg: DataConfig) -> None:
    """Read the source that `cfg` names for this process and all that are forked from it; `load_data` then takes it from there.

    Raises:
        DataError, ConfigError: as `load_data`.
    """
    SHARED[_place(cfg)] = _read(cfg)


def _place(cfg: DataConfig) -> str:
    return json.dumps([cfg.source, cfg.root, cfg.download], sort_keys=True, default=str)


def _read(cfg: DataConfig) -> Source:
    source: Source = targets.instantiate(cfg.source, "data.source", root=cfg.root, download=cfg.download)
    targets.require(source, Source, cfg.source, "data.source")
    _check_source(source)
    return source


def _check_source(source: Source) -> None:
    """Raise DataError unless a source, perhaps somebody's own, gave what `Images` promises."""
    for name, part in (("training", source.train), ("test", source.test)):
        images, labels, where = part.images, part.labels, f"data.source: its {name}"
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise DataError(f"{where} images are {images.dtype} {tuple(images.shape)}, expected torch.uint8, N x C x H x W")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise DataError(f"{where} labels are {labels.dtype} {tuple(labels.shape)}, expected torch.int64 ({len(images)},)")
        if labels.min() < 0 or labels.max() >= len(source.classes):
            raise DataError(f"{where} labels go from {labels.min()} to {labels.max()}, for {len(source.classes)} classes")
    if source.train.images.shape[1:] != source.test.images.shape[1:]:
        sizes = [tuple(part.images.shape[1:]) for part in (source.train, source.test)]
        raise DataError(f"data.source: training images of {sizes[0]}, test images of {sizes[1]}")


def _only(part: Images, numbers: tuple[int, ...]) -> Images:
    """The images of the classes `numbers`, relabelled 0, 1, ... in that order."""
    renumber = torch.full((int(part.labels.max()) + 1,), -1)
    for new, old in enumerate(numbers):
        if old < len(renumber):
            renumber[old] = new
    labels = renumber[part.labels]
    keep = torch.nonzero(labels >= 0).flatten()
    return Images(part.images[keep], labels[keep])


def _statistics(part: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of pixels / 255 of each channel, float32, exact to float64 through histograms."""
    means, stds = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in part.images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(mean)
        stds.append((share * (values - mean) ** 2).sum().sqrt())
    std = torch.stack(stds)
    return torch.stack(means).float(), torch.where(std > 0, std, 1.0).float()


def _digest(part: Images) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(part.images.contiguous().numpy().data)
    digest.update(part.labels.contiguous().numpy().data)
    return digest.hexdigest()
