"""A search: its space, its median rule, and real studies of real runs."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_same_run
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from cnnlab import cli, composing, config
from cnnlab.errors import ConfigError
from cnnlab.status import Status
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.sweep.pruning import watch, worse_than_median
from cnnlab.sweep.space import Space, parse
from cnnlab.tracking import files
from cnnlab.tracking.records import Epoch, Score
from cnnlab.tracking.run import RunDirectory

optuna = pytest.importorskip("optuna", reason="needs the extra cnnlab[optuna]")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

SWEEPS = Path("outputs/sweeps")
QUICK = ("data=mnist", "data.validation=100", "model=mlp", "trainer.steps=3", "console=plain")  # of random pixels
SPACE = ("optimizer.lr=tag(log,interval(1e-4,1e-1))", "trainer.batch_size=32,64")
Call = Callable[..., tuple[int, str, str]]


def space(*changes: str) -> Space:
    return parse(OverridesParser.create().parse_overrides(list(changes)))


def study(name: str = "search") -> Any:
    storage = JournalStorage(JournalFileBackend(str(SWEEPS / name / "study.journal")))
    return optuna.load_study(study_name="search", storage=storage)


def search(call: Call, *settings: str, trials: int, name: str = "search", sampler: str = "random") -> tuple[int, str, str]:
    options = ("hydra/sweeper=optuna", "hydra/launcher=basic", f"hydra.sweeper.sampler={sampler}")
    return call("train", "-m", *options, *settings, f"hydra.sweeper.trials={trials}", f"sweep.name={name}")


def result(name: str, run: str) -> dict[str, Any]:
    return json.loads((SWEEPS / name / run / "result.json").read_text())


@pytest.fixture
def here(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNLAB_DATA", str(data_root))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which a command sets
    return tmp_path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("interval(0,0.5)", FloatDistribution(0, 0.5)),
        ("interval(1,8)", FloatDistribution(1, 8)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("tag(log,int(interval(16,512)))", IntDistribution(16, 512, log=True)),
        ("range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("range(5)", IntDistribution(0, 4)),
        ("range(9,1,-4)", IntDistribution(5, 9, step=4)),
        ("range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("adam,sgd", CategoricalDistribution(["adam", "sgd"])),
        ("choice(32,64,32)", CategoricalDistribution(["32", "64"])),
        ("[10],[20,30]", CategoricalDistribution(["[10]", "[20,30]"])),
    ],
)
def test_ranges_in_hydras_syntax(value: str, expected: object) -> None:
    assert space(f"++model.x={value}").distributions == {"model.x": expected}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("model=mlp",), "nothing to search"),
        (("model=mlp", "seed=0,1"), "nothing to search"),
        (("a=tag(log,choice(1,2))",), "no tag but log, and that of an interval"),
        (("a=tag(log,range(1,9))",), "no tag but log, and that of an interval"),
        (("a=tag(lin,interval(1,9))",), "no tag but log"),
        (("a=tag(log,interval(0,9))",), "above 0"),
        (("a=interval(9,1)",), "from a smaller to a larger"),
        (("a=interval(0,inf)",), "from a smaller to a larger"),
        (("a=range(5,1)",), "an empty range"),
        (("seed=interval(0,5)", "a=1,2"), "list them"),
        (("trainer.batch_size=interval(16,64)",), "write int(interval(16,64))"),
    ],
)
def test_what_cannot_be_searched_is_told(changes: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError) as told:
        space(*changes)
    assert says in str(told.value)


def test_a_trial_runs_with_each_seed() -> None:
    wanted = space("model=mlp", "++optimizer.lr=interval(0,1)", "seed=3,4", "trainer.epochs=1", "trainer.epochs=2")
    assert wanted.jobs({"optimizer.lr": 0.25}) == [
        ["model=mlp", "trainer.epochs=2", "++optimizer.lr=0.25", "seed=3"],
        ["model=mlp", "trainer.epochs=2", "++optimizer.lr=0.25", "seed=4"],
    ]


def test_the_median_rule_by_hand() -> None:
    others = [[0.1, 0.5], [0.3, 0.7], [0.5, 0.6]]  # medians 0.3 and 0.6
    assert worse_than_median([0.2], others, True) == 0.3
    assert worse_than_median([0.3], others, True) is None
    assert worse_than_median([0.4, 0.55], others, True) == 0.6
    assert worse_than_median([0.65, 0.55], others, True) is None  # its best counts
    assert worse_than_median([0.5], others, False) == 0.3
    assert worse_than_median([0.1, 0.1, 0.1], others, True) is None  # none came so far
    assert worse_than_median([None], others, True) == 0.3
    assert worse_than_median([0.2], [[None], [0.1]], True) is None


CURVE = st.lists(st.one_of(st.none(), st.integers(0, 8).map(lambda eighths: eighths / 8)), min_size=1, max_size=4)


@given(own=CURVE, others=st.lists(CURVE, max_size=5), higher=st.booleans())
def test_the_median_rule_is_that_of_optuna(own: list[float | None], others: list[list[float | None]], higher: bool) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(direction="maximize" if higher else "minimize")

    def trial(curve: Sequence[float | None], state: TrialState, value: float | None) -> Any:
        scores = {epoch: float("nan") if score is None else score for epoch, score in enumerate(curve, 1)}
        return create_trial(value=value, state=state, intermediate_values=scores)

    made.add_trials([trial(curve, TrialState.COMPLETE, 0.0) for curve in others])
    with warnings.catch_warnings(action="ignore"):  # of numpy, about nothing but nan
        oracle = optuna.pruners.MedianPruner(n_startup_trials=0).prune(made, trial(own, TrialState.RUNNING, None))
    reached = [curve[len(own) - 1] for curve in others if len(curve) >= len(own)]
    if any(score is not None for score in reached):  # else Optuna prunes a curve of nan, and we have nothing to go by
        assert (worse_than_median(own, others, higher) is not None) == oracle


def test_a_job_reads_the_rule_from_its_siblings(tmp_path: Path) -> None:
    cfg = composing.typed(composing.compose(["data=digits", "seed=1"]))
    manifest = Manifest(tmp_path)
    curves = {"a": [0.5, 0.6], "b": [0.7, 0.8], "other-seed": [0.9, 0.9], "pruned": [0.9, 0.9], "own": []}
    statuses = {"own": Status.RUNNING, "pruned": Status.PRUNED}
    seeds = {"other-seed": 0}
    manifest.add([Job(name, [], name, seeds.get(name, 1), statuses.get(name, Status.FINISHED)) for name in curves])

    def line(score: float) -> dict[str, Any]:
        scores = {"validation": Score(9.0, score), "test": Score(1.0, 1.0)}
        return Epoch(1, 1, 0.1, "accuracy", scores, 1.0, 1.0).line()

    for name, scores in curves.items():
        (tmp_path / name).mkdir()
        files.write_json_lines(tmp_path / name / "metrics.jsonl", [line(score) for score in scores])
    settings = {"prune": True, "prune_after_trials": 2, "prune_after_epochs": 1}
    asks = watch(manifest, "own", cfg, settings)
    assert asks is not None
    own = tmp_path / "own" / "metrics.jsonl"
    files.append_json_line(own, line(0.1))
    assert asks() is None  # warm-up
    files.append_json_line(own, line(0.65))
    assert asks() == "after epoch 2, worse than the median 0.7000 of 2 finished trials"
    too_few = watch(manifest, "own", cfg, settings | {"prune_after_trials": 3})
    assert too_few is not None
    assert too_few() is None
    assert watch(manifest, "own", cfg, {"zip": []}) is None  # a grid


def test_a_pruned_run_is_a_clean_one_and_can_be_continued(here: Path) -> None:
    from cnnlab.training.experiment import run_new, run_resumed

    cfg = composing.typed(composing.compose([*QUICK, "trainer.steps=null", "trainer.epochs=3", "trainer.threads=1"]))
    run = RunDirectory(here / "pruned")
    run.path.mkdir()
    pruned = run_new(cfg, run.path, {}, lambda: "hopeless" if len(run.read_epochs()) == 2 else None)
    assert (pruned.status, pruned.cause, pruned.epochs) == (Status.PRUNED, "hopeless", 2)
    assert pruned.scores == {"validation": run.read_epochs()[-1].scores["validation"]}
    assert run.read_result() == pruned
    run_resumed(config.read(run.config), run)
    (here / "whole").mkdir()
    run_new(config.read(run.config), here / "whole", {})
    assert_same_run(run.path, here / "whole")


@pytest.mark.usefixtures("here")
def test_a_study_is_told_validation_scores_only_and_goes_on_as_if_never_stopped(call: Call) -> None:
    settings = (*QUICK, *SPACE, "evaluation.split=test")
    code, out, err = search(call, *settings, trials=2)
    assert (code, err) == (0, "")
    assert "best          validation accuracy" in out
    first = (SWEEPS / "search/trial000/result.json").stat().st_mtime_ns
    trial = study().ask(space(*SPACE).distributions)  # as a sweep that is killed leaves one
    journal = SWEEPS / "search/study.journal"
    with journal.open("a") as file:
        file.write('{"op_code": 5, "wor')  # and its last line
    journal.with_name("study.journal.lock").symlink_to(journal.name)
    code, out, err = search(call, *settings, trials=4)
    assert (code, err) == (0, "")
    assert "trials: 2 finished, 1 to go on with, 1 to come" in out
    assert (SWEEPS / "search/trial000/result.json").stat().st_mtime_ns == first
    assert study().trials[2].params == trial.params

    search(call, *settings, trials=4, name="whole")
    for at in (0, 1, 3):
        assert study().trials[at].params == study("whole").trials[at].params
        assert study().trials[at].value == study("whole").trials[at].value
    assert len({str(trial.params) for trial in study().trials}) == 4  # a seed's draws do not begin anew
    for trial in study().trials:
        scores = result("search", f"trial{trial.number:03}")
        assert trial.state == TrialState.COMPLETE
        assert trial.value == scores["validation"]["accuracy"]
        assert trial.intermediate_values == {1: trial.value}
    tests = [result("search", f"trial{number:03}")["test"]["accuracy"] for number in range(4)]
    assert tests != [trial.value for trial in study().trials]
    assert "test" not in journal.read_text()

    manifest = (SWEEPS / "search/manifest.json").read_text()
    code, out, _ = search(call, *settings, trials=4)
    assert (code, (SWEEPS / "search/manifest.json").read_text()) == (0, manifest)
    assert "4 of 4 jobs finished" in out
    code, _, err = search(call, *settings, "trainer.batch_size=32,128", trials=4)
    assert (code, err.count("\n")) == (2, 1)
    assert "searched with other values of: trainer.batch_size; choose another sweep.name" in err
    code, _, err = search(call, *settings, "trainer.steps=4", trials=4)
    assert "other values of: the settings" in err


@pytest.mark.usefixtures("here")
def test_a_trial_is_worth_the_mean_of_its_seeds_and_less_error_is_better(call: Call) -> None:
    code, out, _ = search(call, *QUICK, *SPACE, "task=regression", "seed=0,1", trials=2, sampler="tpe")
    assert code == 0
    assert study().direction.name == "MINIMIZE"
    for trial in study().trials:
        runs = [f"trial{trial.number:03}-seed{seed}" for seed in (0, 1)]
        assert trial.user_attrs["runs"] == runs
        assert trial.value == pytest.approx(sum(result("search", run)["validation"]["mae"] for run in runs) / 2)
    assert f"validation mae {min(trial.value for trial in study().trials):.4f}" in out


@pytest.mark.usefixtures("here")
def test_failed_trials_are_replaced_and_diverged_ones_are_learnt_from(call: Call) -> None:
    settings = [change for change in QUICK if not change.startswith("model")]
    settings += ["optimizer=sgd", "model=mlp,cats-dogs", "optimizer.lr=0.1,1e38"]
    wanted = {("mlp", "0.1"): "COMPLETE", ("mlp", "1e+38"): "PRUNED"}

    code, _, err = search(call, *settings, trials=6)
    told = [(wanted.get((t.params["model"], t.params["optimizer.lr"]), "FAIL"), t.state.name) for t in study().trials]
    assert all(expected == state for expected, state in told)
    assert {state for _, state in told} == {"COMPLETE", "PRUNED", "FAIL"}
    assert code == 2
    assert "jobs are not done" in err
    diverged = [job for job in Manifest(SWEEPS / "search").jobs() if job.exit_code == 3]
    assert len({job.key for job in diverged}) == len(diverged)
    failed = sum(state == "FAIL" for _, state in told)
    search(call, *settings, trials=6)
    assert len(study().trials) == 6 + failed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("data.validation=0",), "a search chooses by validation scores"),
        (("data.validation=0,200",), "a search chooses by validation scores"),
        (("task=multiclass,regression",), "a search compares one score"),
        (("sweep.zip=[seed,model]",), "belongs to a grid"),
        (("hydra.sweeper.trials=0",), "expected a number of 1 or more"),
        (("hydra.sweeper.sampler=grid",), "expected tpe or random"),
        (("trainer.epochs=int(interval(0,3))",), "expected 1 or more"),
        (("optimizer.lr=0.1",), "nothing to search"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_search_that_cannot_be_is_told_in_one_line_and_leaves_nothing(
    call: Call, changes: tuple[str, ...], says: str
) -> None:
    code, _, err = call("train", "-m", "hydra/sweeper=optuna", *QUICK, "optimizer.lr=interval(0.1,1)", *changes)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err
    assert not list(Path().glob("outputs/sweeps/*"))


@pytest.mark.usefixtures("here")
def test_without_optuna_it_is_told_how_to_get_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = search(call, *QUICK, *SPACE, trials=2)
    assert code == 2
    assert "pip install 'cnnlab[optuna]'" in err


def test_after_kill_9_a_search_in_parallel_goes_on_bit_for_bit(here: Path) -> None:
    settings = ["data=digits", "data.limit=1200", "data.validation=200", "model=lenet", "trainer.epochs=4", "console=plain"]
    settings += ["checkpoint.every_s=0.1"]
    command = [sys.executable, "-m", "cnnlab.train", "-m", "hydra/sweeper=optuna", "sweep.name=search", *settings]
    command += ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.trials=2", "hydra.launcher.jobs=2"]
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(SWEEPS.glob("search/*/last.safetensors")):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    params = [trial.params for trial in study().trials]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 to go on with, 0 to come" in done.stdout
    assert [trial.params for trial in study().trials] == params
    rate = params[0]["optimizer.lr"]
    alone = [*settings, f"optimizer.lr={rate}", "trainer.threads=1", f"hydra.run.dir={here / 'alone'}"]
    assert cli.run("train", alone) == 0
    assert_same_run(SWEEPS / "search" / "trial000", here / "alone")
