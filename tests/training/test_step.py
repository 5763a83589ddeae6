"""One update: against a plain loop in float64, and with losses and gradients that are not finite."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import choices, optimizer_section
from torch import Tensor, nn

from cnnlab.data import InMemory, take
from cnnlab.data.batches import Chosen
from cnnlab.models.preprocess import Preprocess
from cnnlab.training.runtime import Runtime
from cnnlab.training.step import Step, build_optimizer, mask_gradients, set_lr
from cnnlab.training.task import Multiclass

CPU, LR = torch.device("cpu"), 0.5
SGD = {"_target_": "torch.optim.SGD", "lr": LR}
BATCHES = [torch.tensor([3, 1, 4]), torch.tensor([0, 5, 2]), torch.tensor([6])]  # 7 images in uneven batches
OPTIMIZERS = [*choices("optimizer"), "sgd optimizer.momentum=0.9 optimizer.weight_decay=0.1"]


class Spoiled(nn.Module):
    """uint8 to 0..1, times `factor`, by which a test spoils a batch; keeps what the network was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.shown = 1.0, torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        self.shown = images.float() / 255 * self.factor
        return self.shown


def train_split() -> InMemory:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (7, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return InMemory(images, torch.randint(3, (7,), generator=generator))


def network(*extra: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), *extra, nn.Linear(6, 3))


def make_step(
    model: nn.Module,
    section: Mapping[str, Any] = SGD,
    clip_norm: float | None = None,
    seed: int = 0,
    augmentations: Mapping[str, Chosen] | None = None,
    precision: str = "fp32",
    label_smoothing: float = 0.0,
) -> Step:
    optimizer, task = build_optimizer(section, model, CPU), Multiclass(3, label_smoothing)
    runtime = Runtime(CPU, torch.get_num_threads(), precision)
    train = train_split()
    return Step(model, optimizer, task, train, train.labels, Spoiled(), augmentations or {}, runtime, seed, clip_norm)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


def spoil(step: Step, factor: float) -> None:
    assert isinstance(step.preprocess, Spoiled)
    step.preprocess.factor = factor


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("clip_norm", [None, 0.1, 100.0])
def test_updates_sums_and_gradient_norms_equal_a_plain_loop_in_float64(clip_norm: float | None, smoothing: float) -> None:
    model = network()
    plain, step = copy.deepcopy(model).double(), make_step(model, clip_norm=clip_norm, label_smoothing=smoothing)
    largest, sums, kept = [], torch.zeros(2, dtype=torch.float64), []
    for number, indices in enumerate(BATCHES):
        step(indices, number, 1 / (number + 1))
        step.snapshot(number + 1)
        images, labels = train_split().images[indices].double() / 255, train_split().labels[indices]
        outputs = plain(images)
        loss = F.cross_entropy(outputs, labels, label_smoothing=smoothing)
        sums += torch.stack([loss.detach() * len(indices), (outputs.argmax(1) == labels).sum()])
        plain.zero_grad()
        loss.backward()
        norms = {name: parameter.grad.norm().item() for name, parameter in plain.named_parameters()}
        largest.append(nn.utils.clip_grad_norm_(plain.parameters(), clip_norm or torch.inf).item())
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter -= LR / (number + 1) * parameter.grad
        # Three steps in float32, eps 6e-8, on weights below 1.
        torch.testing.assert_close(weights(model).double(), weights(plain), rtol=0, atol=5e-7)
        assert step.sums.tolist() == pytest.approx(sums.tolist(), rel=1e-6)
        assert dict(zip(step.gradient_names(), step.gradient_norms.tolist(), strict=True)) == pytest.approx(norms, rel=1e-5)
        kept.append((number + 1, step.sums.tolist(), step.gradient_norms.tolist()))
    assert min(largest) > 0.1  # else clipping at 0.1 would not have been tried
    assert int(step.first_bad) == -1
    assert [(at, sums.tolist(), norms.tolist()) for at, sums, norms in step.snapshots] == kept


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("choice", OPTIMIZERS)
def test_a_loss_that_is_not_finite_stops_all_updates_from_its_own_on(
    choice: str, clip_norm: float | None, value: float
) -> None:
    model = network()
    step = make_step(model, optimizer_section(choice), clip_norm)
    step(BATCHES[0], 0, 1.0)
    before = weights(model)
    step(BATCHES[1], 1, 1.0)
    assert not torch.equal(weights(model), before)
    before = weights(model)
    for number, factor in ((2, value), (3, 1.0), (4, value)):
        spoil(step, factor)
        step(BATCHES[number % 3], number, 1.0)
        assert torch.equal(weights(model), before)
        assert int(step.first_bad) == 2


def test_a_nan_passes_relu_and_pooling_to_the_loss() -> None:
    """Kernels that turn nan into a number there would hide an overflow: Tensor.to_mkldnn's do."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        model[0].weight[0] = torch.nan
    step = make_step(model)
    step(BATCHES[0], 0, 1.0)
    assert int(step.first_bad) == 0


class Steep(nn.Module):
    """Its outputs are finite and its gradient is not: the root of a parameter that is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.root = nn.Parameter(torch.ones(16, 3)), nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight + self.root.sqrt()


