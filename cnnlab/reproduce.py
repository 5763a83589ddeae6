"""`python -m cnnlab.reproduce [ID ...]`: run the experiments of the course notes and keep the table of results true."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cnnlab import cli, config
from cnnlab.comparison import ledger
from cnnlab.comparison.ledger import Comparison
from cnnlab.errors import ConfigError, suggest
from cnnlab.tracking.run import RunDirectory

HELP = """Run the experiments of the course notes, and write what was measured beside what was published.

  python -m cnnlab.reproduce                      what the ledger lacks: every experiment with one seed
  python -m cnnlab.reproduce chollet-mnist --seeds 3
  python -m cnnlab.reproduce --precision bf16 conv7-fashion
  python -m cnnlab.reproduce --list               the experiments, the published scores, what is measured already
  python -m cnnlab.reproduce --check              exit code 1 if a measured mean is outside its tolerance

The ledger is docs/results.json, the table docs/RESULTS.md. A result that the ledger holds for the same recipe and seed is
not run again; a run that was stopped goes on where it was. Runs lie in outputs/reproduce.

Options:
  --seeds N           seeds 0 to N - 1 (default 1)
  --precision P       fp32 (default) or bf16
  --jobs N            runs at a time, each with its share of the cores (default 1 on a GPU, else the number of cores)
"""
RUNS = Path("outputs/reproduce")
LEDGER, TABLE = Path("docs/results.json"), Path("docs/RESULTS.md")
EXPERIMENTS = Path("configs/experiment")
REMARKS = """\
MNIST and Fashion-MNIST are the official files, bit for bit. The CIFAR-10 that was measured on is a copy of which 93 of \
60,000 images (73 for training, 20 for testing) were re-encoded and are not exact; its figures may differ in the fourth \
digit from those of the official files.

The notes print one draw of each result. `mlp-cifar-1` spreads widely over seeds: at the end of three runs 113, 100 and 114 of \
its 128 hidden units answered to none of 20,000 training images, and the run with most units alive scored highest.

Seconds are of whole runs on a machine that other work shared, the long ones most of all."""
PRECISIONS = ("fp32", "bf16")


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--list", "--check"), ("--seeds", "--precision", "--jobs"))
    if "--help" in line.options or "-h" in line.options:
        print(HELP, end="")
        return 0
    if line.changes:
        raise ConfigError(f"{line.changes[0]}: reproduce runs the recipes as they are; use train experiment=ID to change one")
    experiments = config.groups()["experiment"]
    for name in line.words:
        if name not in experiments:
            raise ConfigError(f"{name}: no such experiment.{suggest(name, experiments)} Choices: {', '.join(experiments)}.")
    if "--list" in line.options or "--check" in line.options:
        return _report(line.words or experiments, check="--check" in line.options)
    precision = line.options.get("--precision") or "fp32"
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    seeds = _count(line.options.get("--seeds"), "--seeds", 1)
    jobs = None if line.options.get("--jobs") is None else _count(line.options["--jobs"], "--jobs", 1)
    return _run_missing(line.words or experiments, precision, seeds, jobs)


def _run_missing(names: Sequence[str], precision: str, seeds: int, jobs: int | None) -> int:
    """Run what the ledger lacks, cheapest first; 0 if all succeeded. jobs: at a time; None: what suits the machine."""
    import torch

    from cnnlab.training.runtime import num_cores

    jobs = jobs or (1 if torch.cuda.is_available() else num_cores())
    held = {(entry["recipe"], entry["seed"]) for entry in ledger.read(LEDGER)}
    work = [(name, seed) for name in sorted(names, key=cost) for seed in range(seeds)]
    recipes = {name: _recipe(name, precision) for name in names}  # here, since Hydra composes in one thread alone
    missing = [(name, seed) for name, seed in work if (recipes[name], seed) not in held]
    print(f"{len(missing)} of {len(work)} runs are missing from {LEDGER}")
    share = max(1, num_cores() // jobs)
    failures = 0
    with ThreadPoolExecutor(jobs) as pool:
        for entry in pool.map(lambda job: _run(job[0], recipes[job[0]], job[1], precision, share), missing):
            if entry is None:
                failures += 1
                continue
            ledger.add(LEDGER, entry)
            print(f"{entry['id']:<20} seed {entry['seed']}  test {entry['test']:.4f}  {entry['seconds']:.0f} s", flush=True)
            write_views()
    write_views()
    return 1 if failures else 0


def _run(name: str, recipe: str, seed: int, precision: str, threads: int) -> dict[str, Any] | None:
    """Train one experiment in a process of its own; its entry for the ledger, or None when it failed."""
    run = RunDirectory(RUNS / f"{name}-{seed}-{recipe}")
    command = [sys.executable, "-m", "cnnlab.train", "console=quiet"]
    if run.config.exists():
        command.append(f"resume={run.path}")
    else:
        settings = [f"experiment={name}", f"seed={seed}", f"trainer.precision={precision}", f"trainer.threads={threads}"]
        command += [*settings, f"hydra.run.dir={run.path}"]
    # Waiting threads that spin steal the cores from the other runs.
    env = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        print(f"{name} seed {seed} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr, flush=True)
        return None
    return ledger.entry(name, run)


def cost(name: str) -> float:
    """Multiplications of an experiment's training, about: what it is sorted by."""
    from cnnlab.models import build_model
    from cnnlab.models.inspection import inspect_network

    cfg = config.typed(config.compose([f"experiment={name}"]))
    channels, height, width = cfg.data.shape
    model, _ = build_model(cfg.model, (channels, height, width), cfg.data.num_classes, 0)
    found = inspect_network(model, (channels, height, width))
    images = 50_000 * cfg.trainer.epochs
    return images * (sum(layer.multiplications for layer in found.layers) + 5e7 / cfg.trainer.batch_size)


