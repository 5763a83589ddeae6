"""Comparing the answers of an exported file with those of the original network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnlab.errors import ExportError
from cnnlab.training.scoring import require_finite
from cnnlab.training.task import Task

TIE = 1e-4  # two logits this close may change places; in regression, the relative difference allowed


@dataclass(frozen=True)
class Agreement:
    """A comparison. images: how many were compared. ties: those with another class whose two best logits are within TIE.
    differing: others with another class or, in regression, value. largest: the largest difference of an output."""

    images: int
    ties: int
    differing: int
    largest: float

    def __str__(self) -> str:
        ties = f" except for {self.ties:,}, whose two best logits are within {TIE:g}" if self.ties else ""
        return f"the same answers{ties}; outputs differ by {self.largest:.1e} at most"

    def require(self, what: str) -> None:
        """Raise ExportError if any image differs."""
        if self.differing:
            raise ExportError(
                f"{what} disagrees with the run on {self.differing:,} of {self.images:,} images (outputs differ by "
                f"{self.largest:.2g}; a class may change if the two best logits are within {TIE:g}); nothing is written"
            )


def outputs_of(network: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    """Return a network's outputs for batches of images: N x num_outputs, on the CPU."""
    with torch.no_grad():
        return torch.cat([network(batch).cpu() for batch in batches])


def agreement(task: Task, ours: Tensor, theirs: Tensor) -> Agreement:
    """Compare the outputs of the run and of a file, N x num_outputs each.

    Raises:
        CheckpointError: the run's outputs are not finite.
    """
    ours, theirs = require_finite(ours).double(), theirs.double()
    (said, probability), (other, _) = task.predict(ours), task.predict(theirs)
    gap = (ours - theirs).abs()
    broken = (ours.isfinite() != theirs.isfinite()).any(1)
    if probability is None:
        differs, excused = gap.amax(1) > TIE * ours.abs().amax(1).clamp(min=1), torch.zeros(len(ours), dtype=torch.bool)
    else:
        best = ours.topk(2).values if ours.shape[1] > 1 else torch.cat([ours.abs(), torch.zeros_like(ours)], 1)
        differs, excused = said != other, best[:, 0] - best[:, 1] <= TIE
    finite = gap[gap.isfinite()]
    largest = finite.max().item() if len(finite) else 0.0
    return Agreement(len(ours), int((differs & excused & ~broken).sum()), int((differs & ~excused | broken).sum()), largest)
