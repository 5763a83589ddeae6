"""TensorBoard's event file of a run; a view on metrics.jsonl, never read back."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnlab.tracking.run import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Events:
    """Writes into the run's own directory, from the first event on; a continued run hides what it will write again."""

    def __init__(self, run: RunDirectory, first_step: int) -> None:
        self.run, self.first_step = run, first_step

    @cached_property
    def writer(self) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter  # 1.8 s, not needed on the way to the first step

        writer = SummaryWriter(str(self.run.path), purge_step=self.first_step + 1)
        writer.add_text("config", "\n".join("    " + line for line in self.run.config.read_text().splitlines()), 0)
        return writer

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.writer.add_scalar(tag, value, step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.scalar(tag, value, step)

    def image(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """picture: H x W x 3."""
        self.writer.add_image(tag, picture, step, dataformats="HWC")

    def flush(self) -> None:
        if "writer" in self.__dict__:
            self.writer.flush()

    def close(self) -> None:
        if "writer" in self.__dict__:
            self.writer.close()
