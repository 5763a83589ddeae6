"""Row 7: runs, sweeps, pictures and names of somebody who means harm: none of their code runs, nothing is written elsewhere,
nothing goes online, and no terminal, spreadsheet or browser is steered."""

import csv
import gzip
import html.parser
import io
import itertools
import json
import os
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # noqa: F401 - it keeps a cache of its own, and so do torchvision's; they are written here
import pytest
import torchvision.models  # noqa: F401
import yaml
from conftest import WHOLE
from made import (
    FLIP,
    SWEPT,
    copied,
    edit_json,
    edit_meta,
    edit_yaml,
    fifo,
    link,
    original,
    picture,
    put,
    searching,
)
from payloads import PAYLOADS
from protocol import share
from small_runs import SMALL
from watch import ends_within, said, state, watched

from cnnlab import cli, config
from cnnlab.config import trust
from cnnlab.config.schema import PhaseConfig
from cnnlab.errors import CheckpointError, ConfigError
from cnnlab.opening import load

ESCAPE = "\x1b]0;stolen\x07\x1b[31m[/x][red]\u202e\x9b2J"
EVIL = "os.system"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a canary: a file, and modules that would remove it. What is not in `work` stays as it is."""
    original("run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "work/cache"))
    monkeypatch.setenv("SECRET", "stolen-from-the-environment")
    (tmp_path / "canary").write_text("alive")
    trap = "import pathlib; pathlib.Path('canary').unlink()\nfrom torch.nn import Flatten as Net\n"
    (tmp_path / "canary_module.py").write_text(trap)
    (tmp_path / "canary_package").mkdir()
    (tmp_path / "canary_package/inner.py").write_text(trap)
    (tmp_path / "work").mkdir()
    picture(tmp_path / "picture.png")
    before = state(tmp_path, tmp_path / "work")
    with ends_within(60):
        yield tmp_path / "work"
    assert state(tmp_path, tmp_path / "work") == before
    assert not {"canary_module", "canary_package"} & set(sys.modules)


def naming(payload: str) -> dict[str, Any]:
    """A section that names it, with the arguments that many of them would take."""
    script = "import os; os.remove('canary')"
    given = dict.fromkeys(("command", "args", "cmd"), "rm canary") | dict.fromkeys(("path", "file"), "canary")
    return {"_target_": payload, **given, "source": script, "name": "canary_module", "url": "http://127.0.0.1:9/"}


SECTIONS = ("model", "model.network", "task", "optimizer", "schedule", "augment.flip", "data.source", "phases.0.schedule")
COMMANDS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "evaluate": lambda run: ("evaluate", run),
    "resume": lambda run: ("train", f"resume={run}", "trainer.epochs=3"),
    "predict": lambda run: ("predict", run, "picture.png"),
    "visualize": lambda run: ("visualize", run, "curves", "--to", run.parent / "figures"),
    "export": lambda run: ("export", run, "--to", "safetensors", "--output", run.parent / "weights.safetensors"),
    "convert": lambda run: ("convert", run, "--output", run.parent / "converted"),
    "transfer": lambda run: ("train", *SMALL[:3], "model=transfer", f"model.run={run}", f"hydra.run.dir={run.parent / 'new'}"),
}


def of_kind(section: str, folder: Path, value: Any) -> Path:
    """A copied run whose config.yaml holds `value` in that section."""
    run = copied("transfer" if section == "model.network" else "run", folder)

    def change(cfg: dict[str, Any]) -> None:
        if section.startswith("phases"):
            cfg["phases"] = [{"epochs": 2, "parameters": [], "lr_factor": 1.0, "schedule": None}]
        put(cfg, section, value)

    edit_yaml(run / "config.yaml", change)
    return run


@pytest.mark.parametrize("number", share(range(len(PAYLOADS)), 5))
def test_a_name_in_a_run(call, place: Path, number: int) -> None:
    payload = PAYLOADS[number]
    original("transfer")
    with watched(place) as seen:
        for section in SECTIONS:
            cfg = config.read(original("transfer") / "config.yaml")
            held: Any = {"_target_": "cnnlab.models.transferred", "run": "x", "network": naming(payload)}
            top, _, inner = section.partition(".")
            if section.startswith("phases"):
                cfg.phases = [PhaseConfig(2, schedule=naming(payload))]
            elif section == "model.network":
                cfg.model = held
            elif section == "data.source":
                cfg.data.source = naming(payload)
            elif inner:
                cfg.augment = {inner: naming(payload)}
            else:
                setattr(cfg, top, naming(payload))
            with pytest.raises(ConfigError):
                trust.check(cfg)
    assert seen == []
    section, command = SECTIONS[number % len(SECTIONS)], [*COMMANDS][number // len(SECTIONS) % len(COMMANDS)]
    if command == "transfer":  # which takes no more from a run than its network
        section = "model" if section != "model.network" else section
    run = of_kind(section, place, naming(payload))
    before = state(run)
    with watched() as seen:
        code, *output = call(*COMMANDS[command](run))
    assert (code, seen) == (2, []), output
    assert said(output).count("\n") == 1
    assert "error: " in output[1]
    assert state(run) == before
    if command == "evaluate":
        with watched() as seen, pytest.raises((CheckpointError, ConfigError)):
            load(run)
        assert seen == []
        with watched() as seen:
            code, *output = call("compare", run, "--runs", "--csv")
        assert (code, seen) == (0, []), output
        said(output)


SAYING = (EVIL, "canary_module.Net", "cnnlab.config.targets.instantiate", "torch.load")


@pytest.mark.parametrize(
    ("part", "payload", "command"),
    share(itertools.product(("model", "task"), SAYING, ("evaluate", "resume", "predict", "transfer")), 7),
)
def test_a_name_in_a_checkpoint(call, place: Path, part: str, payload: str, command: str) -> None:
    run = copied("run", place)
    for name in ("last", "best"):
        edit_meta(run / f"{name}.safetensors", lambda meta: put(meta, f"network.{part}", naming(payload)))
    with watched(place) as seen:
        code, *output = call(*COMMANDS[command](run))
    assert seen == []
    assert code == (0 if command == "transfer" else 2), output  # where the layers alone are taken
    said(output)


ONLINE = [
    {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"},
    {"_target_": "torchvision.models.resnet18", "weights": "IMAGENET1K_V1"},
    {"_target_": "torchvision.models.resnet18", "pretrained": True},
    {"_target_": "torchvision.models.squeezenet1_1", "weights": "DEFAULT", "num_classes": 10},
    {"_target_": "torchvision.models.inception_v3", "weights": "DEFAULT"},
    {"_target_": "cnnlab.models.Pretrained", "backbone": "resnet18", "weights": "imagenet"},
    {"_target_": "cnnlab.models.Pretrained", "backbone": "resnet18", "weights": "/dev/zero"},
]


@pytest.mark.parametrize(
    ("number", "command"), share(itertools.product(range(len(ONLINE)), ("evaluate", "predict", "resume")), 5)
)
def test_what_is_listed_goes_online_for_nothing(
    call, place: Path, number: int, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(place / "no-such-torch-home"))
    run = of_kind("model", place, ONLINE[number])
    for name in ("last", "best"):
        edit_meta(run / f"{name}.safetensors", lambda meta: put(meta, "network.model", ONLINE[number]))
    with watched(run) as seen:
        code, *output = call(*COMMANDS[command](run))
    assert (code, seen) == (2, []), output
    said(output)


@pytest.mark.parametrize(
    ("source", "command"),
    share(itertools.product(("idx.load", "cifar.load", "folder.load"), ("evaluate", "visualize", "export", "resume")), 3),
)
def test_missing_data_of_a_run_make_no_folder_and_go_online_for_nothing(call, place: Path, source: str, command: str) -> None:
    run = copied("run", place)

    def change(cfg: dict[str, Any]) -> None:
        name = {"name": "MNIST"} if source == "idx.load" else {}
        cfg["data"] |= {
            "source": {"_target_": f"cnnlab.data.{source}", **name},
            "root": str(place.parent / "victim"),
            "shape": None,
        }

    edit_yaml(run / "config.yaml", change)
    with watched(place) as seen:
        code, *output = call(*COMMANDS[command](run))
    assert seen == []
    assert code == (2 if command in ("evaluate", "resume") else 0), output
    said(output)
    assert not (place.parent / "victim").exists()


# --- what a run's files hold beside names

BOMBS = {
    "laughs": "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "deep": "seed: " + "[" * 100_000,
    "mappings": "a:" + " {a:" * 5000,
    "recursive": "seed: &a [*a]\n",
    "merge": "x: &x {a: 1}\nseed: {<<: *x}\n",
    "many": "seed: [" + "a," * 500_000 + "]",
    "tag python": "seed: !!python/object/apply:os.system ['rm canary']\n",
    "tag name": "seed: !!python/name:os.system\n",
    "tag module": "seed: !!python/module:canary_module\n",
    "tag object": "seed: !!python/object/new:subprocess.Popen [['rm', 'canary']]\n",
    "tag binary": "seed: !!binary aGVsbG8=\n",
    "tag set": "seed: !!set {a, b}\n",
    "tag own": "seed: !x 1\n",
    "timestamp": "seed: 2001-13-45\n",
    "large number": "seed: " + "9" * 300_000 + "\n",
    "wide number": "seed: " + "1" * 400 + "\n",
    "no end": "seed: 1e999999999\n",
    "nan": "seed: .nan\n",
    "directive": "%YAML 9.9\n---\nseed: 0\n",
    "documents": "seed: 0\n---\nseed: 1\n",
    "nul": "seed: \0\n",
    "not utf-8": b"seed: \xff\xfe\n",
    "utf-16": "seed: 0\n".encode("utf-16"),
    "large": "seed: 0 #" + " " * (1 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", share(BOMBS, 3))
def test_a_configuration_that_is_a_bomb(call, place: Path, name: str) -> None:
    run, text = copied("run", place), BOMBS[name]
    rest = (run / "config.yaml").read_bytes().replace(b"seed: 0\n", b"", 1)
    (run / "config.yaml").write_bytes(text + rest if isinstance(text, bytes) else text.encode() + rest)
    for command in ("evaluate", "resume"):
        with watched() as seen:
            code, *output = call(*COMMANDS[command](run))
        assert (code, seen) == (2, []), output
        assert said(output).count("\n") == 1
    copied("transfer", place)
    with watched() as seen:
        code, *output = call("compare", place)
    assert (code, seen) == (0, []), output
    assert "not counted: 1 run" in said(output)


INTERPOLATIONS = ["${oc.env:SECRET}", "${oc.env:HOME}", "${.seed}", "${hydra:run.dir}", "${now:%Y}", "${oc.decode:'1'}",
                  "$SECRET", "${eval:1}", "~", "$(rm canary)", "`rm canary`", "%(SECRET)s", "{SECRET}"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key"),
    share(itertools.product(INTERPOLATIONS, ("data.name", "data.root", "model.activation", "trainer.device")), 9),
)
def test_an_interpolation_is_these_characters(call, place: Path, text: str, key: str) -> None:
    run = copied("run", place)
    edit_yaml(run / "config.yaml", lambda cfg: put(cfg, key, text))
    if key == "model.activation":
        for name in ("last", "best"):
            edit_meta(run / f"{name}.safetensors", lambda meta: put(meta, f"network.{key}", text))
    for command in ("evaluate", "resume"):
        with watched(run) as seen:
            code, *output = call(*COMMANDS[command](run))
        assert seen == []
        assert "stolen" not in said(output)
        assert code in ((0, 2) if key.startswith("data") else (2,)), output
    with watched() as seen:
        call("compare", run, "--json", "--runs")
    assert seen == []
    assert "stolen" not in (run / "config.yaml").read_text()


# --- links, pipes, devices

FILES = ("config.yaml", "environment.json", "metrics.jsonl", "result.json", "last.safetensors", "best.safetensors",
         "predictions.safetensors", ".lock", "visuals", "output.log")  # fmt: skip
INSTEAD: dict[str, Callable[[Path], None]] = {
    "a link": lambda path: link(path, path.parent.parent.parent / "canary"),
    "a link to a folder": lambda path: link(path, path.parent.parent.parent / "canary_package"),
    "a link to nothing": lambda path: link(path, path.parent.parent.parent / "nothing"),
    "a link to a device": lambda path: link(path, "/dev/zero"),
    "a link to itself": lambda path: link(path, path),
    "a pipe": fifo,
}


@pytest.mark.parametrize(("name", "instead"), share(itertools.product(FILES, INSTEAD), 11))
def test_something_else_in_the_place_of_a_file(call, place: Path, name: str, instead: str) -> None:
    run = copied("run", place)
    if name in ("result.json", ".lock", "metrics.jsonl"):
        (run / "result.json").unlink()  # so that it goes on
    INSTEAD[instead](run / name)
    for command in ("evaluate", "resume", "predict"):
        with watched(run) as seen:
            code, *output = call(*COMMANDS[command](run))
        assert seen == []
        assert code in (0, 2), output
        said(output)
    with watched(run, place) as seen:
        code, *output = call("compare", run, "--html", place / "report.html")
        assert code in (0, 2)
        said(output)
        if name == "visuals":
            assert call("visualize", run, "curves")[0] == 2
    assert seen == []


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


# --- a sweep's own records

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


# --- texts that would steer a terminal, a spreadsheet or a browser


class Tags(html.parser.HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs)]


MARKUP = '<script src="//x">alert(1)</script><img src=x onerror=alert(1)>\'"&amp;]]>--></style></title></svg>'
FORMULAS = ['=HYPERLINK("http://x")', "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "=cmd|' /C calc'!A0"]


def speaking(folder: Path, name: str, text: str) -> Path:
    """A run every text of which is `text`."""
    run = folder / name
    run.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(original("run"), run)

    def configuration(cfg: dict[str, Any]) -> None:
        cfg["data"]["name"] = cfg["data"]["root"] = cfg["trainer"]["device"] = text
        cfg["model"][text] = text
        cfg[text] = {text: text}

    def environment(found: dict[str, Any]) -> None:
        found["choices"] = dict.fromkeys(found["choices"], text) | {text: text}
        found["data"] |= {"name": text, "classes": [text] * 10}
        found |= {"command": text, "git": text, "device": text, "varied": [text]}

    edit_yaml(run / "config.yaml", configuration)
    edit_json(run / "environment.json", environment)
    edit_json(run / "result.json", lambda found: found.update(cause=text))
    return run


TEXTS = [ESCAPE, MARKUP, "$\\frac{", "[bold]x[/bold][/]", "a|b`c*d_", "{0}{x}%s%(x)d", "🏳️‍🌈", *FORMULAS]


@pytest.mark.parametrize("text", share(TEXTS, 7))
def test_a_text_steers_nothing(call, place: Path, text: str) -> None:
    safe = re.sub(r"[/\0]", "", text)[:200]
    speaking(place / "runs", f"one{safe}", text)
    two = speaking(place / "runs", f"{safe}two", "plain")
    edit_json(two / "result.json", lambda found: found.update(status="failed", cause=text))
    speaking(place / "runs", f"three{safe}", text * 2)
    page = place / "report.html"
    for form in ((), ("--wide",), ("--csv",), ("--csv", "--runs"), ("--json",), ("--markdown",), ("--html", page),
                 ("--plot", place / "curves.png")):  # fmt: skip
        with watched(place) as seen:
            code, *output = call("compare", place / "runs", *form)
        assert (code, seen) == (0, []), output
        said(output)
        if "--csv" in form:
            for row in csv.reader(io.StringIO(output[0])):
                assert not [one for one in row if one.lstrip().startswith(("=", "+", "@")) or re.match(r"\s*-[^\d]", one)], row
        if "--json" in form:
            json.loads(output[0])
    assert {"img", "onerror", "src"}.isdisjoint(Tags(page.read_text()).found)


@pytest.mark.parametrize("text", share([ESCAPE, "[/x]", "[red]cat[/]", "=1+1", MARKUP.replace("/", ""), "$\\frac{"], 3))
def test_names_of_classes_and_pictures(call, place: Path, text: str) -> None:
    """A folder of somebody's pictures, trained on, scored, shown and predicted."""
    text = text.replace("/", "\u2215")
    for name in (text, f"{text}2"):
        for number in range(6):
            picture(place / "pictures" / name / f"{text}{number}.png")
    run = place / f"run{text}".replace("=", "")
    settings = ("data=folder", f"data.root={place / 'pictures'}", "data.size=28", "data.validation=0", *SMALL[3:5],
                "trainer.epochs=1", "console=plain", "trainer.threads=1")  # fmt: skip
    settings = tuple(one.replace("model.hidden=[8]", "model.hidden=[4]") for one in settings)
    with watched(place) as seen:
        code, *output = call("train", *settings, "hydra.run.dir=work/run")
    assert (code, seen) == (0, []), output
    said(output)
    (place / "run").rename(run)
    pictures = place / "pictures"
    for arguments in (
        ("evaluate", run),
        ("predict", run, pictures),
        ("predict", run, pictures, "--csv"),
        ("predict", run, pictures, "--json"),
        ("visualize", run, "confusion", "classes", "curves"),
        ("export", run, "--to", "safetensors", "--output", place / "w.safetensors"),
        ("compare", run),
    ):
        with watched(place) as seen:
            code, *output = call(*arguments)
        assert (code, seen) == (0, []), output
        said(output)


