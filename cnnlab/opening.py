"""`cnnlab.load`: open a run's directory as a network that predicts. Everything that uses a trained network starts here."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnlab.config import targets
from cnnlab.config.schema import Config
from cnnlab.config.trust import packages
from cnnlab.data import DataSet, load_data
from cnnlab.errors import CheckpointError, CnnlabError, ConfigError, DataError, GeometryError, as_known, known_errors
from cnnlab.models import MLP, ConvNet, build_model
from cnnlab.models.description import MEMORY_FORMATS, Description
from cnnlab.models.preprocess import Preprocess
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory, open_run
from cnnlab.training.checkpoint import load_weights, read_description
from cnnlab.training.runtime import find_device
from cnnlab.training.scoring import require_finite
from cnnlab.training.task import Task, build_task

WEIGHTS = ("last", "best")
DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of images


@dataclass(frozen=True)
class Predictions:
    """A network's predictions for N images, on the CPU.

    predicted: int64, N, the index of each image's class; in regression float32, N, the value.
    probability: float32, N, of that class. probabilities: float32, N x classes. Both are None in regression.
    """

    predicted: Tensor
    probability: Tensor | None
    probabilities: Tensor | None


@dataclass(frozen=True, repr=False)
class OpenedRun:
    """A trained network and what its run recorded.

    directory: the run's directory. weights: the loaded ones, "last" or "best".
    model: the network with its preprocessing, in evaluation mode. It takes N x C x H x W, uint8 or floats from 0 to 1, of any
    height and width that the network supports, and returns logits, N x outputs. It computes in float32, whatever
    trainer.precision was. preprocess, network: its two parts.
    description: the network's input shape, classes and other metadata. task: its loss, metric and predictions.
    config: the run's configuration, with data.download=false. metrics: the lines of metrics.jsonl. result: the content of
    result.json, None while the run has not ended.
    """

    directory: RunDirectory
    weights: str
    model: nn.Sequential
    preprocess: Preprocess
    network: nn.Module
    description: Description
    task: Task
    config: Config
    metrics: list[dict[str, Any]]
    result: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"OpenedRun({self.directory.name!r}, {self.weights} weights, {self.description.model['_target_']})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return self.description.classes

    @property
    def resize(self) -> str | None:
        """How image files were resized for training; None if the data set holds no files of various sizes."""
        own: str | None = self.config.data.source.get("resize", self.config.data.resize)
        return own

    def predict(self, images: Tensor | NDArray[Any], batch_size: int = 1000) -> Predictions:
        """Predict the class of each image with its probability, or its value in regression.

        Args:
            images: N x C x H x W with the run's C, H and W; uint8, or floats from 0 to 1.
            batch_size: images at a time.

        Raises:
            DataError: images of another shape or type, or floats outside 0 to 1. ConfigError: an invalid batch size, or a
            custom task without probabilities. CheckpointError: the outputs are not finite.
        """
        if type(batch_size) is not int or not 1 <= batch_size < 1 << 31:
            raise ConfigError(f"batch_size={batch_size}: expected a whole number from 1 to {(1 << 31) - 1:,}")
        if not hasattr(self.task, "probabilities"):
            needed = "probabilities(outputs): float32, N x classes, or None in regression"
            raise ConfigError(f"task._target_={self.description.task['_target_']}: predicting needs its method {needed}")
        given = _checked(images, self.description.input_shape)
        device = self.preprocess.mean.device
        self.model.eval()
        with known_errors(), torch.no_grad():
            outputs = torch.cat([self.model(batch.to(device)).cpu() for batch in torch.split(given, batch_size)])
        require_finite(outputs)
        return Predictions(*self.task.predict(outputs), self.task.probabilities(outputs))

    def require_size(self, *sides: int) -> None:
        """Run the network on a blank image of these sides, height and width, to check that it takes them.

        Raises:
            GeometryError: it does not take them.
        """
        own, asked = (" x ".join(map(str, size)) for size in (self.description.input_shape[1:], sides))
        if not all(type(side) is int and side > 0 for side in sides):
            raise GeometryError(f"{asked}: expected whole numbers of 1 or more")
        try:
            with torch.no_grad():
                self.model(torch.zeros(1, self.description.input_shape[0], *sides, device=self.preprocess.mean.device))
        except Exception as error:
            known = as_known(error)
            if known is not None and not isinstance(known, GeometryError):
                raise known from error
            if isinstance(self.network, MLP) or (isinstance(self.network, ConvNet) and self.network.head_kind == "flatten"):
                mend = f"; python -m cnnlab.convert {self.directory.quoted} makes an equivalent network that takes larger ones"
                larger = all(side >= trained for side, trained in zip(sides, self.description.input_shape[1:], strict=False))
                raise GeometryError(f"{asked}: its dense layers take only {own}{mend if larger else ''}") from error
            if isinstance(self.network, ConvNet) and len(sides) == len(self.network.input_shape) - 1:
                raise GeometryError(f"{asked}: too small for the layers of this network, which was trained on {own}") from error
            why = known or targets.failure(error)
            raise GeometryError(f"{asked}: the network, trained on {own}, does not take it: {why}") from error


def load(
    path: str | Path,
    weights: str | None = None,
    device: str | torch.device = "cpu",
    trust: str | Sequence[str] = (),
) -> OpenedRun:
    """Open a run, given only its directory.

    Args:
        path: the run's directory, such as outputs/fashion-lenet/2026-11-20_10-11-12.
        weights: "last" or "best" (by validation); None: those of the recorded test score, or the last without one.
        device: cpu, cuda, cuda:1, or auto.
        trust: packages whose code the run's files may name, such as ["mine"] for a network mine.Net; cnnlab, torch.nn,
            torch.optim and torchvision.models are always allowed.

    Raises:
        CnnlabError: not a run, no such weights, a damaged file, or an untrusted name in it.
    """
    with known_errors():
        run, cfg = open_run(str(path), packages(trust))
        cfg.data.download = False  # reading a run, perhaps somebody else's, must not go online
        result = run.read_result()
        chosen = weights or (result.weights if result else "last")
        if chosen not in WEIGHTS:
            where = "weights" if weights else run.result
            raise ConfigError(f"{where}: weights={chosen}, expected one of {', '.join(WEIGHTS)}")
        checkpoint = run.best if chosen == "best" else run.last
        description = read_description(checkpoint)
        if (description.model, description.task) != (files.as_json(cfg.model), files.as_json(cfg.task)):
            raise CheckpointError(f"{checkpoint}: belongs to another run: its model or task is not that of {run.config}")
        task = build_task(cfg.task, description.numbers)
        layout = MEMORY_FORMATS[description.memory_format]
        network, _ = build_model(cfg.model, description.input_shape, task.num_outputs, cfg.seed, [layout])
        load_weights(checkpoint, network)
        preprocess = description.preprocess()
        model = nn.Sequential(OrderedDict(preprocess=preprocess, network=network)).to(find_device(str(device), "device")).eval()
        metrics, ended = [epoch.line() for epoch in run.read_epochs()], None if result is None else result.content()
        return OpenedRun(run, chosen, model, preprocess, network, description, task, cfg, metrics, ended)


def run_data(opened: OpenedRun, root: str | None) -> DataSet | str:
    """Load the run's data, or return why it is missing; nothing is downloaded.

    root: where the data is now; None: where it was in training.

    Raises:
        CnnlabError: the data is not in `root`.
    """
    cfg = replace(opened.config.data, download=False, shape=list(opened.description.input_shape))
    try:
        found = load_data(replace(cfg, root=root or cfg.root), opened.config.seed)
        require_classes(opened, found)
    except CnnlabError as error:
        if root:
            raise
        return str(error)
    return found


def require_classes(opened: OpenedRun, data: DataSet) -> None:
    """Raise ConfigError unless the data has as many classes as the run's."""
    if len(opened.classes) != len(data.classes):
        raise ConfigError(f"data={data.name}: has {len(data.classes)} classes, the run has {len(opened.classes)}")


