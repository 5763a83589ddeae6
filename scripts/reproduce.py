"""`python -m scripts.reproduce [ID ...]`: run the experiments of the course notes and keep the table of results up to date."""

import io
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from cnnlab import cli, train
from cnnlab.composing.overrides import quoted
from cnnlab.errors import ConfigError
from cnnlab.machine import num_cores
from cnnlab.sweep.manifest import Manifest
from cnnlab.tracking.run import RunDirectory
from scripts import ledger
from scripts.arguments import chosen, count
from scripts.published import comparison, views
from scripts.published.views import LEDGER, PRECISIONS

HELP = """Run the experiments of the course notes, and write the measured results beside the published ones.

  python -m scripts.reproduce                      what is missing: every experiment with one seed
  python -m scripts.reproduce chollet-mnist --seeds 3
  python -m scripts.reproduce --precision bf16 conv7-fashion
  python -m scripts.reproduce --list               the experiments, published scores and what has been measured
  python -m scripts.reproduce --check              exit code 1 if a published result is not measured or is contradicted,
                                                   or a page does not match the ledger
  python -m scripts.reproduce --rerun              exit code 1 if training again does not give the ledger's results

Call it in the repository's root. The ledger is docs/results.json, the table docs/RESULTS.md. What the ledger has for
the same recipe and seed is not run again; a run that was stopped is resumed. The runs are one sweep, in outputs/reproduce.

--check fails for an accuracy that is outside its tolerance and outside the prediction interval of the seeds, corrected for
the number of figures that have one. --rerun trains one seed of the named experiments (by default, of the five cheapest). If
CPU, instruction set, torch and threads are the same, every digit must equal the ledger's; otherwise, and for entries older
than the recording of the instruction set, the result must be within the tolerance.

Options:
  --seeds N           seeds 0 to N - 1 (default 1)
  --precision P       fp32 (default) or bf16; with --list or --check: only these results
  --jobs N            runs at a time, each with its share of the cores (default: one on each GPU, else the number of cores)
"""
RUNS = Path("outputs/reproduce")
NUM_RERUN = 5  # experiments that --rerun trains again


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    line = cli.parse(arguments, ("--help", "-h", "--list", "--check", "--rerun"), ("--seeds", "--precision", "--jobs"))
    if "--help" in line.options or "-h" in line.options:
        cli.print_help(HELP)
        return 0
    if line.overrides:
        raise ConfigError(f"{line.overrides[0]}: reproduce runs the recipes as they are; use train experiment=ID to change one")
    names = chosen(line.words, views.experiments(), "experiment")
    asked = [option for option in ("--list", "--check", "--rerun") if option in line.options]
    if len(asked) > 1:
        raise ConfigError(f"{' '.join(asked)}: choose one of them")
    precision = line.options.get("--precision")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    seeds, jobs = (count(line.options.get(option), option) for option in ("--seeds", "--jobs"))
    if "--list" in line.options or "--check" in line.options:
        return _report(names, (precision,) if precision else PRECISIONS, check="--check" in line.options)
    if "--rerun" in line.options:
        return _rerun(names if line.words else sorted(names, key=cost)[:NUM_RERUN], precision or "fp32")
    return _run_missing(names, precision or "fp32", seeds or 1, jobs)


def _run_missing(names: Sequence[str], precision: str, seeds: int, jobs: int | None) -> int:
    """Train what the ledger lacks, cheapest first; return 0 if all succeeded. jobs: at a time; None: as suits the machine."""
    directory = RUNS / precision
    recipes = {name: views.recipes(name)[precision] for name in names}
    work = [(name, seed) for name in sorted(names, key=cost) for seed in range(seeds)]
    _collect(directory)  # what an earlier, killed call has finished
    views.write()  # fails before hours of training if it cannot be written
    held = {(entry["recipe"], entry["seed"]) for entry in ledger.read(LEDGER)}
    missing = [(name, seed) for name, seed in work if (recipes[name], seed) not in held]
    again = "" if missing else f"; to measure one again, remove its entry, and its run in {directory}"
    print(f"{len(missing)} of {len(work)} runs are missing from {LEDGER}{again}", flush=True)
    try:
        return _sweep(missing, precision, directory, jobs) if missing else 0
    finally:
        _collect(directory)


