"""`trainer.log_images`: what TensorBoard shows of a network's inside, which changes nothing in training."""

from pathlib import Path

import pytest
import torch
from conftest import assert_same_run
from small_runs import epoch_lines, resume, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cnnlab import config
from cnnlab.training.inside import activations

CONV = ("model=lenet", "model.hidden=[8]", "model.dropout=0.3", "model.batch_norm=true", "trainer.epochs=2")
LOGGED = "trainer.log_images=true"
PICTURES = ["visuals/activation_maps", "visuals/filters"]


def read(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run), size_guidance={"histograms": 0, "images": 0})
    events.Reload()
    return events


def test_training_is_the_same_to_the_bit_and_each_epoch_is_shown(tmp_path: Path) -> None:
    logged = train(tmp_path / "logged", *CONV, LOGGED)
    assert_same_run(logged, train(tmp_path / "plain", *CONV))
    ends = [line["step"] for line in epoch_lines(logged)]
    events = read(logged)
    for tag in PICTURES:
        assert [event.step for event in events.Images(tag)] == ends
    tags = events.Tags()
    kinds = ("weights/blocks.0.conv.weight", "activations/blocks.0.activation", "activations/outputs")
    assert {f"training/{kind}" for kind in kinds} <= {*tags["histograms"]}
    for tag in tags["histograms"]:
        assert [event.step for event in events.Histograms(tag)] == ends
    values = events.Histograms("training/weights/blocks.0.conv.weight")[-1].histogram_value
    assert values.num == 6 * 25
    assert tags["graph"]
    assert {"projector_config.pbtxt", "embedding.tsv", "embedding-classes.tsv"} <= {path.name for path in logged.iterdir()}
    resume(logged, "trainer.epochs=3")  # what was shown before stays
    ends, events = [line["step"] for line in epoch_lines(logged)], read(logged)
    assert len(ends) == 3
    assert [event.step for event in events.Images("visuals/filters")] == ends
    assert [event.step for event in events.Histograms("training/activations/outputs")] == ends


@pytest.mark.parametrize("network", [("model=mlp",), ("data=digit-rows", "model=signal", "data.validation=50")])
def test_networks_without_filters_to_see(network: tuple[str, ...], tmp_path: Path) -> None:
    run = train(tmp_path / "run", "model.hidden=[8]", *network, "trainer.epochs=1", LOGGED)
    tags = read(run).Tags()
    assert not set(PICTURES) & set(tags["images"])
    assert "training/activations/outputs" in tags["histograms"]


def test_activations_are_of_torchs_own_modules() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1))
    images = torch.rand(3, 2)
    found = activations(model, images)
    assert list(found) == ["1", "outputs"]
    assert torch.equal(found["1"], model[1](model[0](images)))


def test_without_matplotlib_no_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlab.plots.find_spec", lambda name: None)
    assert not train(tmp_path / "run", LOGGED, code=2).exists()


def test_the_file_of_a_run_from_before_the_key_is_read(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "trainer.steps=1")
    text = (run / "config.yaml").read_text()
    for line in ("  log_images: false\n", "  memory_gb: null\n", "phases: []\n"):
        assert line in text
        text = text.replace(line, "")
    (run / "config.yaml").write_text(text)
    cfg = config.read(run / "config.yaml")
    assert (cfg.trainer.log_images, cfg.data.memory_gb) == (False, None)
