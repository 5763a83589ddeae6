"""All of cnnlab's readers of files or words, as functions of bytes, with checks of what they return."""

import io
import json
import math
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from made import original, sign
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from cnnlab import cli, composing, config, reading
from cnnlab.comparison.runs import Run, read_runs
from cnnlab.comparison.tables import configurations, tables
from cnnlab.comparison.verdicts import read_answers
from cnnlab.composing.overrides import prepare
from cnnlab.config import trust
from cnnlab.config.schema import Config, from_plain
from cnnlab.data import cache as kept_pictures
from cnnlab.data import cifar, idx, pictures
from cnnlab.errors import CnnlabError
from cnnlab.sweep.manifest import Manifest
from cnnlab.tracking.records import Epoch
from cnnlab.tracking.run import RunDirectory
from cnnlab.tracking.tensorboard import keep_curves
from cnnlab.training.checkpoint import State, load_checkpoint, load_weights, read_description, read_step


@dataclass(frozen=True)
class Reader:
    """name: of the file that it reads, in a folder of its own. valid: what such a file holds. read: reads it, and raises
    AssertionError if what it returns is wrong."""

    name: str
    valid: Callable[[], list[bytes]]
    read: Callable[[Path], object]


def _of(kind: str, name: str) -> Callable[[], list[bytes]]:
    return lambda: [(original(kind) / name).read_bytes()]


def _json(path: Path) -> None:
    found = reading.read_json(path)
    assert found == json.loads(path.read_bytes())


def _lines(path: Path) -> None:
    found = reading.read_json_lines(path)
    lines = [line for line in path.read_bytes().split(b"\n") if line]
    assert found == [json.loads(line) for line in lines[: len(found)]]
    assert len(found) >= len(lines) - 2
    for epoch in RunDirectory(path.parent).read_epochs():
        again = Epoch.of_line(json.loads(json.dumps(epoch.line())))
        assert repr(again) == repr(epoch)


def _result(path: Path) -> None:
    result = RunDirectory(path.parent).read_result()
    assert result is not None
    content = json.loads(path.read_bytes())
    assert (result.status, result.epochs, result.metric) == (content["status"], content["epochs"], content["metric"])


def _config(path: Path) -> None:
    cfg = config.read(path)
    assert repr(from_plain(Config, yaml.safe_load(config.to_yaml(cfg)))) == repr(cfg)
    trust.check(cfg)


def _flat(path: Path) -> None:
    assert {"seed"} <= config.read_flat(path).keys() or config.read_flat(path)


def _manifest(path: Path) -> None:
    jobs = Manifest(path.parent).jobs()
    assert [job.seed for job in jobs] == [entry["seed"] for entry in json.loads(path.read_bytes())["jobs"]]
    assert not any("/" in job.directory or job.directory in ("", ".", "..") for job in jobs)


@cache
def _state() -> State:
    from cnnlab.training.session import build_session

    session = build_session(config.read(original("run") / "config.yaml"))
    return State(session.step, session.description)


def _checkpoint(path: Path) -> None:
    """Only what was saved passes its hash. A fuzzer guided by coverage finds the hash of another content, too."""
    for read in (read_step, read_description, lambda path: load_weights(path, _state().model)):
        try:
            read(path)
        except CnnlabError:
            continue
    load_checkpoint(path, _state())
    own = original("run") / "last.safetensors"
    if _metadata(path)["sha256"] == _metadata(own)["sha256"]:
        saved, read_ = load_file(own), load_file(path)
        assert all((saved[name] == read_[name]).all() for name in saved)


def _said(path: Path) -> None:
    """The metadata of a checkpoint, with a matching hash, as an attacker would write it."""
    text = path.read_bytes().decode(errors="replace")
    sign(path, load_file(original("run") / "last.safetensors"), text)
    for read in (read_step, read_description):
        try:
            read(path)
        except CnnlabError:
            continue
    load_checkpoint(path, _state())
    progress = _state().progress
    assert progress.step >= 0
    assert math.isfinite(progress.seconds)


def _saying() -> list[bytes]:
    return [_metadata(original("run") / "last.safetensors")["cnnlab"].encode()]


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def _answers(path: Path) -> None:
    answers = read_answers(path)
    assert answers.predicted.shape == answers.label.shape


def _idx(path: Path) -> None:
    array = idx.read(path)
    content = idx.gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    sides = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
    assert array.shape == sides
    assert array.tobytes() == content[4 + 4 * content[3] :]


def _an_idx() -> list[bytes]:
    return [bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 4, 5) + bytes(range(60)), bytes([0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3, 4])]


def _cifar(path: Path) -> None:
    assert cifar._records(path).shape == (cifar.RECORDS_PER_FILE, cifar.RECORD_BYTES)


def _picture(path: Path) -> None:
    for channels in (1, 3):
        (found,) = pictures.decode_all([path], (channels, 9, 7), "crop")
        assert isinstance(found, pictures.Unreadable) or (found.shape, found.dtype) == ((channels, 9, 7), np.uint8)


