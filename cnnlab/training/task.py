"""Tasks: the number of outputs, the loss, the metric, and what the outputs predict.

`targets` are the class indices converted by `Task.targets`, once, when the data goes to the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnlab.config import targets
from cnnlab.errors import ConfigError

TRAINS_BY = ("metric", "higher_is_better", "num_outputs", "targets", "loss", "training_loss", "score")


class Task(Protocol):
    """A task. metric: its name in files and tables. higher_is_better: its direction. num_outputs: that the network needs."""

    metric: str
    higher_is_better: bool
    num_outputs: int

    def targets(self, labels: Tensor) -> Tensor:
        """Convert class indices (int64, N) to the targets that the loss takes (N)."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of outputs (N x num_outputs): a scalar."""

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss that is minimized, including label smoothing."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum of the metric over a batch: a scalar."""

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction for each image (N) and, for classes, its probability (float32, N)."""

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of every class (float32, N x classes); None for regression."""


class Multiclass:
    """One of K classes: softmax cross-entropy, accuracy.

    label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al. 2016,
    arXiv:1512.00567, section 7), only in training.
    """

    metric, higher_is_better = "accuracy", True

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        self.num_outputs, self.label_smoothing = num_classes, _share(label_smoothing)

    def targets(self, labels: Tensor) -> Tensor:
        return labels

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).sum()

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        probability, label = self.probabilities(outputs).max(1)
        return label, probability

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.float().softmax(1)


class Binary:
    """One of two classes: one logit, sigmoid cross-entropy, accuracy. A logit above 0 means the second class."""

    metric, higher_is_better, num_outputs = "accuracy", True, 1

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        if num_classes != 2:
            raise ConfigError(f"task=binary: needs two classes, the data has {num_classes}; choose two: 'data.classes=[3,5]'")
        self.label_smoothing = _share(label_smoothing)

    def targets(self, labels: Tensor) -> Tensor:
        return labels.float()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype))

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets * (1 - self.label_smoothing) + self.label_smoothing / 2)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs[:, 0] > 0) == (targets > 0.5)).sum()

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        return (outputs[:, 0] > 0).long(), self.probabilities(outputs).amax(1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        second = outputs[:, 0].float().sigmoid()
        return torch.stack((1 - second, second), 1)


class Regression:
    """The label as a number: one linear output, squared error, mean absolute error."""

    metric, higher_is_better, num_outputs = "mae", False, 1

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = torch.tensor(numbers, dtype=torch.float32)

    def targets(self, labels: Tensor) -> Tensor:
        return self.numbers[labels]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs[:, 0], targets.to(outputs.dtype))

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).abs().sum()

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        return outputs[:, 0].float(), None

    def probabilities(self, outputs: Tensor) -> None:
        return None


def build_task(section: Mapping[str, Any], numbers: Sequence[int]) -> Task:
    """Build the configured task; `numbers` are the labels of the classes in the data source.

    Raises:
        ConfigError: the target refuses its arguments, or is not a task.
    """
    task: Task = targets.instantiate(section, "task", num_classes=len(numbers), numbers=list(numbers))
    if lacking := [name for name in TRAINS_BY if not hasattr(task, name)]:
        raise ConfigError(f"task._target_={section['_target_']}: expected a task, but it has no {', '.join(lacking)}")
    return task


def _share(label_smoothing: float) -> float:
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"task.label_smoothing={label_smoothing}: expected 0 or more and less than 1")
    return label_smoothing
