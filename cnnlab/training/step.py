"""What one update is: gather, augment, preprocess, forward, loss, backward, clip, check, update.

One path for every device, up to the optimizer's call: nothing in it reads a number of the device, makes a generator, or rebinds
a tensor that a captured graph would hold. Sums, the finite check and the points of the loss curve stay there until read.
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
    """The configured optimizer over all trainable parameters, in its fastest form: fused where it has one, else foreach.

    On CUDA the learning rate is a tensor, so that setting it needs no host and no capture is broken.

    Args:
        groups: the config's `parameters`.

    Raises:
        ConfigError: the target is no optimizer, or refuses its arguments; a group that it or the network cannot have.
    """
    takes = targets.parameters_of(section, "optimizer")
    step = inspect.signature(getattr(targets.locate(section, "optimizer"), "step", lambda: None)).parameters
    if "closure" in step and step["closure"].default is inspect.Parameter.empty:
        raise ConfigError(
            f"optimizer._target_={section['_target_']}: its step needs a closure, which one update a step cannot give"
        )
    fast = {"fused": True} if "fused" in takes else {"foreach": True} if "foreach" in takes else {}
    if device.type == "cuda" and "fused" not in takes:
        fast["capturable"] = True
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = targets.instantiate(
        section, "optimizer", params=optimizer_groups(model, groups) if groups else trainable, **fast
    )
    targets.require(optimizer, torch.optim.Optimizer, section, "optimizer")
    if "weight_decay" not in optimizer.defaults and any(group.weight_decay is not None for group in groups):
        raise ConfigError(f"parameters: {section['_target_']} has no weight_decay, which a group sets")
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_factor", 1.0)
        group["initial_lr"] = group["lr"]
        if device.type == "cuda":
            group["lr"] = torch.tensor(group["lr"], device=device)
    built: torch.optim.Optimizer = optimizer
    return built


def unwrapped_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """`optimizer.step`, of torch's own optimizers without what is wrapped around it: hooks, which nobody here registers, a mark
    for the profiler, and an import of torch._dynamo for torch.compile, 1.8 s at the first step. To be called without gradients.
    """
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim."):
        return optimizer.step
    return partial(inspect.unwrap(kind.step), optimizer)


class Step:
    """One update of one network, callable once a step.

    train: the images. targets: the task's for them, N, on the device.
    sums: float64, 2: the loss times the images and the metric, summed over the epoch so far.
    gradient_norms: of the last step, before clipping; float32, one for each parameter that has a gradient, then zeros.
    first_bad: int64 scalar, the first step whose loss or gradient norm was not finite, -1 while there is none. That step
    and all later ones leave the weights as they are.
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
        """Let `optimizer` move the weights from now on, those that now are trainable; the loss curve begins anew."""
        self.optimizer, self.optimizer_step = optimizer, unwrapped_step(optimizer)
        for parameter in self.model.parameters():
            parameter.grad = None
        self.parameters: list[Tensor] = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.gradient_norms = torch.zeros(len(self.parameters), device=self.runtime.device)
        self.snapshots: list[tuple[int, Tensor, Tensor]] = []

    def batch(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The augmented images N x C x H x W, not preprocessed, and the targets N of a step."""
        images = augment(self.train.gather(indices), self.augmentations, self.seed, step)
        return images, self.targets.index_select(0, indices)

    def __call__(self, indices: Tensor, step: int, lr_factor: float) -> None:
        """Train on the images at `indices` (int64, N); `step` counts updates from 0."""
        self.differentiate(indices, step)
        self.update(lr_factor)

    def differentiate(self, indices: Tensor, step: int) -> None:
        """Forward and backward pass of a step, up to the update: leaves gradients, clipped, and 0 if the step is bad."""
        images, targets = self.batch(indices, step)
        seeding.reseed_default(self.seed, "step", step, self.runtime.device)
        with self.runtime.autocast():
            outputs = self.model(self.preprocess(images))
        outputs = outputs.float()
        loss = self.task.training_loss(outputs, targets)
        for parameter in self.parameters:
            parameter.grad = None  # backward then writes instead of adding; in a captured graph the memory is the graph's own
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
        """Let the optimizer move the weights; after a bad step they stay as they are.

        On a CPU, where reading a number waits for nothing, the call is left out then; elsewhere it is made with gradients and a
        learning rate of 0.
        """
        healthy = self.first_bad < 0
        set_lr(self.optimizer, lr_factor, healthy)
        if self.runtime.device.type != "cpu" or healthy:
            with torch.no_grad():
                self.optimizer_step()

    def snapshot(self, step: int) -> None:
        """Keep the sums and gradient norms after `step` updates, for the loss curve."""
        self.snapshots.append((step, self.sums.clone(), self.gradient_norms.clone()))

    def is_finite(self) -> bool:
        """Whether every weight is a finite number, and all that the optimizer keeps; waits for the device."""
        kept = [value for state in self.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        numbers = [*self.parameters, *(value for value in kept if value.is_floating_point())]
        with torch.no_grad():
            largest = torch._foreach_norm(numbers, torch.inf)
        return bool(torch.isfinite(torch.stack(largest)).all())

    def gradient_names(self) -> list[str]:
        """The names of the parameters that `gradient_norms` begins with, in the same order."""
        return [name for name, parameter in self.model.named_parameters() if parameter.grad is not None]


def set_lr(optimizer: torch.optim.Optimizer, factor: float, healthy: Tensor) -> None:
    """Set each group's lr to its initial lr times `factor`; a tensor to 0 where `healthy` (bool scalar) is false."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["initial_lr"] * factor).mul_(healthy)
        else:
            group["lr"] = group["initial_lr"] * factor


def mask_gradients(gradients: list[Tensor], healthy: Tensor) -> None:
    """Zero all gradients in place where `healthy` (bool scalar) is false, without asking the host.

    With a learning rate of 0 as well, no optimizer's update changes a weight then.
    """
    for gradient in gradients:
        gradient.copy_(torch.where(healthy, gradient, 0.0))
