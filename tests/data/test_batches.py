import pytest
import torch
from torch import Tensor

from cnnlab.data import batches
from cnnlab.errors import ConfigError

CPU = torch.device("cpu")
FLIP = {"_target_": "cnnlab.data.augment.random_flip"}
CROP = {"_target_": "cnnlab.data.augment.random_crop", "padding": 2}


def random_images(count: int = 8, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, channels, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_epoch_order_takes_every_image_once_in_another_order_each_time() -> None:
    orders = [batches.epoch_order(seed, epoch, 50, CPU) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for order in orders:
        assert order.dtype == torch.int64
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in [*orders, torch.arange(50)]}) == 5
    assert torch.equal(batches.epoch_order(0, 1, 50, CPU), orders[1])


def add_one(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 1


def double(images: Tensor, generator: torch.Generator, times: int = 2) -> Tensor:
    return images * times


@pytest.mark.parametrize(("names", "result"), [(["add_one", "double"], 8), (["double", "add_one"], 7), ([], 3)])
def test_augmentations_are_applied_in_the_order_chosen_with_their_keys(names: list[str], result: int) -> None:
    chosen = batches.augmentations({name: {"_target_": f"{__name__}.{name}"} for name in names})
    assert batches.augment(torch.tensor([3]), chosen, seed=0, step=0).item() == result
    five = batches.augmentations({"double": {"_target_": f"{__name__}.double", "times": 5}})
    assert batches.augment(torch.tensor([3]), five, seed=0, step=0).item() == 15


def test_augment_depends_on_seed_and_step() -> None:
    images, chosen = random_images(64), batches.augmentations({"crop": CROP})
    first = batches.augment(images, chosen, seed=1, step=10)
    assert torch.equal(batches.augment(images, chosen, seed=1, step=10), first)
    assert not torch.equal(batches.augment(images, chosen, seed=1, step=11), first)
    assert not torch.equal(batches.augment(images, chosen, seed=2, step=10), first)


def test_each_augmentation_draws_from_its_own_stream() -> None:
    images = random_images(64)
    alone = batches.augment(images, batches.augmentations({"flip": FLIP}), seed=1, step=0)
    after = batches.augmentations({"crop": CROP | {"padding": 0}, "flip": FLIP})
    assert torch.equal(batches.augment(images, after, seed=1, step=0), alone)
    renamed = batches.augmentations({"mirror": FLIP})
    assert not torch.equal(batches.augment(images, renamed, seed=1, step=0), alone)


BAD = [
    (CROP | {"paddding": 2}, r"augment\.x\.paddding: .* Did you mean augment\.x\.padding\?"),
    (CROP | {"generator": 1}, r"augment\.x\.generator: "),
    (CROP | {"padding": "two"}, r"augment\.x\.padding=two: "),
    (CROP | {"_target_": "cnnlab.data.augment.random_crap"}, r"augment\.x.* Did you mean random_crop"),
    (CROP | {"padding": 5}, r"augment\.x: padding=5"),  # of images of 6 x 5
]


@pytest.mark.parametrize(("section", "says"), BAD)
def test_a_bad_section_is_named_by_its_key(section: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        batches.augment(random_images(), batches.augmentations({"flip": FLIP, "x": section}), seed=0, step=0)
