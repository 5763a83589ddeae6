"""Typed records of a run, made by the trainer and received by its views: metrics.jsonl, the console and TensorBoard.

A metric is a name in one field and a value in another; keys in files are joined from names, never split. Does not import torch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from cnnlab.config.schema import Config
from cnnlab.errors import CheckpointError
from cnnlab.status import Status

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Score:
    """The mean loss and the value of the metric on a split; either may be nan or inf."""

    loss: float
    value: float


@dataclass(frozen=True)
class RunInfo:
    """Description of a run before its first step. counts: images in each split. first_step: updates done before a resume.
    can_be_lengthened: whether a later end would leave the learning rates of the steps so far unchanged."""

    cfg: Config
    metric: str
    data: str
    shape: tuple[int, ...]
    counts: Mapping[str, int]
    num_classes: int
    num_parameters: int
    steps: int
    steps_per_epoch: int
    first_step: int
    can_be_lengthened: bool

    def phase(self, epoch: int) -> int | None:
        """Return the phase of an epoch, both counted from 1; None in a run without phases."""
        ends = accumulate(phase.epochs for phase in self.cfg.phases)
        return next((number for number, end in enumerate(ends, 1) if epoch <= end), None)


@dataclass(frozen=True)
class EpochProgress:
    """Progress within an epoch: steps done, the seconds they took, images per second, and the training score so far."""

    steps: int
    train_s: float
    images_per_s: float
    score: Score


@dataclass(frozen=True)
class LossPoint:
    """The mean training loss since the previous point. gradient_norms: of the last step, by layer, if requested."""

    step: int
    loss: float
    gradient_norms: Mapping[str, float]


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: a line of metrics.jsonl.

    epoch: counted from 1. step: updates done. lr: of the last update. scores: by split; validation and test if scored.
    train_s: seconds spent on training steps.
    """

    epoch: int
    step: int
    lr: float
    metric: str
    scores: Mapping[str, Score]
    train_s: float
    images_per_s: float

    def line(self) -> dict[str, Any]:
        """Return its line: {"epoch": 1, ..., "metric": "accuracy", "train_loss": 0.5, "train_accuracy": 0.8, ...}."""
        given: dict[str, Any] = {"epoch": self.epoch, "step": self.step, "lr": self.lr, "metric": self.metric}
        for split, score in self.scores.items():
            given |= {f"{split}_loss": score.loss, f"{split}_{self.metric}": score.value}
        return given | {"train_s": self.train_s, "images_per_s": self.images_per_s}

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> "Epoch":
        """Make the epoch from its line.

        Raises:
            CheckpointError: something is missing, or of the wrong type.
        """
        try:
            metric = str(line["metric"])
            there = [split for split in SPLITS if f"{split}_loss" in line]
            scores = {name: _score(line[f"{name}_loss"], line[f"{name}_{metric}"]) for name in there}
            speed = _number(line["train_s"]), _number(line["images_per_s"])
            return cls(_count(line["epoch"]), _count(line["step"]), _number(line["lr"]), metric, scores, *speed)
        except (KeyError, TypeError, ValueError, OverflowError) as error:  # the last: json reads Infinity
            raise CheckpointError(f"not a line of metrics ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class Result:
    """How a run ended: result.json.

    parameters: of the network. metric: name of the task's metric. weights: "last" or "best", those that were scored at the end.
    scores: by split; for a pruned run, the last ones on the validation images.
    """

    status: Status
    cause: str = ""
    epochs: int = 0
    steps: int = 0
    parameters: int = 0
    seconds: float = 0.0
    metric: str = ""
    higher_is_better: bool = True
    weights: str = "last"
    scores: Mapping[str, Score] = field(default_factory=dict)

    @property
    def judged_by(self) -> str:
        """The split whose score is used to choose: validation, or test if nothing is held out."""
        return "validation" if "validation" in self.scores else "test"

    def content(self) -> dict[str, Any]:
        """Return the content of result.json, with scores as {"test": {"loss": 0.3, "accuracy": 0.9}}."""
        given = {name: value for name, value in vars(self).items() if name != "scores" and (name != "cause" or value)}
        given["status"] = str(self.status)
        return given | {split: {"loss": s.loss, self.metric: s.value} for split, s in self.scores.items()}

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "Result":
        """Make the result from the content of result.json.

        Raises:
            CheckpointError: something is missing, or of the wrong type.
        """
        try:
            metric = str(content["metric"])
            there = [split for split in SPLITS if split in content]
            scores = {name: _score(content[name]["loss"], content[name][metric]) for name in there}
            return cls(
                status=Status(content["status"]),
                cause=str(content.get("cause", "")),
                epochs=_count(content["epochs"]),
                steps=_count(content["steps"]),
                parameters=_count(content["parameters"]),
                seconds=_number(content["seconds"]),
                metric=metric,
                higher_is_better=content["higher_is_better"] is True,
                weights=str(content["weights"]),
                scores=scores,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"not the result of a run ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class TestPredictions:
    """Predictions of a finished run for the test images, to be shown in pictures.

    labels: int64, N, the class of each. predicted: N, the class or the value. probability: of that class, N, or None in
    regression. images: returns those at given indices, uint8, C x H x W each. first_batch: the images of step 0 as the network
    saw them, before scaling. numbers: the label of each class in regression.
    """

    __test__ = False  # not a test case of pytest

    labels: "Tensor"
    predicted: "Tensor"
    probability: "Tensor | None"
    images: "Callable[[Tensor], Tensor]"
    first_batch: "Tensor"
    classes: tuple[str, ...]
    numbers: tuple[int, ...]


def _score(loss: Any, metric: Any) -> Score:
    return Score(_number(loss), _number(metric))


def _number(value: Any) -> float:
    """Return a number from a JSON file, in which null stands for inf and nan; nan for null."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is not a number")
    return float(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r:.40} is not a count")
    return value
