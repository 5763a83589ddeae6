"""What TensorBoard shows of a network's inside, epoch by epoch, where `trainer.log_images` asks for it."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlab.plots import rendered
from cnnlab.tracking.records import Inside
from cnnlab.tracking.tensorboard import INSIDE, Events
from cnnlab.visualization import drawing
from cnnlab.visualization.stages import chosen, trace

NUM_STAGES = 8  # of a deep network, evenly spread
SCALE = 0.5  # of a figure, so that its letters are legible where TensorBoard shows it 345 pixels wide


def look(events: Events, inside: Inside, about: str, step: int) -> None:
    """Write the first filters, the maps of the first image, and histograms of weights and activations.

    about: of which run, for the pictures. Draws of modules that draw even in evaluation are taken back.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        events.graph(inside.model, inside.images[:1])
        for name, weight in inside.model.named_parameters():
            events.histogram(f"training/weights/{name.removeprefix('network.')}", weight, step)
        for name, values in activations(inside.model, inside.images).items():
            events.histogram(f"training/activations/{name}", values, step)
        if inside.images.ndim != 4:
            return
        stages = trace(inside.model, inside.images[:1]).stages
        if stages:
            shown = chosen(stages, None, NUM_STAGES)
            figures = (
                drawing.filters(stages[0], about, SCALE),
                drawing.activations(inside.images[0], "a training image", shown, about, SCALE),
            )
            for tag, figure in zip(INSIDE, figures, strict=True):
                png = rendered(figure, "png", dpi=150)
                events.image(tag, np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), step)


def activations(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What torch's own activation modules give of images, by their names, and the outputs."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: found.update({name.removeprefix("network."): output}))
        for name, module in model.named_modules()
        if type(module).__module__ == "torch.nn.modules.activation"
    ]
    try:
        return found | {"outputs": model(images)}
    finally:
        for hook in hooks:
            hook.remove()