# --- bombs in data


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes(1 << 20)) * 2
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_picture_that_is_a_bomb(call, place: Path) -> None:
    folder = place / "bombs"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(60_000, 60_000))
    (folder / "b.png").write_bytes(png(0x7FFFFFFF, 0x7FFFFFFF))
    (folder / "c.png").symlink_to("/dev/zero")
    (folder / "d.png").symlink_to("/dev/random")
    fifo(folder / "e.png")
    (folder / "loop").symlink_to(folder)
    (folder / "f.gif").write_bytes(b"GIF89a" + b"\xff" * 100)
    with watched() as seen:
        code, *output = call("predict", original("run"), folder)
    assert (code, seen) == (2, []), output
    assert said(output).count("cannot be read") == 1
    assert output[1].count("cannot read") == 6


def test_an_idx_file_that_is_a_bomb(call, place: Path) -> None:
    raw = place / "MNIST/raw"
    raw.mkdir(parents=True)
    header = b"\0\0\x08\x03" + struct.pack(">III", 2**21, 28, 28)
    for stem in ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1"):
        (raw / f"{stem}-ubyte.gz").write_bytes(gzip.compress(header + bytes(1 << 24)))
    run = copied("run", place)
    edit_yaml(run / "config.yaml", lambda cfg: cfg["data"].update(
        source={"_target_": "cnnlab.data.idx.load", "name": "MNIST"}, root=str(place)))  # fmt: skip
    with watched() as seen:
        code, *output = call("evaluate", run)
    assert (code, seen) == (2, []), output
    assert said(output).count("\n") == 1


def test_the_honest_ones_still_work(call, place: Path) -> None:
    """Or all of the above would hold of a program that refuses everything."""
    run = copied("run", place)
    for command in ("evaluate", "resume", "predict", "visualize", "export", "transfer"):
        with watched(place) as seen:
            code, *output = call(*COMMANDS[command](run))
        assert (code, seen) == (0, []), output
    edit_yaml(run / "config.yaml", lambda cfg: put(cfg, "augment.flip", FLIP))
    assert call("compare", place)[0] == 0
