import pytest
import torch
from torch import Tensor

from cnnlab.data import batches
from cnnlab.data.images import Images
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


def test_gather_takes_images_and_labels_in_the_order_of_the_indices() -> None:
    part = Images(random_images(), torch.arange(8) * 10)
    images, labels = batches.gather(part, torch.tensor([5, 0, 5]))
    assert labels.tolist() == [50, 0, 50]
    assert torch.equal(images, torch.stack([part.images[5], part.images[0], part.images[5]]))
    assert images.dtype == torch.uint8


def add_one(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 1


def double(images: Tensor, generator: torch.Generator, times: int = 2) -> Tensor:
    return images * times


@pytest.mark.parametrize(("names", "result"), [(["add_one", "double"], 8), (["double", "add_one"], 7), ([], 3)])
def test_augmentations_are_applied_in_the_order_chosen(names: list[str], result: int) -> None:
    chosen = batches.augmentations({name: {"_target_": f"{__name__}.{name}"} for name in names})
    assert list(chosen) == names
    assert batches.augment(torch.tensor([3]), chosen, seed=0, step=0).item() == result


def test_augmentations_pass_their_keys_on() -> None:
    chosen = batches.augmentations({"double": {"_target_": f"{__name__}.double", "times": 5}})
    assert batches.augment(torch.tensor([3]), chosen, seed=0, step=0).item() == 15


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


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (CROP | {"paddding": 2}, r"augment\.x\.paddding: no such key .* Did you mean augment\.x\.padding\? Keys: padding\."),
        (CROP | {"generator": 1}, r"augment\.x\.generator: no such key"),
        (CROP | {"padding": "two"}, r"augment\.x\.padding=two: expected an integer, got str"),
        (CROP | {"_target_": "cnnlab.data.augment.random_crap"}, r"augment\.x.* Did you mean random_crop"),
    ],
)
def test_augmentations_refuse_bad_sections(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        batches.augmentations({"x": section})


def test_augment_names_the_augmentation_that_refuses_its_arguments() -> None:
    chosen = batches.augmentations({"flip": FLIP, "crop": CROP | {"padding": 5}})
    with pytest.raises(ConfigError, match=r"augment\.crop: padding=5, expected 0 to 4 for 6 x 5 images"):
        batches.augment(random_images(), chosen, seed=0, step=0)
