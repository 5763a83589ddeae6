"""`python -m cnnlab.reproduce [ID ...]`: run the experiments of the course notes and keep the table of results true."""

import io
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from cnnlab import cli, composing, config, overrides, train
from cnnlab.comparison import ledger, published
from cnnlab.comparison.ledger import Comparison
from cnnlab.errors import ConfigError, suggest
from cnnlab.machine import num_cores
from cnnlab.sweep.manifest import Manifest
from cnnlab.tracking import files
from cnnlab.tracking.run import RunDirectory

HELP = """Run the experiments of the course notes, and write what was measured beside what was published.

  python -m cnnlab.reproduce                      what the ledger lacks: every experiment with one seed
  python -m cnnlab.reproduce chollet-mnist --seeds 3
  python -m cnnlab.reproduce --precision bf16 conv7-fashion
  python -m cnnlab.reproduce --list               the experiments, the published scores, what is measured already
  python -m cnnlab.reproduce --check              exit code 1 if a published result is not measured, or contradicted
  python -m cnnlab.reproduce --rerun              exit code 1 if training again does not give what the ledger holds

The ledger is docs/results.json, the table docs/RESULTS.md. A result that the ledger holds for the same recipe and seed is
not run again; a run that was stopped goes on where it was. The runs are one sweep, in outputs/reproduce.

--check fails for an accuracy that is outside its tolerance and outside the prediction interval of the seeds, corrected for
the number of figures that have one. --rerun trains one seed of the named experiments (without names: of the five cheapest) and
expects every digit of the ledger where CPU, instruction set, torch and threads are the same, else the tolerance; an entry
of before the instruction set was recorded is held to the tolerance alone.

Options:
  --seeds N           seeds 0 to N - 1 (default 1)
  --precision P       fp32 (default) or bf16; with --list or --check only these results
  --jobs N            runs at a time, each with its share of the cores (default one on each GPU, else the number of cores)
"""
RUNS = Path("outputs/reproduce")
LEDGER, TABLE = Path("docs/results.json"), Path("docs/RESULTS.md")
CURVES = Path("docs/curves.json")  # id: (training loss, accuracy) of each epoch of seed 0, where the notes print theirs
README, EXPERIMENTS = Path("README.md"), Path("configs/experiment")
PRECISIONS = ("fp32", "bf16")
NUM_RERUN = 5  # experiments that --rerun trains again


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--list", "--check", "--rerun"), ("--seeds", "--precision", "--jobs"))
    if "--help" in line.options or "-h" in line.options:
        print(HELP, end="")
        return 0
    if line.changes:
        raise ConfigError(f"{line.changes[0]}: reproduce runs the recipes as they are; use train experiment=ID to change one")
    experiments = composing.groups()["experiment"]
    names = list(dict.fromkeys(line.words)) or experiments
    for name in names:
        if name not in experiments:
            raise ConfigError(f"{name}: no such experiment.{suggest(name, experiments)} Choices: {', '.join(experiments)}.")
    asked = [option for option in ("--list", "--check", "--rerun") if option in line.options]
    if len(asked) > 1:
        raise ConfigError(f"{' '.join(asked)}: expected one of them")
    precision = line.options.get("--precision")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    seeds, jobs = (_count(line.options.get(option), option) for option in ("--seeds", "--jobs"))
    if "--list" in line.options or "--check" in line.options:
        return _report(names, (precision,) if precision else PRECISIONS, check="--check" in line.options)
    if "--rerun" in line.options:
        return _rerun(names if line.words else sorted(names, key=cost)[:NUM_RERUN], precision or "fp32")
    return _run_missing(names, precision or "fp32", seeds or 1, jobs)


def _run_missing(names: Sequence[str], precision: str, seeds: int, jobs: int | None) -> int:
    """Run what the ledger lacks, cheapest first; 0 if all succeeded. jobs: at a time; None: what suits the machine."""
    directory = RUNS / precision
    recipes = {name: _recipe(name, precision) for name in names}
    work = [(name, seed) for name in sorted(names, key=cost) for seed in range(seeds)]
    _collect(directory)  # what an earlier call that was killed has finished
    write_views()  # where it cannot be written, that is told before hours of training
    held = {(entry["recipe"], entry["seed"]) for entry in ledger.read(LEDGER)}
    missing = [(name, seed) for name, seed in work if (recipes[name], seed) not in held]
    again = "" if missing else f"; to measure one again, remove its entry, and its run in {directory}"
    print(f"{len(missing)} of {len(work)} runs are missing from {LEDGER}{again}", flush=True)
    try:
        return _sweep(missing, precision, directory, jobs) if missing else 0
    finally:
        if _collect(directory):
            write_views()


def _rerun(names: Sequence[str], precision: str) -> int:
    """Train the first measured seed of each experiment again, with as many threads, and compare; 0 if all are the same."""
    bad = 0
    for name in names:
        wanted = _recipe(name, precision)
        held = min((old for old in ledger.read(LEDGER) if old["recipe"] == wanted), key=lambda old: old["seed"], default=None)
        if held is None:
            raise ConfigError(f"{name}: {LEDGER} holds no {precision} result of its present recipe; measure it without --rerun")
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(folder, "run"))
            line = [f"experiment={name}", f"seed={held['seed']}", f"trainer.precision={precision}", "console=quiet"]
            with redirect_stdout(io.StringIO()):  # the temporary run's own line
                train.main([*line, f"trainer.threads={held['threads']}", f"hydra.run.dir={overrides.quoted(run.path)}"])
            new = ledger.entry(name, run)
        same, words = ledger.agreement(held, new)
        bad += not same
        print(f"{name}  seed {held['seed']}  training {new['train']:.4f}, test {new['test']:.4f}  {words}", flush=True)
    return 1 if bad else 0


