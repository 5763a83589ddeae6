#!/usr/bin/env python3
"""Count the hidden ReLU units of dense networks that answer to no training image: python -m scripts.dead_units RUN..."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnlab.errors import CnnlabError
from cnnlab.tracking.run import RunDirectory
from scripts.lesson.probes import trained


@torch.no_grad()
def dead_units(model: nn.Module, images: Tensor) -> list[int]:
    """The number of units of each ReLU layer whose output is 0 for every image. images: uint8, N x C x H x W."""
    alive: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        answered = (output > 0).any(0)
        alive[name] = alive[name] | answered if name in alive else answered

    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    for part in torch.split(images, 1000):
        model(part.float() / 255)
    return [int((~units).sum()) for units in alive.values()]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        try:
            model, data = trained(RunDirectory(Path(path)))
        except CnnlabError as error:
            sys.exit(f"error: {error}")
        print(f"{path}  dead units, layer by layer: {' '.join(map(str, dead_units(model, data.train.images)))}")
