"""Row 7: the records of a sweep of somebody who means harm: nothing of them runs, nothing is written elsewhere."""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import WHOLE
from hostile import ESCAPE, EVIL, INSTEAD, naming
from hostile import place as place
from made import (
    SWEPT,
    copied,
    edit_json,
    edit_yaml,
    fifo,
    link,
    original,
    put,
    searching,
)
from protocol import share
from small_runs import SMALL
from watch import said, state, watched

from cnnlab import cli

SWEEP_FILES = ("manifest.json", ".manifest.lock", ".lock", "multirun.yaml", "seed1", "seed1/.hydra", "seed1/.hydra/config.yaml",
               "seed1/.hydra/overrides.yaml", "seed1/config.yaml", "seed1/environment.json", "seed1/last.safetensors",
               "seed1/metrics.jsonl", "seed1/output.log", "seed1/train.log", "seed1/.lock", "seed1/result.json")  # fmt: skip


def unfinished(sweep: Path) -> None:
    """The second job is to be run again, or to go on."""

    def change(content: dict[str, Any]) -> None:
        content["jobs"][1] |= {"status": "interrupted", "score": None, "split": None, "metric": None, "seconds": None}

    edit_json(sweep / "manifest.json", change)
    (sweep / "seed1/result.json").unlink()


@pytest.mark.parametrize(
    ("name", "instead", "known"),
    share(itertools.product(SWEEP_FILES, ("a link", "a link to a folder", "a link to nothing", "a pipe"), (True, False)), 21),
)
def test_something_else_in_a_sweep(call, place: Path, name: str, instead: str, known: bool) -> None:
    sweep = copied("sweep", place)
    unfinished(sweep)
    if not known:
        edit_json(sweep / "manifest.json", lambda content: content["jobs"].pop())
    (sweep / name).parent.mkdir(exist_ok=True)
    link(sweep / name, place.parent / {"a link": "canary", "a link to a folder": "canary_package"}.get(instead, "nothing"))
    if instead == "a pipe":
        fifo(sweep / name)
    with watched(sweep) as seen:
        code, *output = call("train", *SWEPT, f"hydra.sweep.dir={sweep}")
    assert seen == []
    assert code in (0, 1, 2), output
    said(output)


@pytest.mark.skipif(not WHOLE, reason="worker processes take seconds; CNNLAB_TORTURE=1")
@pytest.mark.parametrize("instead", ["a link", "a link to nothing", "a pipe", "a folder"])
def test_something_else_in_the_place_of_a_workers_log(capfd, place: Path, instead: str) -> None:
    sweep = copied("sweep", place)
    unfinished(sweep)
    log = sweep / "seed1/output.log"
    if instead == "a folder":
        log.mkdir()
    else:
        INSTEAD[instead](log)
    assert cli.run("train", [*SWEPT, "hydra/launcher=parallel", f"hydra.sweep.dir={sweep}"]) == 2
    said(capfd.readouterr())


DIRECTORIES = ["..", ".", "", "../../canary", "../x", "/", "/var/cnnlab-stolen", "a/b", "a/../../x", "${oc.env:HOME}",
               "${oc.env:SECRET}", "${hydra:runtime.cwd}", "seed0\n", "x'y", "~", "seed1 ", "\x1b[31m", "-rf/", "a" * 300,
               "nul\0", "seed1'/../../x", "[x]", "é", "\u202e", ".hydra", ".lock"]  # fmt: skip


@pytest.mark.parametrize("directory", share(DIRECTORIES, 7))
def test_a_directory_in_a_manifest(call, place: Path, directory: str) -> None:
    sweep = copied("sweep", place)
    unfinished(sweep)
    edit_json(sweep / "manifest.json", lambda content: put(content, "jobs.1.directory", directory))
    before = state(sweep, sweep / ".lock")
    with watched(sweep) as seen:
        code, *output = call("train", *SWEPT, f"hydra.sweep.dir={sweep}")
    assert (code, seen) == (2, []), output
    assert said(output).count("\n") == 1
    assert state(sweep, sweep / ".lock") == before