def _sweep(missing: Sequence[tuple[str, int]], precision: str, directory: Path, jobs: int | None) -> int:
    """Train experiments with their seeds as the jobs of one sweep; the exit code."""
    import torch

    names, seeds = zip(*missing, strict=True)
    line = [f"experiment={','.join(names)}", f"seed={','.join(map(str, seeds))}", f"trainer.precision={precision}"]
    line += [f"hydra.sweep.dir={directory}", f"hydra.launcher.jobs={jobs or 'null'}"]
    if len(missing) > 1:
        line.append("sweep.zip=[experiment,seed]")
    if not torch.cuda.is_available():
        line.append(f"trainer.threads={max(1, num_cores() // min(jobs or num_cores(), len(missing)))}")
    return train.main(["-m", *line])


def _collect(directory: Path) -> int:
    """Put the finished runs of a sweep into the ledger, where it lacks them; their number."""
    count = 0
    held = {(entry["recipe"], entry["seed"]) for entry in ledger.read(LEDGER)}
    for job in Manifest(directory).jobs():
        run = RunDirectory(directory / job.directory)
        name = run.recorded("choices").get("experiment")
        if name is not None and job.status.is_scored and job.key not in held and run.result.exists():
            entry = ledger.entry(name, run)
            ledger.add(LEDGER, entry)
            count += 1
            if entry["id"] in published.read("curves") and (entry["seed"], entry["precision"]) == (0, "fp32"):
                scores = [epoch.scores["train"] for epoch in run.read_epochs()]
                curve = [[round(score.loss, 4), round(score.metric, 4)] for score in scores]
                files.write_atomic(CURVES, (json.dumps(measured_curves() | {entry["id"]: curve}) + "\n").encode())
    return count


def measured_curves() -> dict[str, list[list[float]]]:
    """The content of docs/curves.json; empty where there is none."""
    return dict(json.loads(CURVES.read_text())) if CURVES.exists() else {}


def cost(name: str) -> float:
    """Multiplications of an experiment's training, about: what it is sorted by."""
    from cnnlab.models import build_model
    from cnnlab.models.inspection import inspect_network

    cfg = composing.typed(composing.compose([f"experiment={name}"]))
    channels, height, width = cfg.data.shape
    model, _ = build_model(cfg.model, (channels, height, width), cfg.data.num_classes, 0)
    found = inspect_network(model, (channels, height, width))
    images = 50_000 * cfg.trainer.epochs
    return images * (sum(layer.multiplications for layer in found.layers) + 5e7 / cfg.trainer.batch_size)


def comparisons(names: Sequence[str]) -> list[Comparison]:
    """Published against measured, of the present recipes."""
    recipes = {(name, precision): _recipe(name, precision) for name in names for precision in PRECISIONS}
    return ledger.compare(published.read("results"), recipes, ledger.read(LEDGER))


def write_views() -> None:
    """Write what the ledger says into docs/RESULTS.md and, in the repository, README and the experiments' header comments."""
    rows = comparisons(composing.groups()["experiment"])
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    texts = {TABLE: published.page(rows, measured_curves())}
    if README.exists():
        texts[README] = published.with_table(README.read_text(), rows)
    for path in sorted(EXPERIMENTS.glob("*.yaml")):
        texts[path] = published.with_header(path.read_text(), [row for row in rows if row.id == path.stem])
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            files.write_atomic(path, text.encode())


def _report(names: Sequence[str], precisions: Sequence[str], check: bool) -> int:
    """Print what is measured, or only what is amiss; the exit code. What a sweep has finished so far is collected first."""
    if sum([_collect(RUNS / precision) for precision in PRECISIONS]):
        write_views()
    if check and not LEDGER.exists():
        raise ConfigError(f"{LEDGER}: no such file; --check reads the repository's ledger, so call it in the repository's root")
    goals = published.read("results")
    rows = {(row.id, row.precision): row for row in comparisons(names) if row.precision in precisions}
    num_intervals = ledger.num_intervals(list(rows.values()))
    failing = {key for key, row in rows.items() if row.fails(num_intervals)}
    missing = [name for name in names if (name, precisions[0]) not in rows]
    width = max(map(len, names))
    for name in sorted(names, key=cost):
        goal = goals.get(name, {}).get("test")
        for precision in precisions:
            row = rows.get((name, precision))
            if row is None and precision != precisions[0]:
                continue  # the second precision is shown where it is measured
            amiss = goal is not None if row is None else (name, precision) in failing
            if check and not amiss:
                continue
            measured = f"measured {row.test}, n {row.n}, {row.seconds:.0f} s" if row else "not measured yet"
            note = f"  {row.verdict}" if row and row.figures else ""
            print(f"{name:<{width}}  {precision}  published {f'{goal:.4f}' if goal else '-':<7} {measured}{note}")
    lacking = any(goals.get(name, {}).get("test") is not None for name in missing)
    if check:
        print(f"{len(rows)} results checked, {len(failing)} contradicted; {len(missing)} experiments not measured")
    elif not LEDGER.exists():
        print(f"{LEDGER} is not here; in the repository's root it holds what was measured")
    return 1 if check and (failing or lacking) else 0


def _recipe(name: str, precision: str) -> str:
    return config.recipe_hash(composing.typed(composing.compose([f"experiment={name}", f"trainer.precision={precision}"])))


def _count(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise ConfigError(f"{option} {text}: expected a number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(cli.run("reproduce", sys.argv[1:]))
