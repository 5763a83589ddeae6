"""Which job a list of overrides is: the same as composing it whole."""

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode

from cnnlab import composing, config
from cnnlab.errors import ConfigError
from cnnlab.sweep.compose import Composer, of_sweep


@pytest.fixture
def compose() -> Iterator[Composer]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        loader: ConfigLoader = GlobalHydra.instance().config_loader()
        node = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
        yield of_sweep(HydraContext(loader, None), node)  # type: ignore[arg-type]
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    "overrides",
    [
        "model=mlp  model.hidden=[10,20]  seed=3",
        "optimizer.lr=0.01  data.limit=null  trainer.steps=3",
        "optimizer=sgd  model=chollet  optimizer.momentum=0.9  data.root='a b'",
        "trainer.epochs=2  experiment=conv7-fashion",
        "augment=[flip,crop]  augment.crop.padding=2  data.validation=0.1",
        "model._target_=torch.nn.Identity  model=custom",
    ],
)
def test_a_job_is_what_its_overrides_compose(compose: Composer, overrides: str) -> None:
    given = overrides.split("  ")
    prepared = [f"++{change}" if "." in change.partition("=")[0] else change for change in given]
    compose([*prepared, "seed=9", "++trainer.clip_norm=7"])  # nothing of an earlier job stays
    cfg = composing.typed(composing.compose(given))
    assert compose(prepared) == cfg


def test_a_job_that_cannot_be_is_told(compose: Composer) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.epochs"):
        compose(["trainer.epochs=0"])
