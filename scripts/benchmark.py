#!/usr/bin/env python3
"""Measure cnnlab's epochs against Keras, Lightning and a plain DataLoader loop: same network, data, batch size, optimizer.

    python -m venv peers && peers/bin/pip install keras tensorflow lightning torch torchvision
    python scripts/benchmark.py --peers peers/bin/python --root data --rounds 3 > docs/BENCHMARKS.md

Every round runs each contestant once, in turn, so that a noisy machine is noisy for all. The first epoch of a run is left
out (compilation, cold caches); what counts is the median of the others, and of the ratios only those within one round.
Prints a Markdown table; progress goes to stderr.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from cnnlab.training.runtime import describe

HERE = Path(__file__).resolve().parent
WORK = {"lenet": ("fashion", 64), "chollet": ("mnist", 64), "mlp": ("fashion", 1024)}
PEERS = {"Keras on TensorFlow": ("keras", "tensorflow"), "torch, DataLoader": ("torch", ""), "Lightning": ("lightning", "")}


def cnnlab_epochs(net: str, data: str, batch: int, root: Path, epochs: int) -> list[float]:
    """Return train_s of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"model={net}", f"data={data}", f"data.root={root}", f"trainer.batch_size={batch}", "data.validation=0"]
        settings += [f"trainer.epochs={epochs}", f"hydra.run.dir={folder}/run", "console=quiet"]
        subprocess.run([sys.executable, "-m", "cnnlab.train", *settings], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line)["train_s"] for line in Path(folder, "run/metrics.jsonl").read_text().splitlines()]


def peer_epochs(python: str, peer: str, backend: str, net: str, data: str, batch: int, root: Path, epochs: int) -> list[float]:
    """Return the seconds of each epoch as peer.py measures them."""
    command = [python, str(HERE / "peer.py"), peer, "--net", net, "--data", data, "--root", str(root)]
    command += ["--epochs", str(epochs), "--batch-size", str(batch)]
    env = os.environ | {"KERAS_BACKEND": backend or "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return list(json.loads(done.stdout.splitlines()[-1])["epoch_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="the Python that has the peers' packages")
    parser.add_argument("--root", type=Path, required=True, help="the data directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each run; the first is not counted")
    parser.add_argument("--only", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--networks", nargs="*", default=list(WORK), choices=list(WORK))
    arguments = parser.parse_args()

    import torch

    print("# Seconds an epoch\n")
    print(
        f"`python scripts/benchmark.py` on {describe(torch.device('cpu'))['device']}, {torch.get_num_threads()} cores, "
        f"torch {torch.__version__}, Python {platform.python_version()}: {arguments.rounds} rounds of {arguments.epochs} "
        "epochs, float32, Adam. In parentheses: cnnlab's time divided by the peer's, as the median over rounds.\n"
    )
    print("| network, batch | cnnlab | " + " | ".join(arguments.only) + " |")
    print("|---" * (2 + len(arguments.only)) + "|", flush=True)
    for net in arguments.networks:
        data, batch = WORK[net]
        own: list[float] = []
        theirs: dict[str, list[float]] = {name: [] for name in arguments.only}
        for _ in range(arguments.rounds):
            own.append(median(cnnlab_epochs(net, data, batch, arguments.root, arguments.epochs)[1:]))
            for name, seconds in theirs.items():
                found = peer_epochs(arguments.peers, *PEERS[name], net, data, batch, arguments.root, arguments.epochs)
                seconds.append(median(found[1:]))
            print(net, own, theirs, file=sys.stderr)
        cells = [
            f"{median(seconds):.2f} ({median(a / b for a, b in zip(own, seconds, strict=True)):.2f})"
            for seconds in theirs.values()
        ]
        print(f"| {net} on {data}, {batch} | {median(own):.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