def _rerun(names: Sequence[str], precision: str) -> int:
    """Train the first measured seed of each experiment again, with as many threads, and compare; return 0 if all agree."""
    bad = 0
    for name in names:
        entries = ledger.of_recipe(ledger.read(LEDGER), views.recipes(name)[precision])
        if not entries:
            raise ConfigError(f"{name}: {LEDGER} holds no {precision} result of its current recipe; measure it without --rerun")
        held = entries[0]
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(folder, "run"))
            line = [f"experiment={name}", f"seed={held['seed']}", f"trainer.precision={precision}", "console=quiet"]
            with redirect_stdout(io.StringIO()):  # the temporary run's own line
                train.main([*line, f"trainer.threads={held['threads']}", f"hydra.run.dir={quoted(run.path)}"])
            new = ledger.entry(name, run)
            if (held["seed"], held["precision"]) == (0, "fp32"):
                views.keep_curve(name, run)
        same, words = comparison.agreement(held, new)
        bad += not same
        print(f"{name}  seed {held['seed']}  training {new['train']:.4f}, test {new['test']:.4f}  {words}", flush=True)
    return 1 if bad else 0


def _sweep(missing: Sequence[tuple[str, int]], precision: str, directory: Path, jobs: int | None) -> int:
    """Train experiments with their seeds as the jobs of one sweep; return the exit code."""
    import torch  # not at the top: --list and --check do not need it

    names, seeds = zip(*missing, strict=True)
    line = [f"experiment={','.join(names)}", f"seed={','.join(map(str, seeds))}", f"trainer.precision={precision}"]
    line += [f"hydra.sweep.dir={directory}", f"hydra.launcher.jobs={jobs or 'null'}"]
    if len(missing) > 1:
        line.append("sweep.zip=[experiment,seed]")
    if not torch.cuda.is_available():
        line.append(f"trainer.threads={max(1, num_cores() // min(jobs or num_cores(), len(missing)))}")
    return train.main(["-m", *line])


def _collect(directory: Path) -> None:
    """Add a sweep's finished runs to the ledger, if it lacks them, and update its views."""
    collected = False
    held = {(entry["recipe"], entry["seed"]) for entry in ledger.read(LEDGER)}
    for job in Manifest(directory).jobs():
        run = RunDirectory(directory / job.directory)
        name = run.recorded("choices").get("experiment")
        if name is not None and job.status.is_scored and job.key not in held and run.result.exists():
            entry = ledger.entry(name, run)
            ledger.add(LEDGER, entry)
            collected = True
            if (entry["seed"], entry["precision"]) == (0, "fp32"):
                views.keep_curve(entry["id"], run)
    if collected:
        views.write()


def cost(name: str) -> float:
    """Estimate the multiplications of an experiment's training, for sorting."""
    from cnnlab.data import describe
    from cnnlab.models import build_model
    from cnnlab.models.inspection import inspect_network

    cfg = ledger.configuration(f"experiment={name}")
    input_shape, numbers = describe(cfg.data)
    model, _ = build_model(cfg.model, input_shape, len(numbers), 0)
    found = inspect_network(model, input_shape)
    images = 50_000 * cfg.trainer.epochs
    return images * (sum(layer.multiplications for layer in found.layers) + 5e7 / cfg.trainer.batch_size)


def _report(names: Sequence[str], precisions: Sequence[str], check: bool) -> int:
    """Print what is measured, or only what is wrong, and return the exit code; first collect what a sweep has finished."""
    for measured_in in PRECISIONS:
        _collect(RUNS / measured_in)
    if check and not LEDGER.exists():
        raise ConfigError(f"{LEDGER}: no such file; --check reads the repository's ledger, so run it in the repository's root")
    goals = comparison.read_published("results")
    rows = {(row.id, row.precision): row for row in views.comparisons(names) if row.precision in precisions}
    num_intervals = comparison.num_intervals(list(rows.values()))
    failing = {key for key, row in rows.items() if row.fails(num_intervals)}
    missing = [name for name in names if not any((name, precision) in rows for precision in precisions)]
    width = max(map(len, names))
    for name in names:
        goal = goals.get(name, {}).get("test")
        for precision in precisions:
            row = rows.get((name, precision))
            if row is None and (name not in missing or precision != precisions[0]):
                continue  # measured in the other precision
            amiss = goal is not None if row is None else (name, precision) in failing
            if check and not amiss:
                continue
            measured = f"measured {row.test}, n {row.n}, {row.seconds:.0f} s" if row else "not measured yet"
            note = f"  {row.verdict}" if row and row.figures else ""
            print(f"{name:<{width}}  {precision}  published {f'{goal:.4f}' if goal else '-':<7} {measured}{note}")
    lacking = any(goals.get(name, {}).get("test") is not None for name in missing)
    stale = views.stale() if check else {}
    for path in stale:
        print(f"{path}: differs from {LEDGER}; python -m scripts.reproduce rewrites it")
    if check:
        print(f"{len(rows)} results checked, {len(failing)} contradicted; {len(missing)} experiments not measured")
    elif not LEDGER.exists():
        print(f"{LEDGER} is not here; the one in the repository's root holds what was measured")
    return 1 if check and (failing or lacking or stale) else 0


if __name__ == "__main__":
    sys.exit(cli.run("reproduce", sys.argv[1:], "scripts"))
