"""Scoring a network on a split of a data set."""

import torch
from torch import Tensor, nn

from cnnlab.data.splits import Split, chunks
from cnnlab.errors import CheckpointError
from cnnlab.seeding import reseed_default
from cnnlab.tracking.records import Score
from cnnlab.training.runtime import Runtime
from cnnlab.training.task import Task


def outputs_of(model: nn.Module, split: Split, runtime: Runtime, batch_size: int, seed: int) -> Tensor:
    """Compute the outputs of a network with its preprocessing, in evaluation mode: float32, N x num_outputs, on the device.

    split: its batches must be on the device, too.
    """
    model.eval()
    reseed_default(seed, "score", 0, runtime.device)  # for modules that draw even in evaluation mode
    with torch.inference_mode(), runtime.autocast():
        outputs = torch.cat([model(batch).float() for batch in chunks(split, batch_size)])
    return outputs


def score(task: Task, outputs: Tensor, targets: Tensor) -> Score:
    """Compute loss and metric of outputs (N x num_outputs); the mean loss is computed in float64."""
    loss = task.loss(outputs.double(), targets)
    return Score(loss.item(), task.score(outputs, targets).item() / len(targets))


def calibration_error(probability: Tensor, correct: Tensor, num_bins: int = 15) -> float:
    """The expected calibration error: |accuracy - mean probability| of bins of equal width, averaged over the images.

    Args:
        probability: of the predicted class, float, N, in 0 to 1.
        correct: whether the prediction is right, bool, N.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3. A bin is (low, high].
    """
    bins = (probability.double() * num_bins).ceil().clamp(1, num_bins).long() - 1
    gap = torch.zeros(num_bins, dtype=torch.float64).index_add_(0, bins, correct.double() - probability.double())
    return (gap.abs().sum() / len(probability)).item()


def require_finite(outputs: Tensor) -> Tensor:
    """Return `outputs` if all are finite.

    Raises:
        CheckpointError: some are not, as happens if the weights are finite but far too large.
    """
    if not bool(torch.isfinite(outputs).all()):
        raise CheckpointError("the network's outputs are not finite; use evaluation.weights=best, or train it again")
    return outputs
