"""`python -m scripts.transfer`: compare three ways of transfer and a network from scratch, by the number of photos."""

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from cnnlab import cli, train
from cnnlab.comparison.statistics import summarize
from cnnlab.errors import ConfigError
from cnnlab.plots import require_matplotlib
from cnnlab.status import Status
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory
from scripts import ledger
from scripts.arguments import chosen

HELP = """Train what docs/TRANSFER.md compares, and write its tables and its picture.

  python -m scripts.transfer                   train what is missing, cheapest first; write tables and picture
  python -m scripts.transfer features frozen   only these of: features, frozen, fine-tune, scratch, halves
  python -m scripts.transfer --list            what has been measured and what has not
  python -m scripts.transfer --page            train nothing; only write the tables and the picture
  python -m scripts.transfer --check           exit code 2 if the page does not match the ledger

Call it in the repository's root. The ledger is docs/transfer.json: what it has for the same recipe and seed is not run again,
and a run that was stopped is resumed. Runs are kept in outputs/transfer, each on one thread. The photos are read from
$CNNLAB_DATA/cats-dogs (data/cats-dogs), CIFAR-10 from $CNNLAB_DATA. The picture needs matplotlib.
"""
LEDGER, RUNS, PAGE, PICTURE = (
    Path(place) for place in ("docs/transfer.json", "outputs/transfer", "docs/TRANSFER.md", "docs/pictures/transfer.png")
)
PHOTOS = {1000: 1, 500: 2, 100: 9, 20: 30}  # photos per class: how many times as many epochs, for about as many updates
WAYS = {  # that train on photos, and their experiments
    "features": "transfer-features",
    "frozen": "transfer-frozen",
    "fine-tune": "transfer-fine-tune",
    "scratch": "cats-dogs",
}
HALVES = "halves"  # five classes of CIFAR-10, and then the other five
HALF_WORDS = {
    "halves-first": "the first five classes, 10,000 images",
    "halves-scratch": "from scratch",
    "halves-frozen": "all convolutions taken and frozen",
    "halves-early": "all taken, the first two convolutions frozen",
    "halves-tuned": "all taken, trained at 0.3 of the rate",
}
TICKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
FIRST, OTHER = "data.classes=[0,1,2,3,4]", "data.classes=[5,6,7,8,9]"
SMALL = ("data=cifar10", "model=cifar-flatten", "optimizer=adam", "data.validation=0", "trainer.threads=1")
FEW = (OTHER, "data.limit=500", "trainer.epochs=20")


@dataclass(frozen=True)
class Arm:
    """Runs that differ only in their seed.

    name: of their entries. of: the way. settings: for `python -m cnnlab.train`. source: the arm whose run of the same seed is
    transferred; its directory is not part of the recipe.
    """

    name: str
    of: str
    settings: tuple[str, ...]
    seeds: int = 3
    source: "Arm | None" = None

    @property
    def recipe(self) -> str:
        """The hash that identifies its entries; that of a transferred network covers its settings and its source."""
        own = ledger.recipe(*self.settings)
        return (
            own if self.source is None else hashlib.blake2b(f"{own} {self.source.recipe}".encode(), digest_size=8).hexdigest()
        )

    def run(self, seed: int) -> RunDirectory:
        return RunDirectory(RUNS / f"{self.name}-{seed}")

    def command(self, seed: int) -> list[str]:
        given = list(self.settings)
        if self.source is not None:
            given = [setting for setting in given if not setting.startswith("model=")]
            given += ["model=transfer", f"model.run={self.source.run(seed).path}"]
        return [*given, f"seed={seed}", f"hydra.run.dir={self.run(seed).path}", "console=quiet"]


def photo_arm(way: str, photos: int) -> Arm:
    """Return the arm of a way with about `photos` photos per class: the seed draws twice as many of all."""
    experiment, factor = f"experiment={WAYS[way]}", PHOTOS[photos]
    cfg = ledger.configuration(experiment)
    phases = [dataclasses.asdict(phase) | {"epochs": phase.epochs * factor} for phase in cfg.phases]
    longer = [f"trainer.epochs={cfg.trainer.epochs * factor}", *([f"phases={literal(phases)}"] if phases else [])]
    settings = (experiment, "trainer.threads=1", *([f"data.limit={2 * photos}", *longer] if factor > 1 else []))
    return Arm(f"{way}-{photos}", way, settings, seeds=3 if photos in (20, 1000) else 1)