def test_a_gradient_that_is_not_finite_is_noticed_behind_a_finite_loss() -> None:
    model = Steep()
    step, before = make_step(model), weights(model)
    step(BATCHES[0], 0, 1.0)
    assert torch.isfinite(step.sums).all()
    assert int(step.first_bad) == 0
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("choice", ["sgd optimizer.momentum=0.9 optimizer.weight_decay=0.1", "adam", "adamw"])
def test_masking_on_the_device_is_exact_when_healthy_and_leaves_the_weights_when_not(choice: str) -> None:
    """As on CUDA, where the learning rate is a tensor; a power of 2, so that float32 holds it exactly."""
    given = optimizer_section(choice) | {"lr": 2.0**-9}
    masked, plain = network(), network()
    optimizers = build_optimizer(given, masked, CPU), build_optimizer(given, plain, CPU)
    optimizers[0].param_groups[0]["lr"] = torch.tensor(2.0**-9)
    generator = torch.Generator().manual_seed(7)

    def update(model: nn.Module, optimizer: torch.optim.Optimizer, gradients: list[Tensor], healthy: bool) -> None:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        mask_gradients([parameter.grad for parameter in model.parameters()], torch.tensor(healthy))
        set_lr(optimizer, 0.5, torch.tensor(healthy))
        optimizer.step()

    for _ in range(3):
        gradients = [torch.randn(parameter.shape, generator=generator) for parameter in masked.parameters()]
        update(plain, optimizers[1], gradients, True)
        update(masked, optimizers[0], gradients, True)
        assert torch.equal(weights(masked), weights(plain))
    gradients[0][0], gradients[1][0] = torch.nan, -torch.inf
    update(masked, optimizers[0], gradients, False)
    assert torch.equal(weights(masked), weights(plain))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nothing_is_asked_of_the_device(clip_norm: float | None) -> None:
    """torch's `meta` device stands for an accelerator: reading a number from it raises, and so does mixing it with the CPU."""
    meta = torch.device("meta")
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 3))
    model = nn.Sequential(*layers).to(meta)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, foreach=True)
    optimizer.param_groups[0]["initial_lr"] = LR
    preprocess = Preprocess(torch.full((1,), 0.5), torch.ones(1), torch.channels_last).to(meta)
    train, runtime = take(train_split(), torch.arange(7)).to(meta), Runtime(meta, 1, "fp32")
    step = Step(model, optimizer, Multiclass(3, 0.1), train, train.labels.to(meta), preprocess, {}, runtime, 0, clip_norm)
    held = [step.sums, step.first_bad, step.gradient_norms]
    for number, batch in enumerate(BATCHES):
        step(batch.to(meta), number, 0.5)
    step.snapshot(len(BATCHES))
    optimizer.param_groups[0]["lr"] = torch.tensor(LR, device=meta)
    set_lr(optimizer, 0.5, step.first_bad < 0)  # as on CUDA; with it, torch's SGD is the one that asks, if it is not fused
    assert all(now is before for now, before in zip((step.sums, step.first_bad, step.gradient_norms), held, strict=True))
    with pytest.raises(RuntimeError, match="meta"):  # what would have been raised above
        bool(step.first_bad < 0)


class ForeignDropout(nn.Module):
    """Draws from the default generator, as other people's modules do."""

    def forward(self, values: Tensor) -> Tensor:
        return values * (torch.rand_like(values) > 0.5)


@pytest.mark.parametrize(("seed", "step_number", "same"), [(0, 4, True), (0, 5, False), (1, 4, False)])
def test_dropout_depends_on_the_seed_and_the_step_alone(seed: int, step_number: int, same: bool) -> None:
    first, second = network(ForeignDropout(), nn.Dropout(0.5)), network(ForeignDropout(), nn.Dropout(0.5))
    make_step(first)(BATCHES[0], 4, 1.0)
    torch.rand(17)
    make_step(second, seed=seed)(BATCHES[0], step_number, 1.0)
    assert torch.equal(weights(first), weights(second)) is same


def test_augmentation_shifts_no_dropout_and_sees_each_image_before_preprocessing() -> None:
    def invert(images: Tensor, generator: torch.Generator) -> Tensor:
        torch.rand(3, generator=generator)
        return 255 - images

    twice = {name: Chosen(invert, torch.Generator()) for name in ("invert", "again")}
    first, second = network(nn.Dropout(0.5)), network(nn.Dropout(0.5))
    make_step(first)(BATCHES[0], 0, 1.0)
    make_step(second, augmentations=twice)(BATCHES[0], 0, 1.0)
    assert torch.equal(weights(first), weights(second))
    step = make_step(network(), augmentations={"invert": twice["invert"]})
    step(BATCHES[0], 0, 1.0)
    assert isinstance(step.preprocess, Spoiled)
    assert torch.equal(step.preprocess.shown, (255 - train_split().images[BATCHES[0]]).float() / 255)


def test_bf16_keeps_weights_and_sums_in_full_precision() -> None:
    exact, rounded = network(), network()
    steps = make_step(exact), make_step(rounded, precision="bf16")
    for step in steps:
        step(BATCHES[0], 0, 1.0)
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.float32}
    assert not torch.equal(weights(exact), weights(rounded))
    # bf16 has 8 bits: relative errors of 2^-8 in activations and gradients, lr 0.5, gradients below 1.
    torch.testing.assert_close(weights(rounded), weights(exact), rtol=0, atol=5e-3)
    assert steps[1].sums[0].item() == pytest.approx(steps[0].sums[0].item(), rel=1e-2)
