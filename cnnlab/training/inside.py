"""`trainer.log_images`: the inside of a network for TensorBoard, epoch by epoch, and its test images at the end."""

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
SCALE = 0.5  # of a figure, so that its text is legible at TensorBoard's width of 345 pixels


def log_inside(session: Session, events: Events, name: str, step: int) -> None:
    """Write the filters of the first layer, the maps of one image, histograms of weights and activations, and once the graph.

    This uses a copy of the network and restores the random state afterwards, so that training is not disturbed.
    name: the run's, for the titles of the pictures.
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
    """A copy of the current network with its preprocessing, on the CPU, in evaluation mode."""
    network = copy.deepcopy(session.model).cpu()
    return nn.Sequential(OrderedDict(preprocess=session.description.preprocess(), network=network)).eval()


def activations(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The outputs of torch's activation modules by module name, and the network's "outputs"."""
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
