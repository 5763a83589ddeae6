"""Composing, checking, writing and reading a configuration."""

from pathlib import Path

import pytest

from cnnlab import composing, config
from cnnlab.config.schema import Config, key_types
from cnnlab.errors import CheckpointError, ConfigError


def composed(*changes: str) -> Config:
    return composing.typed(composing.compose(changes))


def test_bare_train_is_what_the_documentation_says() -> None:
    cfg = composed()
    assert cfg == composed(
        "model=lenet", "data=mnist", "optimizer=adam", "schedule=constant", "augment=none", "seed=0", "trainer.batch_size=64",
        "trainer.epochs=10", "trainer.precision=fp32", "task=multiclass",
    )  # fmt: skip
    assert (cfg.data.validation, cfg.evaluation.split, cfg.evaluation.weights) == (5000, "validation", "last")
    assert composed("data=digits").data.validation == 1000
    assert (cfg.checkpoint.every_s, cfg.trainer.log_every) == (10, 50)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    cfg = composed("data=cifar10", "augment=[flip,crop]", "data.validation=0.1", "data.classes=[1,2]", "schedule=one_cycle")
    (tmp_path / "config.yaml").write_text(config.to_yaml(cfg))
    assert config.read(tmp_path / "config.yaml") == cfg


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "model: 3", "seed: x", "\x00"])
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        config.read(tmp_path / "config.yaml")


def test_augmentations_combine_in_the_order_given() -> None:
    assert list(composed("augment=[cutout,flip]").augment) == ["cutout", "flip"]
    assert composed("augment=none").augment == {}


def test_keys_of_a_target_need_no_plus() -> None:
    flatten = composed("model._target_=torch.nn.Flatten", "model.start_dim=1").model
    assert flatten == {"_target_": "torch.nn.Flatten", "start_dim": 1}


def test_the_data_directory_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNLAB_DATA", "/somewhere")
    assert composed().data.root == "/somewhere"
    monkeypatch.delenv("CNNLAB_DATA")
    assert composed().data.root == "data"
    assert composed("data.root=/else").data.root == "/else"


def test_every_key_of_the_schema_has_a_default() -> None:
    flat = config.flat(composed())
    for key in key_types():
        assert any(name == key or name.startswith(f"{key}.") for name in flat) or key == "augment", key


def test_an_illegal_value_set_from_python_is_refused() -> None:
    node = composing.compose([])
    node.trainer.epochs = 0
    with pytest.raises(ConfigError, match=r"trainer\.epochs=0"):
        composing.typed(node)


def test_the_recipe_is_what_is_computed_not_where() -> None:
    def hashed(*changes: str) -> str:
        return config.recipe_hash(composing.typed(composing.compose(["experiment=chollet-mnist", *changes])))

    for change in ("seed=7", "console=quiet", "data.root=/elsewhere", "trainer.threads=1", "checkpoint.every_s=1"):
        assert hashed(change) == hashed(), change
    for change in ("optimizer.lr=0.01", "trainer.epochs=6", "model.dropout=0.1", "trainer.precision=bf16", "augment=flip"):
        assert hashed(change) != hashed(), change


def test_what_a_file_says_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpolation in a file is never resolved, also not when a run is continued or evaluated with changes."""
    monkeypatch.setenv("SECRET", "hunter2")
    path, texts = tmp_path / "config.yaml", ("${oc.env:SECRET}", "${oc.decode:'1'}", "${data.name}", "a\\${b}", "${", "???")
    for text in texts:
        cfg = composed("data=digits")
        cfg.data.root, cfg.model["activation"] = text, text
        path.write_text(config.to_yaml(cfg))
        assert config.read(path) == cfg
        longer = composing.with_overrides(config.read(path), ["trainer.epochs=20"])
        assert (longer.data.root, longer.model["activation"], longer.trainer.epochs) == (text, text, 20)
    assert composing.with_overrides(cfg, ["data.root=${oc.env:SECRET}"]).data.root == "hunter2"  # a command line may
    path.write_text(config.to_yaml(composed()).replace("epochs: 10", "epochs: ${oc.env:SECRET}"))
    with pytest.raises(CheckpointError, match=r"trainer\.epochs=\$\{oc\.env:SECRET\}"):
        config.read(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs: 10", "epochs: ten", "trainer.epochs=ten"),
        ("epochs: 10", "epochs: 0", "trainer.epochs=0"),
        ("epochs: 10\n", "epoch: 10\n", "trainer.epoch: "),
        ("seed: 0\n", "", "seed: "),
        ("seed: 0\n", "seed: true\n", "seed=True"),
        ("threads: null", "threads: &a 1\n  steps: *a", "alias"),
        ("model:\n", "model: 3\nx:\n", "x: "),
        ("threads: null", f"threads: {'[' * 60}{']' * 60}", "50"),
        ("threads: null", "threads: !!python/object/apply:os.getcwd []", "os.getcwd"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path, text = tmp_path / "config.yaml", config.to_yaml(composed())
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError) as caught:
        config.read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_defaults_that_recipes_leave_out() -> None:
    """A recipe is what departs from these: whoever changes one has to write the old value into the recipes of both ledgers."""
    found = {key: value for key, value in config.defaults().items() if key not in config.NOT_THE_RECIPE}
    assert found == {
        "trainer.epochs": 10, "trainer.steps": None, "trainer.batch_size": 64, "trainer.precision": "fp32",
        "trainer.deterministic": False, "trainer.clip_norm": None, "trainer.patience": None, "parameters": [],
        "phases": [], "trainer.cache_features": False,
        "evaluation.every": 1, "evaluation.split": "validation", "evaluation.weights": "last",
        "data.validation": 5000, "data.limit": None,
        "data.size": None, "data.resize": None, "data.on_error": None, "data.classes": None, "data.normalize": False,
    }  # fmt: skip


def test_a_recipe_is_what_departs_from_the_defaults() -> None:
    plain, other = (composing.typed(composing.compose(list(changes))) for changes in ((), ("trainer.batch_size=32", "seed=5")))
    departures = {"trainer.batch_size": 32}
    assert config.recipe(other) == config.recipe(plain) | departures
    assert not config.recipe(plain).keys() & config.defaults().keys()
    assert {"model._target_", "optimizer.lr", "data.name"} <= config.recipe(plain).keys()  # choices are always told
    longer = dict(config.flat(plain)) | {"trainer.batch_size": 64.0}
    assert config.recipe(longer) == config.recipe(plain)


def test_keys_that_are_no_text_are_refused_before_a_run_records_them() -> None:
    with pytest.raises(ConfigError, match=r"^model: the key 1 "):
        composing.typed(composing.compose(["model=custom", "++model._target_=torch.nn.Flatten", "++model.start_dim=[{1:2}]"]))
