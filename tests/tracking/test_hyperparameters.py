"""The columns of the HPARAMS tab."""

import pytest
from conftest import choices
from omegaconf import OmegaConf

from cnnlab import composing
from cnnlab.config.schema import Config
from cnnlab.tracking.hyperparameters import LONGEST, hyperparameters


def composed(*overrides: str) -> tuple[Config, dict[str, str]]:
    node = composing.compose(overrides, with_hydra=True)
    own = OmegaConf.masked_copy(node, [str(key) for key in node if key != "hydra"])
    return composing.typed(own), {str(key): str(value) for key, value in node.hydra.runtime.choices.items()}


def test_the_choices_by_name_and_the_recipe_without_seed_and_places() -> None:
    shown = hyperparameters(*composed("data=digits", "model=lenet", "trainer.clip_norm=1", "seed=3", "data.root=here"))
    expected = {"data": "digits", "model": "lenet", "augment": "none", "model.hidden": "[120,84]", "trainer.clip_norm": 1.0}
    assert expected.items() <= shown.items()
    assert not shown.keys() & {"seed", "data.root", "trainer.steps", "model.blocks", "console"}


def test_augmentations_stand_in_one_column_and_with_their_settings() -> None:
    shown = hyperparameters(*composed("data=digits", "augment=[flip,crop]", "schedule=one_cycle", "trainer.steps=7"))
    assert shown["augment"] == "flip,crop"
    assert (shown["augment.crop.padding"], shown["schedule.peak"], shown["trainer.steps"]) == (4, 0.3, 7)
    assert "trainer.epochs" not in shown  # the steps rule


def test_what_is_unusual_is_shown_too() -> None:
    overrides = ("data=digits", "optimizer.eps=inf", "model=custom", "model._target_=torch.nn.Flatten", "model.end_dim=-1")
    shown = hyperparameters(*composed(*overrides))
    assert (shown["model"], shown["model.end_dim"]) == ("torch.nn.Flatten", -1)
    assert "model.hidden" not in shown
    assert shown["optimizer.eps"] == "inf"


def test_a_sweep_shows_what_its_jobs_differ_in_and_parts_of_ones_own_by_name() -> None:
    cfg, names = composed(
        "data=digits", "model=custom", "model._target_=mine.Net", "optimizer=custom", "optimizer._target_=a.B"
    )
    varied = ["seed", "model._target_", "optimizer", "optimizer.lr", "data.source._target_"]
    assert hyperparameters(cfg, names, varied) == {"model": "mine.Net", "optimizer": "a.B", "data": "digits"}
    assert hyperparameters(cfg, names, ["seed"]) == hyperparameters(cfg, names)


@pytest.mark.parametrize("group", ["model", "task", "optimizer", "schedule", "augment"])
def test_every_choice_fits_the_table(group: str) -> None:
    for name in choices(group):
        shown = hyperparameters(*composed(f"{group}={name}"))
        assert shown[group] == name
        assert all(isinstance(value, bool | int | float) or len(value) <= LONGEST for value in shown.values()), shown
        assert not any("blocks" in key or key.endswith("_target_") for key in shown)
        assert len(shown) <= 30
