"""Losses and metrics by hand, and against torch's own in float64."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import choices

from cnnlab import composing
from cnnlab.errors import ConfigError
from cnnlab.training.task import Binary, Multiclass, Regression, build_task

LOGITS = torch.tensor([[math.log(1), math.log(2), math.log(5)], [math.log(2), math.log(4), math.log(2)]], dtype=torch.float64)
# softmax: 1/8 2/8 5/8, and 2/8 4/8 2/8


def test_multiclass_by_hand() -> None:
    task, labels = Multiclass(3), torch.tensor([2, 0])
    assert task.targets(labels) is labels
    assert task.loss(LOGITS, labels).item() == pytest.approx(-(math.log(5 / 8) + math.log(2 / 8)) / 2, rel=1e-14)
    assert task.score(LOGITS, labels).item() == 1
    predicted, probability = task.predict(LOGITS)
    assert predicted.tolist() == [2, 1]
    assert probability is not None
    assert probability.tolist() == pytest.approx([5 / 8, 4 / 8], rel=1e-6)  # float32
    assert probability.dtype == torch.float32


def test_label_smoothing_by_hand_and_in_training_alone() -> None:
    task, labels, share = Multiclass(3, label_smoothing=0.3), torch.tensor([2, 0]), 0.3
    rows = [(1 / 8, 2 / 8, 5 / 8), (2 / 8, 4 / 8, 2 / 8)]
    by_hand = [
        -sum(((1 - share) * (k == label) + share / 3) * math.log(p) for k, p in enumerate(row))
        for row, label in zip(rows, (2, 0), strict=True)
    ]
    assert task.training_loss(LOGITS, labels).item() == pytest.approx(sum(by_hand) / 2, rel=1e-14)
    assert task.loss(LOGITS, labels).item() == Multiclass(3).loss(LOGITS, labels).item()


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_binary_is_torchs_bce_of_the_probability(share: float) -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(40, 1, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(2, (40,), generator=generator)
    task = Binary(2, label_smoothing=share)
    smoothed = torch.where(labels == 1, 1 - share / 2, share / 2).double()
    expected = F.binary_cross_entropy(outputs[:, 0].sigmoid(), smoothed)
    # Targets are float32, so 0.9 and 0.1 are off by 1e-8.
    assert task.training_loss(outputs, task.targets(labels)).item() == pytest.approx(expected.item(), rel=1e-7)
    unsmoothed = F.binary_cross_entropy(outputs[:, 0].sigmoid(), labels.double())
    assert task.loss(outputs, task.targets(labels)).item() == pytest.approx(unsmoothed.item(), rel=1e-12)


def test_binary_scores_and_predicts_by_the_sign() -> None:
    task, outputs = Binary(2), torch.tensor([[math.log(3)], [-math.log(3)], [math.log(4)], [0.0]])
    assert task.score(outputs, task.targets(torch.tensor([1, 1, 1, 0]))).item() == 3
    predicted, probability = task.predict(outputs)
    assert predicted.tolist() == [1, 0, 1, 0]
    assert probability is not None
    assert probability.tolist() == pytest.approx([0.75, 0.75, 0.8, 0.5], rel=1e-6)  # float32


def test_regression_predicts_the_numbers_of_the_chosen_classes() -> None:
    task = Regression([3, 8, 1])
    targets = task.targets(torch.tensor([0, 1, 2, 1]))
    assert targets.tolist() == [3, 8, 1, 8]
    outputs = torch.tensor([[2.5], [8.0], [-1.0], [11.0]])
    assert task.loss(outputs, targets).item() == pytest.approx((0.25 + 0 + 4 + 9) / 4)
    assert task.training_loss(outputs, targets).item() == task.loss(outputs, targets).item()
    assert task.score(outputs, targets).item() == pytest.approx(0.5 + 0 + 2 + 3)
    predicted, probability = task.predict(outputs)
    assert predicted.tolist() == [2.5, 8, -1, 11]
    assert probability is None


CHOICES = {
    "multiclass": ("accuracy", True, 2, [0, 1]),
    "binary": ("accuracy", True, 1, [0, 1]),
    "regression": ("mae", False, 1, [7, 4]),
}


@pytest.mark.parametrize("choice", choices("task"))
def test_choices_by_name(choice: str) -> None:
    task = build_task(composing.compose([f"task={choice}"]).task, [7, 4])
    found = task.metric, task.higher_is_better, task.num_outputs, task.targets(torch.tensor([0, 1])).tolist()
    assert found == CHOICES[choice]


@pytest.mark.parametrize(
    ("build", "arguments", "key"),
    [(Binary, (10,), "data.classes"), (Binary, (2, 1.0), "label_smoothing"), (Multiclass, (3, -0.1), "label_smoothing")],
)
def test_impossible_tasks_are_refused(build: Any, arguments: tuple[Any, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        build(*arguments)


@pytest.mark.parametrize("named", ["builtins.object", "types.SimpleNamespace"])
def test_what_is_no_task_is_told(named: str) -> None:
    with pytest.raises(ConfigError):
        build_task({"_target_": named}, range(3))
