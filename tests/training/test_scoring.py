"""Scores of whole splits: batches must not show, and calibration by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlab.data import InMemory
from cnnlab.errors import CheckpointError
from cnnlab.models.preprocess import Preprocess
from cnnlab.training.runtime import Runtime
from cnnlab.training.scoring import calibration_error, outputs_of, require_finite, score
from cnnlab.training.task import Multiclass

CPU = torch.device("cpu")


def split() -> InMemory:
    generator = torch.Generator().manual_seed(8)
    images = torch.randint(256, (7, 1, 3, 3), generator=generator, dtype=torch.uint8)
    return InMemory(images, torch.randint(3, (7,), generator=generator))


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        preprocess = Preprocess(torch.zeros(1), torch.ones(1), torch.contiguous_format)
        return nn.Sequential(preprocess, nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(9, 3))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_uneven_batches_give_the_mean_over_images(batch_size: int) -> None:
    model, images = network(), split()
    outputs = outputs_of(model, images, Runtime(CPU, 1, "fp32"), batch_size, 0)
    exact = network()[1:].double().eval()(images.images.double() / 255)
    torch.testing.assert_close(outputs.double(), exact.detach(), rtol=0, atol=1e-6)  # float32, outputs below 2
    scored = score(Multiclass(3, label_smoothing=0.3), outputs, images.labels)
    assert scored.loss == pytest.approx(F.cross_entropy(exact, images.labels).item(), rel=1e-6)  # smoothing is for training
    assert scored.value == int((exact.argmax(1) == images.labels).sum()) / 7


def test_scoring_trains_nothing() -> None:
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outputs = outputs_of(model, split(), Runtime(CPU, 1, "fp32"), 3, 0)
    assert not outputs.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_outputs_in_bf16_are_float32_and_rounded() -> None:
    exact, rounded = (outputs_of(network(), split(), Runtime(CPU, 1, kind), 4, 0) for kind in ("fp32", "bf16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.02)  # 2^-8 of values of up to 2


@pytest.mark.parametrize(
    ("probability", "correct", "num_bins", "expected"),
    [
        ([0.95, 0.95, 0.55, 0.55], [True, False, True, True], 10, (2 * 0.45 + 2 * 0.45) / 4),
        ([0.9, 0.8, 0.7], [True, True, False], 1, abs(2 / 3 - 0.8)),
        ([0.5, 0.75], [False, True], 2, (0.5 + 0.25) / 2),  # 0.5 lies in the lower bin; above, they would give 0.125
        ([0.0, 0.25], [True, False], 4, (2 * abs(0.5 - 0.125)) / 2),  # 0 belongs to the first bin
        ([1.0, 1.0], [True, True], 15, 0.0),
        ([1.0, 1.0], [False, True], 15, 0.5),
    ],
)
def test_calibration_error_by_hand(probability: list[float], correct: list[bool], num_bins: int, expected: float) -> None:
    got = calibration_error(torch.tensor(probability), torch.tensor(correct), num_bins)
    assert got == pytest.approx(expected, abs=1e-7)  # the probabilities are float32


def test_calibration_error_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(10)
    probability = torch.rand(500, generator=generator, dtype=torch.float64)
    correct = torch.rand(500, generator=generator) < 0.7
    expected = 0.0
    for bin_number in range(15):
        inside = [i for i, p in enumerate(probability.tolist()) if bin_number / 15 < p <= (bin_number + 1) / 15]
        accuracy = sum(correct[i].item() for i in inside) / len(inside)
        confidence = sum(probability[i].item() for i in inside) / len(inside)
        expected += len(inside) / 500 * abs(accuracy - confidence)
    assert calibration_error(probability, correct) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(CheckpointError):
        require_finite(torch.tensor([[0.0, value]]))
