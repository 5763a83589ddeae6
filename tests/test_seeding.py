"""Every draw comes from (seed, stream, index), and from nothing else."""

import hashlib
import itertools

import pytest
import torch

from cnnlab import seeding

PLACES = list(itertools.product((0, 1, 10, 2**40), ("order", "weights", "augment.flip", "augment.crop"), (0, 1, 11, 100)))


def test_every_place_has_its_own_63_bit_seed() -> None:
    seeds = [seeding.derive(*place) for place in PLACES]
    assert len(set(seeds)) == len(PLACES)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_formula_stays_what_runs_were_recorded_with() -> None:
    digest = hashlib.blake2b(b"7/order/3", digest_size=8).digest()
    assert seeding.derive(7, "order", 3) == sum(byte << 8 * place for place, byte in enumerate(digest)) // 2


def test_the_generator_of_the_cpu_keeps_32_bits() -> None:
    """The known pair of seeds with the same weights; their other streams differ."""
    one, other = (seeding.derive(seed, "weights") for seed in (10763, 39074))
    assert one != other
    assert (one - other) % 2**32 == 0
    for stream, alike in (("weights", True), ("order", False), ("augment.flip", False)):
        draws = [torch.rand(8, generator=seeding.fold(seed, stream)) for seed in (10763, 39074)]
        assert torch.equal(*draws) is alike


@pytest.mark.parametrize("other", [(2, "order", 3), (1, "weights", 3), (1, "order", 4)])
def test_fold_depends_on_all_its_arguments_alone(other: tuple[int, str, int]) -> None:
    first = torch.rand(8, generator=seeding.fold(1, "order", 3))
    torch.rand(5)  # the default generator moves on
    assert torch.equal(torch.rand(8, generator=seeding.fold(1, "order", 3)), first)
    assert not torch.equal(torch.rand(8, generator=seeding.fold(*other)), first)


def test_folding_leaves_the_default_generator_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(8, generator=seeding.fold(1, "order", 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_generator_is_reseeded_to_the_draws_of_its_place() -> None:
    with torch.random.fork_rng(devices=[]):
        seeding.reseed_default(1, "step", 5, torch.device("cpu"))
        assert torch.equal(torch.rand(8), torch.rand(8, generator=seeding.fold(1, "step", 5)))
