"""Warnings about common mistakes: settings that train without an error but learn slowly or not at all. None stops the run.
Each is shown once per process; those found at an epoch's end are shown again when the run is resumed.

No check changes a weight, a statistic or a random draw of the run: networks run in evaluation mode, and every step reseeds
torch. At the start the checks cost one pass for the user's own network, and eight passes with bf16 on a CPU; at each epoch's
end, one forward pass of 64 images.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode  # a TorchDispatchMode imports sympy: 2.3 s
from torch.utils.module_tracker import ModuleTracker

from cnnlab.models import MLP, ConvNet, Pretrained
from cnnlab.models.inspection import layers_of
from cnnlab.tracking.records import Epoch
from cnnlab.training.session import Session
from cnnlab.training.task import Binary, Multiclass

RECTIFIERS = (F.relu, F.relu_, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
LOOKED_AT = 64  # training images, evenly spaced
SHORT = 20  # steps: an epoch of fewer says nothing about the learning rate


def at_start(session: Session) -> Iterator[tuple[str, str]]:
    """Yield each mistake found before the first step: its name, and one line that says how to fix it."""
    labels, images = session.splits["train"].labels, some_images(session)
    if len(labels) > 1 and bool((labels == labels[0]).all()):
        only = session.data.classes[int(labels[0])]
        yield "one class", f"all {len(labels):,} training images are of class {only}; check the labels and data.limit"
    if len(images) > 1 and bool((images == images[:1]).all()):
        yield "constant", f"{len(images)} training images are all the same; check how the data is read"
    if isinstance(session.model, Pretrained) and session.cfg.data.normalize:
        yield "normalized twice", "the backbone already normalizes pixels as its weights expect; remove data.normalize=true"
    last = None if isinstance(session.model, ConvNet | MLP | Pretrained) else last_function(session, images)
    if last is not None:
        yield "squashed", f"the network ends in a {last} and the loss applies another, so it learns slowly; remove the {last}"
    past = [layer.name for layer in layers_of(session.model, session.data.shape) if layer.strides_past]
    if past:
        yield (
            "strides",
            f"{', '.join(past)}: a stride has no effect on a single pixel; use fewer strides, or larger images",
        )
    if session.runtime.precision == "bf16" and session.runtime.device.type == "cpu":
        bf16, fp32 = pass_seconds(session)
        if bf16 > 1.2 * fp32:
            times = f"{bf16 * 1000:.1f} ms instead of {fp32 * 1000:.1f} ms forward and backward"
            yield (
                "bf16",
                f"bf16 is slower than fp32 for this network on this machine, {times}; remove trainer.precision=bf16",
            )


def at_epoch_end(session: Session, epoch: Epoch) -> Iterator[tuple[str, str]]:
    """Yield each mistake found after an epoch, in the form of `at_start`."""
    if dead := dead_layers(session):
        where = f"all units of {', '.join(dead)} are dead after epoch {epoch.epoch}: 0 for every image, so they learn nothing"
        yield "dead", f"{where}; try a smaller optimizer.lr, or another activation or initializer"
        return  # the check below would find the same problem
    score, guess = epoch.scores.get("validation", epoch.scores["train"]), guessing_loss(session)
    if epoch.epoch == 1 and epoch.step >= SHORT and guess is not None and score.loss > guess:
        lr = float(session.step.optimizer.defaults["lr"])
        what = f"the first epoch ended with a loss of {score.loss:.4f}, no better than guessing ({guess:.4f})"
        if score.loss > 1.1 * guess:
            yield "chance", f"{what}: the learning rate {lr:g} is too large; try optimizer.lr={lr / 10:g}"
        else:
            yield "chance", f"{what}: nothing is learned yet; if it stays so, try optimizer.lr={lr / 10:g} and {lr * 10:g}"


def some_images(session: Session) -> Tensor:
    """Up to LOOKED_AT training images, N x C x H x W, on the device."""
    train = session.splits["train"]
    count = min(LOOKED_AT, len(train))
    return train.gather(torch.arange(count, device=train.device) * len(train) // count)


def guessing_loss(session: Session) -> float | None:
    """The loss of a network that gives every class the same probability; None if the task has no classes."""
    if isinstance(session.task, Binary):
        return math.log(2)
    return math.log(session.task.num_outputs) if isinstance(session.task, Multiclass) else None


def last_function(session: Session, images: Tensor) -> str | None:
    """ "softmax" or "sigmoid" if the network ends in it, as a module or a function, under cross-entropy; else None."""
    if guessing_loss(session) is None:
        return None
    with evaluating(session.model):
        outputs = session.model(session.preprocess(images))
    for name in ("softmax", "sigmoid"):
        if type(outputs.grad_fn).__name__.lower().startswith(f"{name}backward"):
            return name
    sums_to_one = outputs.shape[1] > 1 and bool(((outputs.sum(1) - 1).abs() < 1e-3).all() and (outputs >= 0).all())
    return "softmax" if sums_to_one else None


class _Rectified(TorchFunctionMode):
    """Records the largest output of every ReLU or ReLU6, module or function, under the name of the module that calls it, or, if
    that calls several, with their number: "block.0", or "relu 2 of block"."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Tensor]] = []
        self.tracker = ModuleTracker()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func in RECTIFIERS:
            within = max(self.tracker.parents, key=len)  # the innermost: its name extends those of the others
            self.calls.append((within.partition(".")[2], outputs.amax()))
        return outputs

    def dead(self) -> list[str]:
        """Names of the ReLUs whose outputs were all 0."""
        counts, seen, found = Counter(name for name, _ in self.calls), Counter[str](), []
        for name, most in self.calls:
            seen[name] += 1
            if most == 0:
                found.append(f"relu {seen[name]}{name and ' of '}{name}" if counts[name] > 1 or not name else name)
        return found


def dead_layers(session: Session) -> list[str]:
    """Names of the ReLUs whose outputs are 0 for all of `some_images`."""
    images = session.preprocess(some_images(session))
    rectified = _Rectified()
    with evaluating(session.model), torch.no_grad(), session.runtime.autocast(), rectified.tracker, rectified:
        session.model(images)
    return rectified.dead()


def pass_seconds(session: Session) -> tuple[float, float]:
    """Seconds of a forward and backward pass of one batch in bf16 and in fp32: the fastest of three, after a warm-up."""
    images, targets = session.step.batch(torch.arange(min(session.cfg.trainer.batch_size, len(session.splits["train"]))), 0)
    parameters = [parameter for parameter in session.model.parameters() if parameter.requires_grad]
    contexts = [session.runtime, replace(session.runtime, precision="fp32")]
    seconds: list[list[float]] = [[], []]
    with evaluating(session.model):
        for _ in range(4):  # alternating, so that other work on the machine slows both
            for runtime, taken in zip(contexts, seconds, strict=True):
                began = time.perf_counter()
                with runtime.autocast():
                    outputs = session.model(session.preprocess(images))
                loss = session.task.training_loss(outputs.float(), targets)
                torch.autograd.grad(loss, parameters, allow_unused=True)
                taken.append(time.perf_counter() - began)
    return min(seconds[0][1:]), min(seconds[1][1:])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context in which `model` is in evaluation mode; afterwards each module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
