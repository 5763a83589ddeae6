#!/usr/bin/env python3
"""Count the hidden ReLU units of dense networks that respond to no training image, layer by layer."""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from cnnlab import load
from cnnlab.data import all_images, load_data
from cnnlab.errors import CnnlabError


def dead_units(model: nn.Module, answer: Callable[[], object]) -> list[int]:
    """Count the units of each ReLU layer whose output is 0 for every image that `answer` passes through the model."""
    alive: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        answered = (output > 0).any(0)
        alive[name] = alive[name] | answered if name in alive else answered

    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    answer()
    return [int((~units).sum()) for units in alive.values()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.dead_units", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="such as outputs/reproduce/fp32/mlp-cifar-1-seed0")
    for path in parser.parse_args().runs:
        try:
            run = load(path, weights="last")
            images = all_images(load_data(run.config.data, run.config.seed).train)
        except CnnlabError as error:
            sys.exit(f"error: {error}")
        counts = dead_units(run.network, partial(run.predict, images))
        print(f"{path}  dead units, layer by layer: {' '.join(map(str, counts))}")