@cache
def _some_pictures() -> list[bytes]:
    found = []
    for kind, mode in (("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "L"), ("JPEG", "CMYK"), ("GIF", "P"),
                       ("BMP", "RGB"), ("WEBP", "RGB")):  # fmt: skip
        noise = Image.effect_noise((12, 10), 80).convert("I" if mode == "I;16" else mode)
        noise.convert(mode).save(file := io.BytesIO(), kind)
        found.append(file.getvalue())
    return found


def _kept(path: Path) -> None:
    found = kept_pictures._read(path, (2, 1, 3, 3))
    assert found is None or (found[0].shape, found[0].dtype) == ((2, 1, 3, 3), np.uint8)


def _some_kept() -> list[bytes]:
    np.save(file := io.BytesIO(), np.zeros((2, 1, 3, 3), np.uint8))
    failed = {"1": {"cause": "damaged", "passing": False}}
    said = {"sha256": kept_pictures._hash(np.zeros(18, np.uint8)), "failed": failed}
    return [file.getvalue() + json.dumps(said).encode()]


def _compared(path: Path) -> None:
    """Whatever one run's files hold, it is listed, and nothing is raised."""
    home = path.parent / "runs/one"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "result.json"):
        if path.name != name:
            shutil.copyfile(original("run") / name, home / name)
    shutil.copyfile(path, home / path.name)
    runs = read_runs([str(path.parent / "runs"), str(original("run"))])
    assert len(runs) == 2
    assert any(isinstance(run, Run) and run.directory.path == original("run") for run in runs)
    tables(*configurations(runs), None)


def _journal(path: Path) -> None:
    from cnnlab.sweep import study
    from cnnlab.sweep.space import Space

    trials = study.open_study(path, {}, True)
    study.unfinished(trials, Space([], [None], {}, {}))
    assert all(trial.number >= 0 for trial in trials.get_trials(deepcopy=False))


def _journals() -> list[bytes]:
    try:
        import optuna  # noqa: F401
    except ImportError:
        return [b""]
    return [(original("search") / "study.journal").read_bytes().replace(b'"searched"', b'"other"')]


def _events(path: Path) -> None:
    keep_curves(path.parent)
    once = path.read_bytes()
    keep_curves(path.parent)
    assert path.read_bytes() == once


def _weights(path: Path) -> None:
    from cnnlab.models.pretrained import _state_dict

    assert isinstance(_state_dict(path, (), 1 << 20), dict)


def _a_pth() -> list[bytes]:
    import torch

    torch.save({"weight": torch.zeros(2), "bias": torch.ones(1)}, file := io.BytesIO())
    return [file.getvalue()]


def _words(path: Path) -> None:
    words = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    for sweep in (False, True):
        try:
            prepare(words, composing.groups(), sweep)
        except CnnlabError:
            continue
    for read in (trust.split, lambda words: composing.with_overrides(_recorded(), words)):
        try:
            read(words)
        except CnnlabError:
            continue
    cli.parse(words, ("--flag",), ("--value",))


@cache
def _recorded() -> Config:
    return config.read(original("run") / "config.yaml")


def _some_words() -> list[bytes]:
    return [
        b"model=lenet\ntrainer.epochs=2\n--flag",
        b"seed=1,2,3\n+x.y={a: [1, 'b']}\n~model",
        b"optimizer.lr=interval(1e-4,1)\ntrust=[a,b]\nseed=range(1,4)",
        b"data.shape=[1,2,3]\nmodel.blocks=[{conv:4,pool:2}]\n--value=3",
    ]


def _plain(path: Path) -> None:
    """Plain values, which YAML can hold, against the schema."""
    content = json.loads(path.read_bytes())
    cfg = from_plain(Config, content)
    assert asdict(cfg).keys() == content.keys()


def _plains() -> list[bytes]:
    return [json.dumps(asdict(_recorded())).encode()]


def _an_event() -> list[bytes]:
    return [path.read_bytes()[:3000] for path in original("run").glob("events.out.tfevents.*")]


READERS = {
    "json": Reader("record.json", _of("run", "environment.json"), _json),
    "lines": Reader("metrics.jsonl", _of("run", "metrics.jsonl"), _lines),
    "result": Reader("result.json", _of("run", "result.json"), _result),
    "configuration": Reader("config.yaml", _of("run", "config.yaml"), _config),
    "settings": Reader("config.yaml", _of("transfer", "config.yaml"), _flat),
    "manifest": Reader("manifest.json", _of("sweep", "manifest.json"), _manifest),
    "journal": Reader("study.journal", _journals, _journal),
    "checkpoint": Reader("last.safetensors", _of("run", "last.safetensors"), _checkpoint),
    "checkpoint's words": Reader("last.safetensors", _saying, _said),
    "predictions": Reader("predictions.safetensors", _of("run", "predictions.safetensors"), _answers),
    "events": Reader("events.out.tfevents.1", _an_event, _events),
    "compared configuration": Reader("config.yaml", _of("run", "config.yaml"), _compared),
    "compared environment": Reader("environment.json", _of("run", "environment.json"), _compared),
    "compared result": Reader("result.json", _of("run", "result.json"), _compared),
    "idx": Reader("images-idx3-ubyte", _an_idx, _idx),
    "idx, compressed": Reader("images-idx3-ubyte.gz", lambda: [idx.gzip.compress(one) for one in _an_idx()], _idx),
    "cifar": Reader("data_batch_1.bin", lambda: [bytes(3073)], _cifar),
    "picture": Reader("picture.png", _some_pictures, _picture),
    "kept pictures": Reader("kept.npy", _some_kept, _kept),
    "weights": Reader("weights.pth", _a_pth, _weights),
    "other weights": Reader("weights.safetensors", _of("run", "best.safetensors"), _weights),
    "words": Reader("words", _some_words, _words),
    "schema": Reader("plain.json", _plains, _plain),
}
EXPECTED = {"json": (FileNotFoundError,), "schema": (ValueError, RecursionError)}  # besides CnnlabError; the latter are json's
