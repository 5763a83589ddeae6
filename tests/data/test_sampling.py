from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlab.data.batches import epoch_order
from cnnlab.data.sampling import held_out_count, limited, spread, stratified
from cnnlab.errors import ConfigError


@pytest.mark.parametrize(
    ("validation", "total", "count"),
    [
        *((0, 10, 0), (5000, 60_000, 5000), (9, 10, 9), (0.1, 60_000, 6000), (0.0, 10, 0), (0.26, 10, 3)),
        *((10, 10, None), (11, 10, None), (0.99, 10, None), (5000, 300, None), (0.01, 10, None)),  # nothing on one side
    ],
)
def test_held_out_count(validation: int | float, total: int, count: int | None) -> None:
    if count is None:
        with pytest.raises(ConfigError, match=rf"data\.validation={validation}: "):
            held_out_count(validation, total)
    else:
        assert held_out_count(validation, total) == count


@st.composite
def labels_and_count(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    labels = draw(st.lists(st.integers(0, 6), min_size=2, max_size=80))
    return torch.tensor(labels), draw(st.integers(1, len(labels) - 1))


@settings(max_examples=100, deadline=None)
@given(case=labels_and_count(), seed=st.integers(0, 1000))
def test_stratified_splits_are_complete_disjoint_and_proportional(case: tuple[torch.Tensor, int], seed: int) -> None:
    labels, count = case
    kept, held_out = stratified(labels, count, seed)
    assert len(held_out) == count
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist())
    for label in labels.unique():
        size, taken = int((labels == label).sum()), int((labels[held_out] == label).sum())
        assert abs(taken - size * count / len(labels)) < 1


@pytest.mark.parametrize(
    ("sizes", "count", "quota"),
    [
        ([5, 3, 2], 3, [1, 1, 1]),  # exact 1.5, 0.9, 0.6: the larger remainders are those of 1 and 2
        ([2, 2, 2, 2], 2, [1, 1, 0, 0]),  # all remainders equal: the smaller classes first
        ([6, 0, 3], 3, [2, 0, 1]),  # divides exactly, and a class without images
        ([1, 9], 1, [0, 1]),
    ],
)
def test_stratified_quotas_by_hand(sizes: list[int], count: int, quota: list[int]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    _, held_out = stratified(labels, count, 3)
    assert torch.bincount(labels[held_out], minlength=len(sizes)).tolist() == quota


def test_each_image_is_as_likely_to_be_held_out() -> None:
    labels = torch.arange(20) % 2
    times = torch.zeros(20)
    for seed in range(200):
        times[stratified(labels, 5, seed)[1]] += 1
    assert ((times - 50).abs() < 5 * (200 * 0.25 * 0.75) ** 0.5).all()


def test_the_split_the_limit_and_the_order_are_independent_draws() -> None:
    labels, cpu = torch.zeros(1000, dtype=torch.int64), torch.device("cpu")
    shuffles = [
        set(stratified(labels, 100, 0)[1].tolist()),
        set(limited(1000, 100, 0).tolist()),
        set(epoch_order(0, 0, 1000, cpu)[:100].tolist()),
    ]
    for index, first in enumerate(shuffles):
        for second in shuffles[index + 1 :]:
            assert len(first & second) < 30  # by chance about 10


@pytest.mark.parametrize(
    "draw", [lambda seed: stratified(torch.arange(200) % 10, 30, seed)[1], lambda seed: limited(200, 30, seed)]
)
def test_the_seed_alone_draws_ascending_different_indices(draw: Callable[[int], torch.Tensor]) -> None:
    torch.manual_seed(1)
    indices = draw(5)
    assert indices.tolist() == sorted(set(indices.tolist()))
    assert (len(indices), indices.min() >= 0, indices.max() < 200) == (30, True, True)
    torch.manual_seed(2)
    assert torch.equal(indices, draw(5))
    assert not torch.equal(indices, draw(6))


def test_a_smaller_limit_gives_a_part_of_the_larger() -> None:
    assert set(limited(100, 10, 5).tolist()) < set(limited(100, 30, 5).tolist())
    assert limited(100, 100, 5).tolist() == list(range(100))
    with pytest.raises(ConfigError, match=r"data\.limit=101: "):
        limited(100, 101, 0)


def test_a_spread_reaches_all_classes_of_a_sorted_set() -> None:
    assert spread(10, 4).tolist() == [0, 2, 5, 7]
    assert spread(3, 100).tolist() == [0, 1, 2]
    assert spread(0, 5).tolist() == []
