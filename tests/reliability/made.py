"""An honest run and an honest sweep, made once, and functions that change what their files say."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import SMALL

from cnnlab import cli, config, data
from cnnlab.training.checkpoint import content_hash

TRAINED = (*SMALL, "trainer.epochs=2", "evaluation.weights=best", "augment=flip")
SWEPT = ("-m", *SMALL, "trainer.epochs=1", "seed=0,1", "hydra/launcher=basic")
FLIP = {"_target_": "cnnlab.data.augment.random_flip"}


@cache
def _originals() -> Path:
    return Path(mkdtemp(prefix="cnnlab-reliability-"))


@cache
def original(kind: str) -> Path:
    """Return the directory of "run", "transfer" (begun with that run's network), "sweep" or "search"; it must not be
    changed."""
    place = _originals() / kind
    own = [setting for setting in TRAINED if not setting.startswith("model")]
    lines = {
        "run": lambda: (*TRAINED, f"hydra.run.dir={place}"),
        "transfer": lambda: (*own, "model=transfer", f"model.run={original('run')}", f"hydra.run.dir={place}"),
        "sweep": lambda: (*SWEPT, f"hydra.sweep.dir={place}"),
        "search": lambda: searching(place),
    }
    assert cli.run("train", lines[kind]()) == 0
    if kind == "run":
        recorded = config.read(place / "config.yaml").data
        data.share(replace(recorded, download=False))  # so that the digits are not drawn for each case
    return place


def searching(place: Path, trials: int = 2) -> tuple[str, ...]:
    """Return a search's command line."""
    wanted = ("hydra/sweeper=optuna", f"hydra.sweeper.trials={trials}", "optimizer.lr=interval(0.001,0.01)")
    return ("-m", *SMALL, "trainer.epochs=1", *wanted, "hydra/launcher=basic", f"hydra.sweep.dir={place}")


def copied(kind: str, folder: Path) -> Path:
    """Copy an original, to be broken."""
    return Path(shutil.copytree(original(kind), folder / kind, symlinks=True))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((28, 28)).save(path, "PNG")
    return path


def edit_yaml(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def put(content: Any, key: str, value: Any) -> None:
    """Set the value at a dotted key, with numbers as list indices."""
    *above, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in above:
        content = content[part]
    content[last] = value


def edit_meta(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a checkpoint's metadata and the hash to match, as an attacker would."""
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["cnnlab"])
    change(meta)
    sign(path, load_file(path), json.dumps(meta))


def sign(path: Path, tensors: dict[str, Any], said: str) -> None:
    save_file(tensors, path, {"cnnlab": said, "sha256": content_hash(tensors, said)})


def link(path: Path, to: Path | str) -> None:
    """Replace what is there by a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(to)


def fifo(path: Path) -> None:
    """Replace what is there by a pipe that nobody writes to."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    os.mkfifo(path)
