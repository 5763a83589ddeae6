"""Every network takes a step on gray and color images, or says why it cannot. A new file in configs/ is tested by that."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from conftest import choices

from cnnlab import composing
from cnnlab.data import InMemory, Source, describe
from cnnlab.errors import GeometryError
from cnnlab.training.session import build_session

MODELS = choices("model")


def blank_source(shape: tuple[int, ...], classes: int = 10) -> Source:
    """Random images in place of the files, which continuous integration may not have."""
    random = torch.Generator().manual_seed(0)
    splits = [
        InMemory(torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=random), torch.arange(count) % classes)
        for count in (20, 10)
    ]
    return Source(*splits, tuple("0123456789")[:classes])


def one_step(*changes: str) -> float:
    """The loss of the first step on random images of the configured shape."""
    weights = ["model.weights=none"] if "model=pretrained" in changes else []
    cfg = composing.typed(
        composing.compose([*changes, *weights, "data.validation=0", "trainer.batch_size=4", "trainer.threads=2"])
    )
    shape, numbers = describe(replace(cfg.data, classes=None))
    cfg.data.source = {"_target_": "test_every_model.blank_source", "shape": list(shape), "classes": len(numbers)}
    session = build_session(cfg)
    session.step(torch.arange(4), 0, 1.0)
    assert int(session.step.first_bad) == -1
    return float(session.step.sums[0]) / 4


OTHER_SIDES = {("signal", "digit-rows"), ("clip", "moving-digits")}
PAIRS = {*product(MODELS, ["mnist", "cifar10"]), *product(["lenet"], choices("data"))}
ON_IMAGES = {pair for pair in PAIRS if not any({*pair} & {*other} for other in OTHER_SIDES)}


@pytest.mark.parametrize(("model", "data"), sorted(ON_IMAGES | OTHER_SIDES))
def test_every_model_on_grey_and_on_color_images_and_one_on_every_data_set(model: str, data: str) -> None:
    if model == "cats-dogs":
        with pytest.raises(GeometryError, match="does not fit"):
            one_step(f"model={model}", f"data={data}")
    else:
        # Four or ten classes, nothing learned: the loss is of the order of log 10.
        assert 0.5 < one_step(f"model={model}", f"data={data}") < 3 * math.log(10)


def test_cats_dogs_on_images_of_its_size() -> None:
    loss = one_step("model=cats-dogs", "data.shape=[3,150,150]", "task=binary", "data.classes=[3,5]")
    assert 0.2 < loss < 3 * math.log(2)


@pytest.mark.parametrize("group", ["optimizer", "schedule", "task", "augment"])
def test_every_choice_of_the_other_groups(group: str) -> None:
    for choice in choices(group):
        classes = ["data.classes=[3,5]"] if choice == "binary" else []
        assert math.isfinite(one_step(f"{group}={choice}", "model=lenet", *classes)), choice


def test_the_other_precision_of_the_cpu() -> None:
    assert math.isfinite(one_step("model=lenet", "trainer.precision=bf16"))
