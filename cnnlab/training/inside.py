"""`trainer.log_images`: what TensorBoard shows of a network's inside, epoch by epoch, and of its test images at the end."""

import copy
import io
from collections import OrderedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlab.data.sampling import spread
from cnnlab.plots import rendered
from cnnlab.tracking.records import TestPredictions
from cnnlab.tracking.run import RunDirectory
from cnnlab.tracking.tensorboard import INSIDE, Events
from cnnlab.training.session import Session
from cnnlab.visualization import drawing
from cnnlab.visualization.embedding import NUM_POINTS, features, write_projector
from cnnlab.visualization.stages import chosen, trace

NUM_IMAGES = 32  # of the training set, for the histograms of activations
NUM_STAGES = 8  # of a deep network, evenly spread
SCALE = 0.5  # of a figure, so that its letters are legible where TensorBoard shows it 345 pixels wide


def log_inside(session: Session, events: Events, name: str, step: int) -> None:
    """Write the first filters, the maps of the first image, histograms of weights and activations, and once the graph.

    The network is a copy, so that nothing can disturb the training; draws of modules that draw even in evaluation are taken
    back. name: of the run, for the pictures.
    """
    train = session.data.train
    images = train.gather(torch.arange(min(NUM_IMAGES, len(train)), device=train.device)).cpu()
    model, about = copy_of(session), f"{name}, step {step:,}"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        events.graph(model, images[:1])
        for parameter, weight in model.named_parameters():
            events.histogram(f"training/weights/{parameter.removeprefix('network.')}", weight, step)
        for layer, values in activations(model, images).items():
            events.histogram(f"training/activations/{layer}", values, step)
        stages = trace(model, images[:1]).stages if images.ndim == 4 else []
        if stages:
            shown = chosen(stages, None, NUM_STAGES)
            figures = (
                drawing.filters(stages[0], about, SCALE),
                drawing.activations(images[0], "a training image", shown, len(stages), about, SCALE),
            )
            for tag, figure in zip(INSIDE, figures, strict=True):
                png = rendered(figure, "png", dpi=150)
                events.image(tag, np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), step)
    events.flush()


def log_embedding(session: Session, run: RunDirectory, test: TestPredictions) -> None:
    """Write test images as points for TensorBoard's projector."""
    indices = spread(len(test.labels), NUM_POINTS)
    images = test.images(indices).cpu()
    if images.ndim == 4:
        captions = [test.classes[label] for label in test.labels[indices].tolist()]
        write_projector(run.path, "embedding", features(copy_of(session), images), captions, images)


def copy_of(session: Session) -> nn.Module:
    """The network as it is now with its preprocessing, on the CPU, in evaluation mode."""
    network = copy.deepcopy(session.model).cpu()
    return nn.Sequential(OrderedDict(preprocess=session.description.preprocess(), network=network)).eval()


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