def literal(value: Any) -> str:
    """Write plain values in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    return (
        "null"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )


def arms() -> list[Arm]:
    """Return all arms, the cheapest first."""
    first = Arm("halves-first", HALVES, (*SMALL, FIRST, "data.limit=10000", "trainer.epochs=10"))
    early, frozen = (f'parameters=[{{match: "blocks.{which}*", frozen: true}}]' for which in ("[01].", ""))
    halves = [
        Arm("halves-scratch", HALVES, (*SMALL, *FEW)),
        first,
        Arm("halves-frozen", HALVES, (*SMALL, *FEW, frozen), source=first),
        Arm("halves-early", HALVES, (*SMALL, *FEW, early), source=first),
        Arm("halves-tuned", HALVES, (*SMALL, *FEW, "optimizer.lr=0.0003"), source=first),
    ]
    photos = [photo_arm(way, count) for count in sorted(PHOTOS) for way in WAYS]
    return [*(arm for arm in photos if arm.of == "features"), *halves, *(arm for arm in photos if arm.of != "features")]


def words(name: str) -> str:
    """Describe an arm for a table; any other name is returned as it is."""
    way, _, photos = name.rpartition("-")
    return HALF_WORDS.get(name) or (f"{way}, {int(photos):,} photos a class" if way in WAYS else name)


def measure(arm: Arm, seed: int) -> None:
    """Train an arm with a seed, or resume its run, and add its entry to the ledger."""
    run = arm.run(seed)
    result = run.read_result() if run.config.exists() else None
    if not run.config.exists():
        train.main(arm.command(seed))
    elif result is None or result.status is not Status.FINISHED:
        train.main([f"resume={run.path}"])
    entry = ledger.entry(arm.name, run) | {"recipe": arm.recipe}
    ledger.add(LEDGER, entry)
    print(f"{arm.name}, seed {seed}: test {entry['test']:.4f}, {entry['seconds']:.0f} s", flush=True)


def measured(arm: Arm) -> list[ledger.Entry]:
    """Return an arm's entries, by seed."""
    return ledger.of_recipe(ledger.read(LEDGER), arm.recipe)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--list", "--page", "--check"))
    if "--help" in line.options or "-h" in line.options:
        print(HELP, end="")
        return 0
    if line.overrides:
        raise ConfigError(f"{line.overrides[0]}: transfer trains what docs/TRANSFER.md compares; use train to change a setting")
    ways = chosen(line.words, [*WAYS, HALVES], "way")
    if "--check" in line.options:
        if PAGE.read_text() != page(PAGE.read_text()):
            raise ConfigError(f"{PAGE}: differs from {LEDGER}; python -m scripts.transfer --page rewrites it")
        return 0
    for arm in arms():
        held = {entry["seed"] for entry in measured(arm)}
        for seed in range(arm.seeds) if arm.of in ways else ():
            if "--list" in line.options:
                print(f"{arm.name:<15} seed {seed}  {'measured' if seed in held else 'missing'}")
            elif "--page" not in line.options and seed not in held:
                measure(arm, seed)
    if "--list" not in line.options:
        require_matplotlib("transfer")
        files.write_atomic(PAGE, page(PAGE.read_text()).encode())
        draw()
    return 0


def page(text: str) -> str:
    """Return docs/TRANSFER.md with what the ledger says between its marks."""
    for mark, table in {"photos": photo_table, "halves": half_table}.items():
        begin, end = f"<!-- {mark} -->\n", "<!-- end -->"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n".join(table()) + "\n" + rest[rest.index(end) :]
    return text


def photo_table() -> list[str]:
    heads = " | ".join(f"{photos:,}" for photos in sorted(PHOTOS))
    lines = [f"| photos a class | {heads} | training accuracy at 1,000 | seconds of training |", "|---" * 7 + "|"]
    for way, experiment in WAYS.items():
        found = {photos: measured(photo_arm(way, photos)) for photos in sorted(PHOTOS)}
        all_photos = found[1000]
        train_score = str(summarize([entry["train"] for entry in all_photos])) if all_photos else "-"
        seconds = f"{fmean(entry['seconds'] for entry in all_photos):.0f}" if all_photos else "-"
        lines.append(f"| `{experiment}` | {' | '.join(map(cell, found.values()))} | {train_score} | {seconds} |")
    return lines


def half_table() -> list[str]:
    lines = ["| on 500 images of the other five classes | test accuracy | training accuracy |", "|---|---|---|"]
    for arm in arms():
        if arm.source or arm.name == "halves-scratch":
            found = measured(arm)
            train_score = str(summarize([entry["train"] for entry in found])) if found else "-"
            lines.append(f"| {words(arm.name)} | {cell(found)} | {train_score} |")
    return lines


def cell(entries: Sequence[ledger.Entry]) -> str:
    """Return the mean and standard deviation of the test accuracies, and the number of seeds."""
    return f"{summarize([entry['test'] for entry in entries])}, n = {len(entries)}" if entries else "not measured"


def draw() -> None:
    """Draw the picture: accuracy against the number of photos, a line for each way."""
    from matplotlib import rc_context

    from scripts.lesson import drawing

    colors = (drawing.BLUE, drawing.GREEN, drawing.PURPLE, drawing.ORANGE)
    with rc_context(drawing.STYLE):
        figure, (axes,) = drawing.new_figure()
        seeds: list[int] = []
        lowest = 1.0
        for way, color in zip(WAYS, colors, strict=True):
            found = {photos: [entry["test"] for entry in measured(photo_arm(way, photos))] for photos in sorted(PHOTOS)}
            there = {photos: values for photos, values in found.items() if values}
            if there:
                drawing.curve(axes, list(there), list(there.values()), color)
                style = "o-" if len(there) > 1 else "o"
                axes.plot([], [], style, color=color, markersize=10, linewidth=3, label=f"experiment={WAYS[way]}")
                seeds += map(len, there.values())
                lowest = min(lowest, *map(min, there.values()))
        low = max((tick for tick in TICKS if tick < lowest - 0.015), default=0.1)
        axes.set(xscale="log", xlabel="training photos of each class", ylabel="test accuracy", xlim=(16, 2500))
        axes.set_yscale("logit", nonpositive="clip")  # near 1, a hundredth is a lot
        axes.set_ylim(low, 0.993)
        shown = [tick for tick in TICKS if tick >= low]
        axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
        axes.set_xticks(list(PHOTOS), [f"{photos:,}" for photos in PHOTOS])
        axes.minorticks_off()
        axes.legend(loc="center", bbox_to_anchor=(0.5, 0.36), fontsize="small")
        axes.set_title("Cats and dogs: three ways of transfer, and none", weight="bold")
        if seeds:
            drawing.save(figure, PICTURE, (min(seeds), max(seeds)))


if __name__ == "__main__":
    sys.exit(cli.run("transfer", sys.argv[1:], "scripts"))
