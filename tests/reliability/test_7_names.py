"""Row 7: what the files of somebody who means harm may name: none of it runs, and nothing goes online."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hostile import COMMANDS, EVIL, SECTIONS, naming, of_kind
from hostile import place as place
from made import (
    FLIP,
    copied,
    edit_meta,
    edit_yaml,
    original,
    put,
)
from payloads import PAYLOADS
from protocol import share
from watch import said, state, watched

from cnnlab import config
from cnnlab.config import trust
from cnnlab.config.schema import PhaseConfig
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.opening import load


@pytest.mark.parametrize("number", share(range(len(PAYLOADS)), 5))
def test_a_name_in_a_run(call, place: Path, number: int) -> None:
    payload = PAYLOADS[number]
    original("transfer")
    with watched(place) as seen:
        for section in SECTIONS:
            cfg = config.read(original("transfer") / "config.yaml")
            held: Any = {"_target_": "cnnlab.models.transferred", "run": "x", "network": naming(payload)}
            top, _, inner = section.partition(".")
            if section.startswith("phases"):
                cfg.phases = [PhaseConfig(2, schedule=naming(payload))]
            elif section == "model.network":
                cfg.model = held
            elif section == "data.source":
                cfg.data.source = naming(payload)
            elif inner:
                cfg.augment = {inner: naming(payload)}
            else:
                setattr(cfg, top, naming(payload))
            with pytest.raises(ConfigError):
                trust.check(cfg)
    assert seen == []
    section, command = SECTIONS[number % len(SECTIONS)], [*COMMANDS][number // len(SECTIONS) % len(COMMANDS)]
    if command == "transfer":  # which takes no more from a run than its network
        section = "model" if section != "model.network" else section
    run = of_kind(section, place, naming(payload))
    before = state(run)
    with watched() as seen:
        code, *output = call(*COMMANDS[command](run))
    assert (code, seen) == (2, []), output
    assert said(output).count("\n") == 1
    assert "error: " in output[1]
    assert state(run) == before
    if command == "evaluate":
        with watched() as seen, pytest.raises((CheckpointError, ConfigError)):
            load(run)
        assert seen == []
        with watched() as seen:
            code, *output = call("compare", run, "--runs", "--csv")
        assert (code, seen) == (0, []), output
        said(output)


SAYING = (EVIL, "canary_module.Net", "cnnlab.config.targets.instantiate", "torch.load")


@pytest.mark.parametrize(
    ("part", "payload", "command"),
    share(itertools.product(("model", "task"), SAYING, ("evaluate", "resume", "predict", "transfer")), 7),
)
def test_a_name_in_a_checkpoint(call, place: Path, part: str, payload: str, command: str) -> None:
    run = copied("run", place)
    for name in ("last", "best"):
        edit_meta(run / f"{name}.safetensors", lambda meta: put(meta, f"network.{part}", naming(payload)))
    with watched(place) as seen:
        code, *output = call(*COMMANDS[command](run))
    assert seen == []
    assert code == (0 if command == "transfer" else 2), output  # where the layers alone are taken
    said(output)


ONLINE = [
    {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"},
    {"_target_": "torchvision.models.resnet18", "weights": "IMAGENET1K_V1"},
    {"_target_": "torchvision.models.resnet18", "pretrained": True},
    {"_target_": "torchvision.models.squeezenet1_1", "weights": "DEFAULT", "num_classes": 10},
    {"_target_": "torchvision.models.inception_v3", "weights": "DEFAULT"},
    {"_target_": "cnnlab.models.Pretrained", "backbone": "resnet18", "weights": "imagenet"},
    {"_target_": "cnnlab.models.Pretrained", "backbone": "resnet18", "weights": "/dev/zero"},
]


@pytest.mark.parametrize(
    ("number", "command"), share(itertools.product(range(len(ONLINE)), ("evaluate", "predict", "resume")), 5)
)
def test_what_is_listed_goes_online_for_nothing(
    call, place: Path, number: int, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(place / "no-such-torch-home"))
    run = of_kind("model", place, ONLINE[number])
    for name in ("last", "best"):
        edit_meta(run / f"{name}.safetensors", lambda meta: put(meta, "network.model", ONLINE[number]))
    with watched(run) as seen:
        code, *output = call(*COMMANDS[command](run))
    assert (code, seen) == (2, []), output
    said(output)


@pytest.mark.parametrize(
    ("source", "command"),
    share(itertools.product(("idx.load", "cifar.load", "folder.load"), ("evaluate", "visualize", "export", "resume")), 3),
)
def test_missing_data_of_a_run_make_no_folder_and_go_online_for_nothing(call, place: Path, source: str, command: str) -> None:
    run = copied("run", place)

    def change(cfg: dict[str, Any]) -> None:
        name = {"name": "MNIST"} if source == "idx.load" else {}
        cfg["data"] |= {
            "source": {"_target_": f"cnnlab.data.{source}", **name},
            "root": str(place.parent / "victim"),
            "shape": None,
        }

    edit_yaml(run / "config.yaml", change)
    with watched(place) as seen:
        code, *output = call(*COMMANDS[command](run))
    assert seen == []
    assert code == (2 if command in ("evaluate", "resume") else 0), output
    said(output)
    assert not (place.parent / "victim").exists()


def test_the_honest_ones_still_work(call, place: Path) -> None:
    """Or all of the above would hold of a program that refuses everything."""
    run = copied("run", place)
    for command in ("evaluate", "resume", "predict", "visualize", "export", "transfer"):
        with watched(place) as seen:
            code, *output = call(*COMMANDS[command](run))
        assert (code, seen) == (0, []), output
    edit_yaml(run / "config.yaml", lambda cfg: put(cfg, "augment.flip", FLIP))
    assert call("compare", place)[0] == 0