def _checked(images: Any, shape: tuple[int, ...]) -> Tensor:
    """Return images as a tensor.

    Raises:
        DataError: they do not fit a network that was trained on images of `shape` (C, H, W, or other sides).
    """
    if isinstance(images, np.ndarray) and (images.dtype == np.uint8 or images.dtype.kind == "f"):
        images = torch.from_numpy(np.array(images, np.uint8 if images.dtype == np.uint8 else np.float32, order="C"))
    if not isinstance(images, Tensor) or images.dtype not in DTYPES:
        got = getattr(images, "dtype", type(images).__name__)
        raise DataError(f"images of {got}: expected a tensor or array of uint8, or of floats (16, 32 or 64 bits) from 0 to 1")
    if images.layout != torch.strided or images.is_nested or images.is_meta:
        raise DataError("images in a sparse, nested or meta tensor: expected a dense one")
    if images.ndim < 2 or tuple(images.shape[1:]) != shape:
        got, expected = (" x ".join(map(str, size)) for size in (images.shape, shape))
        mend = "; for one image: images[None]" if tuple(images.shape) == shape else ""
        raise DataError(f"images of {got}: expected N x {expected} (images, channels, sides){mend}")
    if images.is_floating_point() and len(images) and not (images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise DataError(f"pixels from {low:g} to {high:g}: expected floats from 0 to 1, or uint8 from 0 to 255")
    return images