OVERRIDES = [
    "++data.source._target_=os.system", "model._target_=canary_module.Net", "++model={_target_: os.system}", "seed=7",
    "hydra.launcher._target_=os.system", "hydra.sweep.dir=/var/cnnlab-stolen", "hydra.run.dir=/var/cnnlab-stolen",
    "hydra.searchpath=[/var]", "hydra/launcher=joblib", "hydra.output_subdir=/var/cnnlab-stolen", "~model",
    "hydra.callbacks.x._target_=os.system", "hydra.job.chdir=true", "hydra.job.env_set.LD_PRELOAD=x", "${oc.env:SECRET}",
    "--config-dir=/var", "resume=../../canary", "trust=canary_module", ESCAPE, "=", "",
]  # fmt: skip


@pytest.mark.parametrize("override", share(OVERRIDES, 8))
def test_an_override_in_a_manifest_is_not_executed(call, place: Path, override: str) -> None:
    sweep = copied("sweep", place)
    unfinished(sweep)
    shutil.rmtree(sweep / "seed1")
    edit_json(sweep / "manifest.json", lambda content: put(content, "jobs.1.overrides", [*SMALL, override]))
    with watched(sweep) as seen:
        code, *output = call("train", *SWEPT, f"hydra.sweep.dir={sweep}")
    assert (code, seen) == (0, []), output
    said(output)
    assert (sweep / "seed1/config.yaml").read_bytes() == (original("sweep") / "seed1/config.yaml").read_bytes()


@pytest.mark.parametrize("payload", share([EVIL, "canary_module.Net", "cnnlab.train.main"], 3))
@pytest.mark.parametrize("job", ["not begun", "interrupted"])
def test_a_name_in_a_sweep(call, place: Path, payload: str, job: str) -> None:
    """In Hydra's own files, and in the configuration of a job that goes on."""
    sweep = copied("sweep", place)
    unfinished(sweep)
    for name in ("config", "hydra", "overrides"):
        (sweep / "seed1/.hydra").mkdir(exist_ok=True)
        (sweep / "seed1/.hydra" / f"{name}.yaml").write_text(yaml.safe_dump({"hydra": {"launcher": naming(payload)}}))
    (sweep / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"launcher": naming(payload)}}))
    edit_yaml(sweep / "seed1/config.yaml", lambda cfg: put(cfg, "data.source", naming(payload)))
    if job == "not begun":
        (sweep / "seed1/environment.json").unlink()
    with watched(sweep) as seen:
        code, *output = call("train", *SWEPT, f"hydra.sweep.dir={sweep}")
    assert seen == []
    assert code in ((0,) if job == "not begun" else (2, 5)), output
    said(output)


JOURNALS: dict[str, Callable[[Path], None]] = {
    "a pipe": fifo,
    "a link": lambda path: link(path, path.parent.parent.parent / "canary"),
    "a link to a device": lambda path: link(path, "/dev/zero"),
    "a folder": lambda path: (path.unlink(), path.mkdir())[1],
    "a sparse terabyte": lambda path: os.truncate(path, 1 << 40),
    "a pickle": lambda path: path.write_bytes(b"cos\nsystem\n(S'rm canary'\ntR.\n") and None,
    "other ranges": lambda path: path.write_text(path.read_text().replace("0.01", "1000.0")) and None,
    "deep": lambda path: path.write_text("[" * 200_000 + "\n" + path.read_text()) and None,
}


@pytest.mark.parametrize("kind", share(JOURNALS, 4))
def test_a_journal_of_a_search(call, place: Path, kind: str) -> None:
    pytest.importorskip("optuna")
    search = copied("search", place)
    JOURNALS[kind](search / "study.journal")
    with watched(search) as seen:
        code, *output = call("train", *searching(search, 3))
    assert (code, seen) == (2, []), output
    said(output)
