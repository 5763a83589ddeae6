"""One update: gather, augment, preprocess, forward, loss, backward, clip, check, update.

Every device takes the same path up to the optimizer's call: nothing in it reads a number from the device, makes a generator, or
rebinds a tensor that a captured graph would hold. Sums, the finite check and the loss curve stay on the device until read.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnlab import seeding
from cnnlab.config import targets
from cnnlab.config.schema import ParameterGroup
from cnnlab.data.batches import Chosen, augment
from cnnlab.data.splits import Split
from cnnlab.errors import ConfigError
from cnnlab.training.groups import optimizer_groups
from cnnlab.training.runtime import Runtime
from cnnlab.training.task import Task


def build_optimizer(
    section: Mapping[str, Any], model: nn.Module, device: torch.device, groups: Sequence[ParameterGroup] = ()
) -> torch.optim.Optimizer:
    """Build the configured optimizer over all trainable parameters, in its fastest form: fused if it has one, else foreach.

    On CUDA the learning rate is a tensor, so that setting it does not involve the host or break a graph capture.

    Args:
        groups: the config's `parameters`.

    Raises:
        ConfigError: the target is not an optimizer or refuses its arguments, or a group does not suit it or the network.
    """
    takes = targets.parameters_of(section, "optimizer")
    step = inspect.signature(getattr(targets.locate(section, "optimizer"), "step", lambda: None)).parameters
    if "closure" in step and step["closure"].default is inspect.Parameter.empty:
        raise ConfigError(f"optimizer._target_={section['_target_']}: its step() needs a closure, which cnnlab does not pass")
    fast = {"fused": True} if "fused" in takes else {"foreach": True} if "foreach" in takes else {}
    if device.type == "cuda" and "fused" not in takes:
        fast["capturable"] = True
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = targets.instantiate(
        section, "optimizer", params=optimizer_groups(model, groups) if groups else trainable, **fast
    )
    targets.require(optimizer, torch.optim.Optimizer, section, "optimizer")
    if "weight_decay" not in optimizer.defaults and any(group.weight_decay is not None for group in groups):
        raise ConfigError(f"parameters: a group sets weight_decay, which {section['_target_']} does not have")
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_factor", 1.0)
        group["initial_lr"] = group["lr"]
        if device.type == "cuda":
            group["lr"] = torch.tensor(group["lr"], device=device)
    built: torch.optim.Optimizer = optimizer
    return built


def unwrapped_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """`optimizer.step`, for torch's own optimizers without its wrappers: hooks, which cnnlab does not use, a profiler mark, and
    an import of torch._dynamo for torch.compile, which takes 1.8 s at the first step. Call it under `torch.no_grad()`.
    """
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim."):
        return optimizer.step
    return partial(inspect.unwrap(kind.step), optimizer)


class Step:
    """Trains one network; each call is one update.

    train: the images. targets: their targets for the task, N, on the device.
    sums: float64, 2: the loss and the metric, each summed over the images of the epoch so far.
    gradient_norms: of the last step, before clipping; float32, one for each parameter that has a gradient, then zeros.
    first_bad: int64 scalar, the first step whose loss or gradient norm was not finite, -1 if there is none. That step
    and all later ones leave the weights unchanged.
    snapshots: (step, sums, gradient norms) at the points of the loss curve, on the device.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        task: Task,
        train: Split,
        targets: Tensor,
        preprocess: nn.Module,
        augmentations: Mapping[str, Chosen],
        runtime: Runtime,
        seed: int,
        clip_norm: float | None,
    ) -> None:
        self.model, self.task, self.preprocess = model, task, preprocess
        self.train, self.targets = train, targets
        self.augmentations, self.runtime, self.seed, self.clip_norm = augmentations, runtime, seed, clip_norm
        self.sums = torch.zeros(2, dtype=torch.float64, device=runtime.device)
        self.first_bad = torch.full((), -1, device=runtime.device)
        self.train_by(optimizer)

    def train_by(self, optimizer: torch.optim.Optimizer) -> None:
        """Switch to `optimizer` and to the parameters that are trainable now; the loss curve starts anew."""
        self.optimizer, self.optimizer_step = optimizer, unwrapped_step(optimizer)
        for parameter in self.model.parameters():
            parameter.grad = None
        self.parameters: list[Tensor] = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.gradient_norms = torch.zeros(len(self.parameters), device=self.runtime.device)
        self.snapshots: list[tuple[int, Tensor, Tensor]] = []

    def batch(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The augmented but not yet preprocessed images of a step, N x C x H x W, and their targets, N."""
        images = augment(self.train.gather(indices), self.augmentations, self.seed, step)
        return images, self.targets.index_select(0, indices)

    def __call__(self, indices: Tensor, step: int, lr_factor: float) -> None:
        """Train on the images at `indices` (int64, N); `step` counts updates from 0."""
        self.differentiate(indices, step)
        self.update(lr_factor)

    def differentiate(self, indices: Tensor, step: int) -> None:
        """Run the forward and backward pass, which leaves clipped gradients, or, from step `first_bad` on, zeros."""
        images, targets = self.batch(indices, step)
        seeding.reseed_default(self.seed, "step", step, self.runtime.device)
        with self.runtime.autocast():
            outputs = self.model(self.preprocess(images))
        outputs = outputs.float()
        loss = self.task.training_loss(outputs, targets)
        for parameter in self.parameters:
            parameter.grad = None  # backward then writes instead of adding; in a captured graph the graph owns the memory
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            norms = torch.stack(torch._foreach_norm(gradients))
            norm = torch.linalg.vector_norm(norms)
            if self.clip_norm is not None:
                torch._foreach_mul_(gradients, (self.clip_norm / (norm + 1e-6)).clamp(max=1.0))
            is_first = ~torch.isfinite(loss + norm) & (self.first_bad < 0)
            self.first_bad.copy_(torch.where(is_first, step, self.first_bad))
            mask_gradients(gradients, self.first_bad < 0)
            self.gradient_norms[: len(norms)].copy_(norms)
            self.sums[0].add_(loss, alpha=len(indices))
            self.sums[1].add_(self.task.score(outputs.detach(), targets))

    def update(self, lr_factor: float) -> None:
        """Update the weights; once a step had a loss or gradient that is not finite, leave them unchanged.

        The CPU can read `first_bad` without waiting and then skips the optimizer; other devices call it with gradients and a
        learning rate of 0.
        """
        healthy = self.first_bad < 0
        set_lr(self.optimizer, lr_factor, healthy)
        if self.runtime.device.type != "cpu" or healthy:
            with torch.no_grad():
                self.optimizer_step()

    def snapshot(self, step: int) -> None:
        """Store the sums and gradient norms after `step` updates, for the loss curve."""
        self.snapshots.append((step, self.sums.clone(), self.gradient_norms.clone()))

    def is_finite(self) -> bool:
        """Whether all weights and all of the optimizer's state are finite; waits for the device."""
        kept = [value for state in self.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        numbers = [*self.parameters, *(value for value in kept if value.is_floating_point())]
        with torch.no_grad():
            largest = torch._foreach_norm(numbers, torch.inf)
        return bool(torch.isfinite(torch.stack(largest)).all())

    def gradient_names(self) -> list[str]:
        """Names of the parameters that have a gradient, in the order of `gradient_norms`."""
        return [name for name, parameter in self.model.named_parameters() if parameter.grad is not None]


def set_lr(optimizer: torch.optim.Optimizer, factor: float, healthy: Tensor) -> None:
    """Set each group's lr to its initial lr times `factor`; if it is a tensor and `healthy` (bool scalar) is false, to 0."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["initial_lr"] * factor).mul_(healthy)
        else:
            group["lr"] = group["initial_lr"] * factor


def mask_gradients(gradients: list[Tensor], healthy: Tensor) -> None:
    """Zero all gradients in place if `healthy` (bool scalar) is false, without involving the host.

    With a learning rate of 0 as well, no optimizer then changes a weight.
    """
    for gradient in gradients:
        gradient.copy_(torch.where(healthy, gradient, 0.0))
