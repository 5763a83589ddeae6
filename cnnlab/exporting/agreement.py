"""Whether a file says the same of images as the network that it was made of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnlab.errors import ExportError
from cnnlab.training.scoring import require_finite
from cnnlab.training.task import Task

TIE = 1e-4  # two logits, or in regression two values of about 1, that lie as near may change places


@dataclass(frozen=True)
class Agreement:
    """images: compared. ties: of them with another class, the two best logits within TIE. differing: with another class, or
    in regression another value, and no such excuse. largest: difference of an output."""

    images: int
    ties: int
    differing: int
    largest: float

    def __str__(self) -> str:
        ties = f" but {self.ties:,}, whose two best logits lie within {TIE:g}" if self.ties else ""
        return f"the same answers{ties}; outputs differ by {self.largest:.1e} at most"

    def require(self, what: str) -> None:
        """Raise ExportError where an image differs."""
        if self.differing:
            raise ExportError(
                f"{what} gives another answer than the run for {self.differing:,} of {self.images:,} images (outputs differ by "
                f"{self.largest:.2g}; a class may change where the two best logits lie within {TIE:g}); nothing is written"
            )


def outputs_of(network: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    """What a network makes of batches of images: N x num_outputs, on the CPU."""
    with torch.no_grad():
        return torch.cat([network(batch).cpu() for batch in batches])


def agreement(task: Task, ours: Tensor, theirs: Tensor) -> Agreement:
    """Of outputs, N x num_outputs.

    Raises:
        CheckpointError: ours are not finite.
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
