"""A search: its space, its median rule, and real studies of real runs."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_same_run
from fake_runs import fake_run
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from small_runs import result

from cnnlab import cli, composing, config
from cnnlab.errors import ConfigError
from cnnlab.status import Status
from cnnlab.sweep.manifest import Job, Manifest
from cnnlab.sweep.pruning import watch, worse_than_median
from cnnlab.sweep.space import Space, parse
from cnnlab.sweep.study import unfinished
from cnnlab.tracking import files
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


def space(*overrides: str) -> Space:
    return parse(OverridesParser.create().parse_overrides(list(overrides)))


def study(name: str = "search") -> Any:
    storage = JournalStorage(JournalFileBackend(str(SWEEPS / name / "study.journal")))
    return optuna.load_study(study_name="search", storage=storage)


def search(call: Call, *settings: str, trials: int, name: str = "search", sampler: str = "random") -> tuple[int, str, str]:
    options = ("hydra/sweeper=optuna", "hydra/launcher=basic", f"hydra.sweeper.sampler={sampler}")
    return call("train", "-m", *options, *settings, f"hydra.sweeper.trials={trials}", f"sweep.name={name}")


def outcome(run: str) -> dict[str, Any]:
    return result(SWEEPS / "search" / run)


@pytest.fixture(autouse=True)
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
    ("overrides", "key"),
    [
        (("model=mlp", "seed=0,1"), "hydra/sweeper"),
        (("a=tag(log,choice(1,2))",), "a"),
        (("a=tag(log,range(1,9))",), "a"),
        (("a=tag(lin,interval(1,9))",), "a"),
        (("a=tag(log,interval(0,9))",), "a"),
        (("a=interval(9,1)",), "a"),
        (("a=interval(0,inf)",), "a"),
        (("a=range(5,1)",), "a"),
        (("a=range(0,5,0)",), "a"),
        (("a=range(1000000000)",), "a"),
        (("seed=interval(0,5)", "a=1,2"), "seed"),
        (("trainer.batch_size=interval(16,64)",), "trainer.batch_size"),
    ],
)
def test_what_cannot_be_searched_is_told(overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}="):
        space(*overrides)


def test_a_trial_runs_with_each_seed() -> None:
    wanted = space("model=mlp", "++optimizer.lr=interval(0,1)", "seed=3,4", "trainer.epochs=1", "trainer.epochs=2")
    assert wanted.jobs({"optimizer.lr": 0.25}) == [
        ["model=mlp", "trainer.epochs=2", "++optimizer.lr=0.25", "seed=3"],
        ["model=mlp", "trainer.epochs=2", "++optimizer.lr=0.25", "seed=4"],
    ]


def test_the_median_rule_by_hand() -> None:
    others = [[0.1, 0.5], [0.3, 0.7], [0.5, 0.6]]  # medians 0.3 and 0.6
    assert worse_than_median([0.2], others, True) == 0.3
    assert worse_than_median([0.4, 0.55], others, True) == 0.6
    assert worse_than_median([0.65, 0.55], others, True) is None  # its best counts
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
    cfg, manifest = composing.typed(composing.compose(["data=digits", "seed=1"])), Manifest(tmp_path)
    for name, seed, status, curve in (
        ("a", 1, Status.FINISHED, [0.5, 0.6]),
        ("b", 1, Status.FINISHED, [0.7, 0.8]),
        ("other-seed", 0, Status.FINISHED, [0.9, 0.9]),
        ("pruned", 1, Status.PRUNED, [0.9, 0.9]),
        ("early", 1, Status.RUNNING, [0.1]),
        ("own", 1, Status.RUNNING, [0.1, 0.65]),
    ):
        manifest.add([Job(name, [], name, seed, status)])
        fake_run(tmp_path / name, curve=curve)

    def cause(name: str, **overrides: Any) -> str | None:
        settings = {"prune": True, "prune_after_trials": 2, "prune_after_epochs": 1} | overrides
        prune_reason = watch(manifest, name, cfg, settings)
        return None if prune_reason is None else prune_reason()

    assert "0.7000" in (cause("own") or "")  # the median of 0.6 and 0.8
    own = RunDirectory(tmp_path / "own")
    sparse = [replace(epoch, epoch=3 * epoch.epoch).line() for epoch in own.read_epochs()]  # evaluation.every=3
    files.write_json_lines(own.metrics, sparse)
    assert "after epoch 6," in (cause("own") or "")
    assert cause("early") is None  # warm-up
    assert cause("own", prune_after_trials=3) is None
    assert cause("own", prune=False) is None


def test_a_trial_that_was_cut_off_while_it_was_asked_for_is_given_up() -> None:
    made = optuna.create_study()
    whole, _ = made.ask(space(*SPACE).distributions), made.ask({})
    assert [trial.number for trial in unfinished(made, space(*SPACE))] == [whole.number]
    assert [trial.state for trial in made.trials] == [TrialState.RUNNING, TrialState.FAIL]


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


def test_a_study_is_told_validation_scores_only_and_goes_on_as_if_never_stopped(call: Call) -> None:
    settings = (*QUICK, *SPACE, "evaluation.split=test")
    assert search(call, *settings, trials=2)[::2] == (0, "")
    first = (SWEEPS / "search/trial000/result.json").stat().st_mtime_ns
    asked = study().ask(space(*SPACE).distributions)  # as a sweep that is killed leaves one
    journal = SWEEPS / "search/study.journal"
    with journal.open("a") as file:
        file.write('{"op_code": 5, "wor')  # and its last line
    journal.with_name("study.journal.lock").symlink_to(journal.name)
    assert search(call, *settings, trials=4)[::2] == (0, "")
    assert (SWEEPS / "search/trial000/result.json").stat().st_mtime_ns == first
    assert study().trials[2].params == asked.params

    search(call, *settings, trials=4, name="whole")
    for at in (0, 1, 3):
        assert study().trials[at].params == study("whole").trials[at].params
        assert study().trials[at].value == study("whole").trials[at].value
    assert len({str(trial.params) for trial in study().trials}) == 4  # a seed's draws do not begin anew
    for trial in study().trials:
        scores = outcome(f"trial{trial.number:03}")
        assert trial.state == TrialState.COMPLETE
        assert trial.value == scores["validation"]["accuracy"]
        assert trial.intermediate_values == {1: trial.value}
    assert [trial.value for trial in study().trials] != [outcome(f"trial{at:03}")["test"]["accuracy"] for at in range(4)]
    assert "test" not in journal.read_text()

    manifest = (SWEEPS / "search/manifest.json").read_bytes()
    assert search(call, *settings, trials=4)[0] == 0
    assert (SWEEPS / "search/manifest.json").read_bytes() == manifest
    for other, key in (("trainer.batch_size=32,128", "trainer.batch_size"), ("trainer.steps=4", "the settings")):
        code, _, err = search(call, *settings, other, trials=4)
        assert (code, err.count("\n"), key in err) == (2, 1, True)


def test_a_journal_that_somebody_changed_is_one_line(call: Call) -> None:
    lr = "optimizer.lr=interval(0.001,0.01)"
    assert search(call, *QUICK, lr, trials=1)[0] == 0
    journal = SWEEPS / "search/study.journal"
    written = journal.read_text()
    other = str(optuna.distributions.distribution_to_json(IntDistribution(0, 9)))
    changes = {"directions": [1, 2], "values": [1, 2], "distribution": other, "user_attr": {"runs": ["../../x"]}}
    codes = {}
    for key, value in changes.items():
        lines = [json.loads(line) for line in written.splitlines()]
        changed = [line | {key: value} if key in line and "searched" not in line.get(key, ()) else line for line in lines]
        journal.write_text("".join(json.dumps(line) + "\n" for line in changed))
        codes[key], _, err = search(call, *QUICK, lr, trials=1)
        assert len(err.splitlines()) == (codes[key] != 0)
    assert codes == {"directions": 2, "values": 2, "distribution": 2, "user_attr": 0}


def test_a_trial_is_worth_the_mean_of_its_seeds_and_less_error_is_better(call: Call) -> None:
    assert search(call, *QUICK, *SPACE, "task=regression", "seed=0,1", trials=2, sampler="tpe")[0] == 0
    assert study().direction.name == "MINIMIZE"
    for trial in study().trials:
        runs = [f"trial{trial.number:03}-seed{seed}" for seed in (0, 1)]
        assert trial.user_attrs["runs"] == runs
        assert trial.value == pytest.approx(sum(outcome(run)["validation"]["mae"] for run in runs) / 2)


def test_failed_trials_are_replaced_and_diverged_ones_are_learnt_from(call: Call) -> None:
    settings = [change for change in QUICK if not change.startswith("model")]
    settings += ["optimizer=sgd", "model=mlp,cats-dogs", "optimizer.lr=0.1,1e38"]
    expected = {("mlp", "0.1"): "COMPLETE", ("mlp", "1e+38"): "PRUNED"}

    assert search(call, *settings, trials=6)[0] == 2
    states = [trial.state.name for trial in study().trials]
    chosen = [(trial.params["model"], trial.params["optimizer.lr"]) for trial in study().trials]
    assert states == [expected.get(params, "FAIL") for params in chosen]
    assert set(states) == {"COMPLETE", "PRUNED", "FAIL"}
    diverged = [job.key for job in Manifest(SWEEPS / "search").jobs() if job.exit_code == 3]
    assert len(set(diverged)) == len(diverged)
    search(call, *settings, trials=6)
    assert len(study().trials) == 6 + states.count("FAIL")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("data.validation=0",), "data.validation"),
        (("data.validation=0,200",), "data.validation"),
        (("task=multiclass,regression",), "task"),
        (("sweep.zip=[seed,model]",), "sweep.zip"),
        (("hydra.sweeper.trials=0",), "trials"),
        (("hydra.sweeper.sampler=grid",), "sampler"),
        (("trainer.epochs=int(interval(0,3))",), "trainer.epochs"),
        (("optimizer.lr=0.1",), "hydra/sweeper=optuna"),
    ],
)
def test_a_search_that_cannot_be_is_told_and_leaves_nothing(call: Call, overrides: tuple[str, ...], key: str) -> None:
    code, _, err = call("train", "-m", "hydra/sweeper=optuna", *QUICK, "optimizer.lr=interval(0.1,1)", *overrides)
    assert (code, err.count("\n"), key in err) == (2, 1, True)
    assert not list(Path().glob("outputs/sweeps/*"))


def test_without_optuna_it_is_told_how_to_get_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("optuna", "optuna.trial"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    code, _, err = search(call, *QUICK, *SPACE, trials=2)
    assert (code, "cnnlab[optuna]" in err) == (2, True)


def test_after_kill_9_a_search_in_parallel_goes_on_bit_for_bit(call: Call) -> None:
    settings = ["data=digits", "data.limit=1200", "data.validation=200", "model=lenet", "trainer.epochs=4", "console=plain"]
    asked = ["-m", "hydra/sweeper=optuna", "sweep.name=search", *settings, "checkpoint.every_s=0.1"]
    asked += ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.trials=2", "hydra.launcher.jobs=2"]
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-m", "cnnlab.train", *asked], env=env, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(SWEEPS.glob("search/*/last.safetensors")):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    process.kill()
    process.wait()
    params = [trial.params for trial in study().trials]
    assert call("train", *asked)[::2] == (0, "")
    assert [trial.params for trial in study().trials] == params
    alone = ["checkpoint.every_s=0.1", f"optimizer.lr={params[0]['optimizer.lr']}", "trainer.threads=1", "hydra.run.dir=alone"]
    assert cli.run("train", [*settings, *alone]) == 0
    assert_same_run(SWEEPS / "search" / "trial000", Path("alone"))