def comparisons(names: Sequence[str]) -> list[Comparison]:
    """Published against measured, of the present recipes."""
    recipes = {(name, precision): _recipe(name, precision) for name in names for precision in PRECISIONS}
    return ledger.compare(_published(), recipes, ledger.read(LEDGER))


def write_views() -> None:
    """Write what the ledger says into docs/RESULTS.md and, in the repository, the experiments' header comments."""
    rows = comparisons(config.groups()["experiment"])
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(table(rows))
    for path in sorted(EXPERIMENTS.glob("*.yaml")):
        path.write_text(with_header(path.read_text(), [row for row in rows if row.id == path.stem]))


def with_header(text: str, rows: Sequence[Comparison]) -> str:
    """An experiment's file with the measured accuracies at the end of its header comment, in the place of earlier ones."""
    header, blank, rest = text.partition("\n\n")
    lines = [line for line in header.splitlines() if not line.startswith("# Measured")]
    for row in rows:
        spread = f" ± {row.test_std:.4f}" if row.test_std is not None else ""
        scores = f"{row.train:.4f} (training, last epoch), {row.test:.4f}{spread} (test), n = {row.n}"
        lines.append(f"# Measured accuracy, {row.precision}: {scores}; {row.device}; {row.date}.")
    return "\n".join(lines) + blank + rest


def table(rows: Sequence[Comparison]) -> str:
    """The text of docs/RESULTS.md."""
    published = _published()
    text = [
        "# Published and measured",
        "",
        "Written by `python -m cnnlab.reproduce` from `docs/results.json`; a row is `python -m cnnlab.train experiment=ID`.",
        "Accuracies are means over n seeds, ± their standard deviation. Tolerance: the measured mean may be at most "
        f"{ledger.TEST_TOLERANCE:.3f} (test) and {ledger.TRAIN_TOLERANCE:.2f} (training) below the published figure. "
        "Sources: see `configs/published.yaml`.",
        "",
        REMARKS,
        "",
        "| id | source | published train | test | measured train | test | n | difference | verdict | seconds | device |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = f" ± {row.test_std:.4f}" if row.test_std is not None else ""
        difference = f"{row.test - row.published_test:+.4f}" if row.published_test is not None else ""
        verdict = {True: "reproduced", False: "**not reached**", None: "none published"}[row.within]
        name = row.id if row.precision == "fp32" else f"{row.id} ({row.precision})"
        source = published.get(row.id, {}).get("source", "ours")
        cells = [name, source, _number(row.published_train), _number(row.published_test), f"{row.train:.4f}"]
        cells += [f"{row.test:.4f}{spread}", str(row.n), difference, verdict, f"{row.seconds:.0f}", row.device]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def _report(names: Sequence[str], check: bool) -> int:
    published, rows = _published(), {(row.id, row.precision): row for row in comparisons(names)}
    bad = 0
    for name in names:
        goal = published.get(name, {}).get("test")
        for precision in PRECISIONS:
            row = rows.get((name, precision))
            if row is None and precision != "fp32":
                continue
            measured = f"measured {row.test:.4f}, n {row.n}, {row.seconds:.0f} s" if row else "not measured yet"
            outside = row is not None and row.within is False
            bad += outside
            if not check or outside:
                note = "  outside its tolerance" if outside else ""
                print(f"{name:<20} {precision}  published {_number(goal) or '-':<7} {measured}{note}")
    if check:
        print(f"{len(rows)} results checked, {bad} outside their tolerance")
        return 1 if bad else 0
    return 0


def _published() -> dict[str, Any]:
    node: Any = OmegaConf.to_container(OmegaConf.load(config.config_dir() / "published.yaml"))
    return dict(node["results"])


def _recipe(name: str, precision: str) -> str:
    return config.recipe_hash(config.typed(config.compose([f"experiment={name}", f"trainer.precision={precision}"])))


def _count(text: str | None, option: str, default: int) -> int:
    if text is None:
        return default
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"{option} {text}: expected a number of 1 or more")
    return int(text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(cli.run("reproduce", sys.argv[1:]))
