"""Scoring a network on a part of a data set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlab.data.images import Images
from cnnlab.training.runtime import Runtime
from cnnlab.training.task import Task


@dataclass(frozen=True)
class Score:
    """The mean loss and the mean metric of a part."""

    loss: float
    metric: float


def outputs_of(
    model: nn.Module, part: Images, scale: Callable[[Tensor], Tensor], runtime: Runtime, batch_size: int
) -> Tensor:
    """The network's outputs for a whole part, in evaluation mode: float32, N x num_outputs, on the device."""
    model.eval()
    with torch.inference_mode(), runtime.autocast():
        outputs = torch.cat([model(scale(images)).float() for images in part.images.split(batch_size)])
    return outputs


def score(task: Task, outputs: Tensor, targets: Tensor) -> Score:
    """Loss and metric of outputs (N x num_outputs); the mean loss is summed in float64."""
    loss = task.loss(outputs.double(), targets)
    return Score(loss.item(), task.score(outputs, targets).item() / len(targets))
