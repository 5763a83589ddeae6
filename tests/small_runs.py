"""Train small runs on drawn digits, in this process, and read what they have written."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

import cnnlab
from cnnlab import cli

# 4 steps per epoch, the last of them on 4 images
SMALL = ("data=digits", "data.limit=100", "data.validation=50", "model=mlp", "model.hidden=[8]", "trainer.batch_size=32",
         "trainer.threads=1", "console=quiet")  # fmt: skip

QUICK = ("data=digits", "data.limit=200", "data.validation=100", "console=quiet", "trainer.epochs=2", "trainer.batch_size=32")


def train(run: Path, *overrides: str, code: int = 0) -> Path:
    """Train SMALL with `overrides` in the directory `run`, which is returned; `code`: the expected exit code."""
    assert cli.run("train", [*SMALL, *overrides, f"hydra.run.dir={run}"]) == code
    return run


def resume(run: Path, *overrides: str) -> Path:
    """Resume a stopped run and train it to its end."""
    assert cli.run("train", [f"resume={run}", *overrides]) == 0
    return run


def epoch_lines(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def result(run: Path) -> dict[str, Any]:
    """Return the content of result.json."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def checkpoint_meta(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's metadata."""
    with safe_open(checkpoint, "pt") as file:
        content: dict[str, Any] = json.loads(file.metadata()["cnnlab"])
    return content


def fitted(run: Path, *overrides: str) -> cnnlab.OpenedRun:
    """Train QUICK with `overrides` in the directory `run`, and open it."""
    return cnnlab.fit(*QUICK, *overrides, f"hydra.run.dir={run}")
