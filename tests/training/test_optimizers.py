"""Each optimizer of configs/ against its published formula with Keras's constants, written out in float64."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from conftest import choices, optimizer_section
from torch import Tensor, nn

from cnnlab.errors import ConfigError
from cnnlab.training.step import build_optimizer, set_lr, unwrapped_step

CPU, STEPS = torch.device("cpu"), 12
Path = list[Tensor]


def sgd(weights: Tensor, gradients: Iterable[Tensor], momentum: float = 0.0, nesterov: bool = False) -> Path:
    """Keras's form: the velocity has the learning rate in it."""
    lr, velocity, path = 0.01, torch.zeros_like(weights), []
    for gradient in gradients:
        velocity = momentum * velocity - lr * gradient
        weights = weights + (momentum * velocity - lr * gradient if nesterov else velocity)
        path.append(weights)
    return path


def adam(weights: Tensor, gradients: Iterable[Tensor], decay: float = 0.0) -> Path:
    """Kingma and Ba 2015, algorithm 1; with `decay` Loshchilov and Hutter 2019, algorithm 2."""
    lr, first, second, eps, path = 0.001, 0.9, 0.999, 1e-7, []
    m, v = torch.zeros_like(weights), torch.zeros_like(weights)
    for t, gradient in enumerate(gradients, 1):
        m = first * m + (1 - first) * gradient
        v = second * v + (1 - second) * gradient**2
        unbiased = m / (1 - first**t), v / (1 - second**t)
        weights = weights - lr * decay * weights - lr * unbiased[0] / (unbiased[1].sqrt() + eps)
        path.append(weights)
    return path


def rmsprop(weights: Tensor, gradients: Iterable[Tensor]) -> Path:
    """Hinton's lecture 6e, eps outside the root."""
    lr, rho, eps, square, path = 0.001, 0.9, 1e-7, torch.zeros_like(weights), []
    for gradient in gradients:
        square = rho * square + (1 - rho) * gradient**2
        weights = weights - lr * gradient / (square.sqrt() + eps)
        path.append(weights)
    return path


FORMULAS: dict[str, Callable[[Tensor, list[Tensor]], Path]] = {
    "sgd": sgd,
    "sgd optimizer.momentum=0.9": lambda weights, gradients: sgd(weights, gradients, 0.9),
    "sgd optimizer.momentum=0.9 optimizer.nesterov=true": lambda weights, gradients: sgd(weights, gradients, 0.9, True),
    "adam": adam,
    "adamw": lambda weights, gradients: adam(weights, gradients, 0.004),
    "rmsprop": rmsprop,
}


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Linear(7, 5, dtype=dtype)


def test_every_choice_has_a_formula() -> None:
    assert set(choices("optimizer")) <= set(FORMULAS)


# float64 differs by the order of operations alone; in float32 each of the 12 steps rounds by up to 6e-8 of the
# largest weight.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 7e-7)], ids=["float64", "float32"])
@pytest.mark.parametrize("choice", FORMULAS)
def test_updates_follow_the_formula(choice: str, dtype: torch.dtype, tolerance: float) -> None:
    model = linear(dtype)
    optimizer = build_optimizer(optimizer_section(choice), model, CPU)
    generator = torch.Generator().manual_seed(4)
    gradients = [torch.randn(5, 7, generator=generator, dtype=dtype) * 10.0 ** (-step % 5) for step in range(STEPS)]
    expected = FORMULAS[choice](model.weight.detach().double(), [gradient.double() for gradient in gradients])
    for gradient, wanted in zip(gradients, expected, strict=True):
        model.weight.grad, model.bias.grad = gradient.clone(), torch.zeros(5, dtype=dtype)
        optimizer.step()
        scale = wanted.abs().max().clamp(min=1).item()  # SGD's gradients of 10^4 make weights of 100
        torch.testing.assert_close(model.weight.detach().double(), wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("choice", choices("optimizer"))
def test_set_lr_is_the_configured_lr_times_the_factor(choice: str) -> None:
    given = optimizer_section(choice)
    optimizer = build_optimizer(given, linear(), CPU)
    for factor in (0.5, 0.25, 1.0):  # each of the initial lr, not of the one before
        set_lr(optimizer, factor, torch.tensor(True))
        assert optimizer.param_groups[0]["lr"] == given["lr"] * factor


@pytest.mark.parametrize("choice", [*choices("optimizer"), "sgd optimizer.momentum=0.9 optimizer.nesterov=true"])
def test_the_unwrapped_step_is_the_step_bit_for_bit(choice: str) -> None:
    models = linear(), linear()
    optimizers = [build_optimizer(optimizer_section(choice), model, CPU) for model in models]
    step = unwrapped_step(optimizers[0])
    assert step != optimizers[0].step
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        for own, other in zip(*(model.parameters() for model in models), strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        with torch.no_grad():
            step()
        optimizers[1].step()
        assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))


def test_somebody_s_own_optimizer_keeps_what_is_wrapped_around_its_step() -> None:
    class Own(torch.optim.SGD):
        pass

    optimizer = Own(linear().parameters(), lr=0.1)
    assert unwrapped_step(optimizer) == optimizer.step


@pytest.mark.parametrize(("healthy", "expected"), [(True, 0.5), (False, 0.0)])
def test_set_lr_fills_a_tensor_in_place(healthy: bool, expected: float) -> None:
    optimizer = build_optimizer(optimizer_section("sgd") | {"lr": 2.0}, linear(), CPU)
    optimizer.param_groups[0]["lr"] = lr = torch.tensor(2.0)
    set_lr(optimizer, 0.25, torch.tensor(healthy))
    assert (optimizer.param_groups[0]["lr"] is lr, lr.item()) == (True, expected)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"_target_": "torch.optim.SGD", "lr": -1.0}, "optimizer"),
        ({"_target_": "torch.optim.Adam", "momentum": 0.9}, r"optimizer\.momentum"),
        ({"_target_": "torch.nn.Identity"}, r"optimizer\._target_"),
        ({"_target_": "torch.optim.LBFGS"}, r"optimizer\._target_"),
    ],
)
def test_what_is_no_optimizer_or_refuses_its_arguments(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        build_optimizer(given, linear(), CPU)
