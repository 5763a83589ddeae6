"""Train what a lesson compares and keep what was measured in docs/lessons.json, one entry per recipe and seed."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnlab import train
from cnnlab.status import Status
from cnnlab.tracking.run import RunDirectory
from scripts import ledger

RUNS = Path("outputs/lessons")
LEDGER = Path("docs/lessons.json")

Probe = Callable[[RunDirectory], dict[str, float]]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a name, and settings for `python -m cnnlab.train`.

    probe: takes further measurements of the trained network, which are added to its entry in the ledger.
    pictured: the picture shows outputs of the network of seed 0, so that its run is needed, too.
    """

    name: str
    settings: tuple[str, ...]
    probe: Probe | None = None
    pictured: bool = False

    @property
    def recipe(self) -> str:
        """The hash that identifies its entries in the ledgers."""
        return ledger.recipe(*self.settings)

    def command(self, seed: int) -> str:
        """Return the command line that trains it."""
        return f"python -m cnnlab.train {shlex.join(self.settings)} seed={seed}"


def arm(
    name: str, settings: str, epochs: int = 10, limit: int | None = 10_000, probe: Probe | None = None, pictured: bool = False
) -> Arm:
    """Return an arm at the lessons' size: few epochs on `limit` images drawn by the seed, none held out, one thread."""
    few = [] if limit is None else [f"data.limit={limit}"]
    common = ["data.validation=0", *few, f"trainer.epochs={epochs}", "trainer.threads=1"]
    return Arm(name, (*settings.split(), *common), probe, pictured)


def measure(claim: str, of: Arm, seed: int) -> None:
    """Train an arm with a seed, or resume its run, and add its entry to the ledger; skip what is already there."""
    held = next((e for e in ledger.of_recipe(ledger.read(LEDGER), of.recipe) if e["seed"] == seed), None)
    name = None if of.probe is None else of.probe.__name__
    complete = held is not None and (name is None or name in held["probes"])
    run = RunDirectory(RUNS / f"{of.recipe}-{seed}")
    if not complete or (of.pictured and seed == 0):
        _train(of, seed, run)
    if complete:
        return
    probes = {} if held is None else dict(held["probes"])
    if of.probe is not None and name is not None:
        probes[name] = of.probe(run)
    entry = ledger.entry(f"{claim}: {of.name}" if held is None else held["id"], run) | {"probes": probes}
    ledger.add(LEDGER, entry)
    print(f"{claim}: {of.name}, seed {seed}: test {entry['test']:.4f}, {entry['seconds']:.0f} s", flush=True)


def _train(of: Arm, seed: int, run: RunDirectory) -> None:
    if not run.config.exists():
        train.main([*of.settings, f"seed={seed}", "console=quiet", f"hydra.run.dir={run.path}"])
    elif (result := run.read_result()) is None or result.status is not Status.FINISHED:
        train.main([f"resume={run.path}", "trust=scripts"])
