"""Everything that one run trains with, built from its configuration in the order in which errors are found most cheaply."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnlab.config.checking import check_targets
from cnnlab.config.schema import Config
from cnnlab.data import DataSet, Split, load_data
from cnnlab.data.batches import augmentations, epoch_order
from cnnlab.errors import ConfigError
from cnnlab.models import MLP, ConvNet, build_model, rehearse
from cnnlab.models.description import Description
from cnnlab.plots import require_matplotlib
from cnnlab.tracking.records import Score
from cnnlab.training.checkpoint import load_weights
from cnnlab.training.features import feature_splits, require_frozen
from cnnlab.training.initial import load_initial
from cnnlab.training.phases import Phase, build_phases
from cnnlab.training.runtime import Runtime, configure
from cnnlab.training.schedule import depends_on_end
from cnnlab.training.scoring import outputs_of, score
from cnnlab.training.step import Step
from cnnlab.training.task import Task, build_task


@dataclass
class Session:
    """The objects that a run works with.

    cfg: with device and threads resolved. splits: train, validation (if any) and test, with features in place of images
    if these are cached; targets: the task's targets for each split, on the device. trainable: names of the parameters that the
    network itself leaves trainable. phase: the current one of `phases`.
    """

    cfg: Config
    runtime: Runtime
    data: DataSet
    splits: dict[str, Split]
    targets: dict[str, Tensor]
    task: Task
    model: nn.Module
    description: Description
    preprocess: nn.Module
    trainable: list[str]
    phases: list[Phase]
    phase: Phase
    step: Step
    steps_per_epoch: int
    total_steps: int

    def enter_phase(self, step: int) -> bool:
        """Switch to the phase of `step`, with a fresh optimizer; return False if the run is in it already."""
        phase = next(phase for phase in self.phases if step < phase.end)
        if phase is self.phase:
            return False
        self.phase = phase
        self.step.train_by(phase.begin(self.cfg, self.model, self.trainable, self.runtime.device))
        return True

    def outputs(self, split: str) -> Tensor:
        """The network's outputs for a split: float32, N x num_outputs."""
        model, cfg = nn.Sequential(self.preprocess, self.model), self.cfg
        return outputs_of(model, self.splits[split], self.runtime, cfg.evaluation.batch_size, cfg.seed)

    def score(self, split: str) -> Score:
        return score(self.task, self.outputs(split), self.targets[split])

    def epoch_of(self, step: int) -> tuple[int, int, int]:
        """The epoch of a step, counted from 0, its first step and the one after its last; the run's end may cut it short."""
        epoch = step // self.steps_per_epoch
        return epoch, epoch * self.steps_per_epoch, min((epoch + 1) * self.steps_per_epoch, self.total_steps)

    def images(self, steps: int) -> int:
        """The number of images in the first `steps` steps of an epoch."""
        return min(steps * self.cfg.trainer.batch_size, len(self.splits["train"]))

    def first_batch(self) -> Tensor:
        """The images of step 0, augmented but before scaling: N x C x H x W."""
        order = epoch_order(self.cfg.seed, 0, len(self.splits["train"]), self.runtime.device)[: self.cfg.trainer.batch_size]
        return self.data.train.gather(order) if self.cfg.trainer.cache_features else self.step.batch(order, 0)[0]

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def can_be_lengthened(self) -> bool:
        """Whether the run can be extended without a change to the steps already done."""
        return not self.cfg.phases and not depends_on_end(self.cfg.schedule)

    def lr(self, step: int) -> float:
        """The learning rate of an update, without the factors of parameter groups."""
        return float(self.step.optimizer.defaults["lr"]) * self.phase.lr_factor(step)


def build_session(cfg: Config, checkpoint: Path | None = None) -> Session:
    """Load the data, build the network, the optimizer and the step.

    checkpoint: that of a run to continue, whose weights are loaded; None loads the initial weights of a new run.

    Raises:
        ConfigError, GeometryError, DataError: something that the configuration names cannot be built or loaded.
    """
    check_targets(cfg)
    if cfg.trainer.log_images:
        require_matplotlib("trainer.log_images=true")
    runtime = configure(cfg.trainer)
    chosen = augmentations(cfg.augment, runtime.device)
    data = load_data(cfg.data, cfg.seed, runtime.device)
    if chosen and len(data.shape) != 3:
        shape = " x ".join(map(str, (*data.shape[1:], data.shape[0])))
        raise ConfigError(f"augment={[*chosen]}: changes images, but {data.name} has {shape}; use augment=none")
    task = build_task(cfg.task, data.numbers)
    model, memory_format = build_model(cfg.model, data.shape, task.num_outputs, cfg.seed)
    scale, layout = (tuple(data.mean.tolist()), tuple(data.std.tolist())), str(memory_format).removeprefix("torch.")
    description = Description(cfg.model, cfg.task, data.shape, tuple(map(str, data.classes)), data.numbers, *scale, layout)
    last_batch = (len(data.train) - 1) % cfg.trainer.batch_size + 1
    if not isinstance(model, ConvNet | MLP):  # the user's own
        rehearse(model, data.shape, memory_format, 2)
    if last_batch == 1 and any(isinstance(module, _BatchNorm) for module in model.modules()):
        rehearse(model, data.shape, memory_format, 1)
    if checkpoint is None:
        load_initial(model, cfg.model, cfg.data.download)
    else:
        load_weights(checkpoint, model)
    model.to(runtime.device)
    steps_per_epoch = -(-len(data.train) // cfg.trainer.batch_size)
    total_steps = cfg.trainer.steps or cfg.trainer.epochs * steps_per_epoch
    phases = build_phases(cfg, total_steps, steps_per_epoch)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for phase in reversed(phases):  # so that a later one, too, fails before anything is trained
        optimizer = phase.begin(cfg, model, trainable, runtime.device)
    splits = data.splits()
    task_targets = {name: task.targets(split.labels).to(runtime.device) for name, split in splits.items()}
    scaled = description.preprocess().to(runtime.device)
    preprocess: nn.Module = scaled
    if cfg.trainer.cache_features:
        backbone = require_frozen(model, phases)
        splits = feature_splits(splits, backbone, scaled, runtime, cfg.evaluation.batch_size)
        preprocess = nn.Identity()
    step = Step(
        model,
        optimizer,
        task,
        splits["train"],
        task_targets["train"],
        preprocess,
        chosen,
        runtime,
        cfg.seed,
        cfg.trainer.clip_norm,
    )
    step.batch(torch.arange(1, device=runtime.device), 0)  # augmentations that refuse their arguments fail here
    return Session(
        cfg, runtime, data, splits, task_targets, task, model, description, preprocess, trainable, phases, phase, step,
        steps_per_epoch, total_steps,
    )  # fmt: skip
