#!/usr/bin/env python3
"""Check that two checkouts of cnnlab train to the same bits: every network, optimizer and augmentation, on drawn digits.

    python scripts/same_bits.py ../before .

Each checkout trains the same small sweeps with its own code, one thread per job; weights, buffers, predictions and metrics,
except times, are compared bit for bit. Prints a line for each job and exits with 1 if one differs.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

SMALL = ["data=digits", "data.limit=300", "data.validation=100", "trainer.batch_size=64", "console=quiet"]
SWEEPS = {
    "networks": ["model=allconv,chollet,conv7,functional,lenet,maxpool,mlp,strided,strided-same", "trainer.steps=6"],
    "optimizers": ["optimizer=sgd,adam,adamw,rmsprop", "model=mlp,lenet", "schedule=cosine", "trainer.epochs=3"],
    "regularized": ["model.dropout=0.2", "model.batch_norm=true,false", "augment=[flip,crop,rotation,zoom,cutout]",
                    "data.normalize=true", "trainer.clip_norm=1.0", "trainer.epochs=3", "trainer.precision=fp32,bf16"],
    "tasks": ["task=binary", "data.classes=[3,5]", "model=lenet,mlp", "evaluation.weights=best", "trainer.epochs=3"],
    "regression": ["task=regression", "model=lenet,mlp", "trainer.epochs=3"],
}  # fmt: skip
CLOCKS = ("train_s", "images_per_s")


def train(checkout: Path, target: Path) -> None:
    """Run all sweeps with the code of `checkout`, into folders of `target`."""
    for name, settings in SWEEPS.items():
        line = [sys.executable, "-m", "cnnlab.train", "-m", *SMALL, *settings, f"hydra.sweep.dir={target / name}"]
        subprocess.run(
            line, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True, stdout=subprocess.DEVNULL
        )


def difference(one: Path, other: Path) -> str:
    """Return the first difference between two run directories, "" if there is none."""
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    for first, second in zip(*lines, strict=True):
        for key in first.keys() - CLOCKS:
            if first[key] != second.get(key):
                return f"{key} of epoch {first['epoch']}: {first[key]} and {second.get(key)}"
    for name in ("last", "best", "predictions"):
        tensors = [
            {key: value for key, value in load_file(run / f"{name}.safetensors").items() if not key.startswith("optimizer.")}
            for run in (one, other)
        ]
        for key in tensors[0].keys() | tensors[1].keys():
            first, second = (held.get(key) for held in tensors)
            if first is None or second is None or not torch.equal(first, second):
                return f"{name}.safetensors: {key}"
    return ""


def main() -> int:
    checkouts = [Path(argument).resolve() for argument in sys.argv[1:]]
    if len(checkouts) != 2:
        sys.exit(__doc__)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        targets = [Path(folder, name) for name in ("one", "other")]
        for checkout, target in zip(checkouts, targets, strict=True):
            train(checkout, target)
        for run in sorted(path.parent.relative_to(targets[0]) for path in targets[0].glob("*/*/result.json")):
            found = difference(*(target / run for target in targets))
            bad += bool(found)
            print(f"{run}  {found or 'the same bits'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
