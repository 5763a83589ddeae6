"""Row 5: command lines, configurations, checkpoints, data, records and pictures that are malformed: one line that names the
thing, exit 2, and nothing is created, changed or lost."""

import gzip
import itertools
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import write_idx
from made import SWEPT, copied, edit_json, edit_meta, edit_yaml, original, picture, put, searching, sign
from PIL import Image
from protocol import share
from safetensors import safe_open
from safetensors.torch import load_file
from small_runs import SMALL
from watch import ends_within, said, state

from cnnlab import cli, composing, config
from cnnlab.config.schema import key_types


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    original("run")
    monkeypatch.chdir(tmp_path)
    with ends_within(60):
        yield tmp_path


def refuses(call, *arguments: object, names: str, kept: Path) -> None:
    """The command says one line that holds `names`, exits 2, and leaves the folder `kept` as it was."""
    before = state(kept, kept / ".lock", kept / ".manifest.lock")
    code, *output = call(*arguments)
    assert code == 2, output
    assert said(output).count("\n") == 1
    assert output[1].startswith("error: ")
    assert names in output[1], (names, output[1])
    assert state(kept, kept / ".lock", kept / ".manifest.lock") == before


def resume(run: Path) -> tuple[object, ...]:
    return "train", f"resume={run}", "trainer.epochs=3", "console=quiet"


# --- command lines


ODD = (
    "", "=", "=1", "a", "a b=1", "--", "-x", "--no-such", "trainer", "trainer=1", "hydra=5", "resume=", "resume=nowhere",
    "sweep.name=x", "sweep.no=1", "trust=x", "trainer..epochs=1", ".epochs=1", "trainer.=1", "+trainer.zz=1", "+zz=1",
    "~trainer.epochs", "model._target_=", "model._target_=os", "model._target_=no.such.Net", "model._target_=math.pi",
    "optimizer._target_=math.sin", "schedule._target_=math.sin", "task._target_=math.sin", "augment=flip,crop",
    "data.shape=[1]", "data.shape=[0,1,1]", "data.classes=[]", "data.classes=[0,99]", "phases=[{}]", "phases=[1]",
    "parameters=[{match: 1}]", f"seed={'9' * 5000}", "trainer.epochs=1e400", "--config-dir=nowhere", "--cfg=x",
)  # fmt: skip


def _settings() -> Iterator[tuple[str, str]]:
    """A setting that cannot be meant, and what the error has to name."""
    for key, hint in key_types().items():
        last = key.rpartition(".")[2]
        yield f"{key}=[[", last
        yield f"{key}zz=1", f"{last}zz"
        if not any(one is dict or getattr(one, "__origin__", None) is dict for one in (hint, *get_args(hint))):
            yield f"{key}={{a:[1]}}", last
            yield f"{key}=1,2", last
        if hint in (int, float, bool) or set(get_args(hint)) & {int, float}:
            yield f"{key}=word", last
    for group in composing.groups():
        yield f"{group}=no-such-choice", "no-such-choice"
    for odd in ODD:
        yield odd, ""


def _lines() -> Iterator[tuple[tuple[str, ...], str]]:
    for setting, names in _settings():
        yield ("train", *SMALL, setting, "hydra.run.dir=new"), names
    for command in cli.COMMANDS:
        yield (command, "--no-such-option"), "--no-such-option"
        if command not in ("train", "summary"):
            for words in ((), ("nowhere",), ("",), ("a-file",), ("last",), ("a-folder",), ("nowhere", "elsewhere")):
                extra = ("x.png",) if command == "predict" else ()
                yield (command, *words, *extra), ""
            yield (command, "RUN", "no.such.key=1"), "no.such.key"
    for odd in (
        "trainer.epochs=[2",
        "trainer.epochs=2,3",
        "trainer.epochs={a: 1}",
        "trainer.epochs=word",
        "trainer.epochs=0",
        "[",
        "trainer.epochs=",
        "data.root=[",
        "seed=1",
        "console=1",
        "trainer.steps=5",
        "=",
        "~trainer.epochs",
    ):
        yield ("train", "resume=RUN", odd), ""
        yield ("evaluate", "RUN", odd.replace("trainer.epochs", "data.size")), ""


@pytest.mark.parametrize(("line", "names"), share(_lines(), 6))
def test_a_command_line(call, place: Path, line: tuple[str, ...], names: str) -> None:
    (place / "a-file").write_text("x")
    (place / "a-folder").mkdir()
    arguments = [word.replace("RUN", str(original("run"))) for word in line]
    before = state(original("run"))
    refuses(call, *arguments, names=names, kept=place)
    assert state(original("run")) == before


# --- configurations of recorded runs

SECTIONS_ITSELF = ("data", "model", "task", "optimizer", "schedule", "augment", "parameters", "phases", "trainer", "evaluation",
                   "checkpoint", "data.source", "augment.flip")  # fmt: skip


def _configurations() -> Iterator[tuple[str, Any]]:
    types = key_types()
    for key, value in config.flat(composing.typed(composing.compose([*SMALL, "augment=flip"]))).items():
        yield key, {"wrong": [1]}
        yield key, [["wrong"]]
        if key in types:
            if key not in config.ADDED:  # later than the first version
                yield key, "DELETE"
            yield f"{key}_", 1
            if type(None) not in (types[key], *get_args(types[key])) and not isinstance(value, dict):
                yield key, None
        if isinstance(value, int | float):
            yield key, "word"
        if isinstance(value, str):
            yield key, 7
    for section, value in itertools.product(SECTIONS_ITSELF, (None, "word", 3, "DELETE")):
        if (section, value) not in (("phases", "DELETE"), ("augment.flip", "DELETE")):  # legal
            yield section, value


@pytest.mark.parametrize(("key", "value"), share(_configurations(), 6))
def test_a_configuration(call, place: Path, key: str, value: Any) -> None:
    run = copied("run", place)

    def change(cfg: dict[str, Any]) -> None:
        if value != "DELETE":
            return put(cfg, key, value)
        *above, last = key.split(".")
        for part in above:
            cfg = cfg[part]
        del cfg[last]
        return None

    edit_yaml(run / "config.yaml", change)
    refuses(call, *resume(run), names=key.partition(".")[0], kept=run)


# --- checkpoints


def cut(path: Path, random_: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: random_.randrange(path.stat().st_size)])


def flip(path: Path, random_: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    path.write_bytes(content)


def garbage(path: Path, random_: random.Random) -> None:
    path.write_bytes(random_.randbytes(random_.randrange(5000)))


def header(path: Path, random_: random.Random) -> None:
    """A length of the header that is not that of its text."""
    path.write_bytes(struct.pack("<Q", random_.choice([0, 1, 7, 1 << 20, 1 << 40, (1 << 64) - 1])) + path.read_bytes()[8:])


def retensored(path: Path, random_: random.Random) -> None:
    """With the right hash, and a tensor that is missing, foreign, of another shape or type, or of impossible numbers."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        said_ = file.metadata()["cnnlab"]
    changes: list[Callable[[torch.Tensor], torch.Tensor | None]] = [
        lambda tensor: None,
        lambda tensor: tensor[None].clone(),
        lambda tensor: tensor.reshape(-1)[:0].clone(),
        lambda tensor: tensor > 0,
        lambda tensor: tensor.to(torch.uint8),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.to(torch.int64 if tensor.is_floating_point() else torch.bfloat16),
        lambda tensor: tensor.to(torch.float8_e4m3fn),
        lambda tensor: torch.full_like(tensor, torch.nan),
        lambda tensor: tensor.float().double().half(),
    ]
    name = random_.choice(sorted(name for name in tensors if name.startswith("model.")))
    new = random_.choice(changes)(tensors.pop(name))
    tensors |= {"model.foreign" if new is None and random_.random() < 0.5 else name: torch.zeros(1) if new is None else new}
    sign(path, tensors, said_)


def reworded(path: Path, random_: random.Random) -> None:
    """With the right hash, and a word of its metadata that cannot be."""
    own = ("model", "task", "input_shape", "classes", "numbers")
    more = ("mean", "std", "memory_format") if path.stem == "best" else ()  # which follow from the data where a run goes on
    key = random_.choice(["network", *(f"network.{key}" for key in (*own, *more))])
    value = random_.choice([None, "word", 3, 1.5, True, [], {}, [None], [[1]], {"a": {}}, 10**30, "\x1b[31m"])
    edit_meta(path, lambda meta: put(meta, key, value))


def resaid(path: Path, random_: random.Random) -> None:
    """With the right hash, and metadata that are no description."""
    text = random_.choice(
        ["", "{", "[]", "3", "null", "{}", '"x"', "[" * 100_000, '{"network": ' + "9" * 5000 + "}", "NaN", "\ud800"]
    )
    sign(path, load_file(path), text.encode(errors="replace").decode())


BREAKS = (cut, flip, garbage, header, retensored, reworded, resaid)


@pytest.mark.parametrize("seed", share(range(154), 6))
def test_a_checkpoint(call, place: Path, seed: int) -> None:
    run = copied("run", place)
    name = ("last", "best")[seed % 2]
    BREAKS[seed % len(BREAKS)](run / f"{name}.safetensors", random.Random(seed))
    command = resume(run) if name == "last" else ("evaluate", run)
    refuses(call, *command, names=f"{name}.safetensors", kept=run)


PROGRESS = [
    (key, value)
    for key in ("step", "train_s", "seconds", "best", "best_step", "bad_epochs")
    for value in ("word", -1, True, [], {}, 10**30, float("nan"), float("inf"))
    if key != "best" or value not in (-1, 10**30)  # a score may be any number
    if key not in ("train_s", "seconds") or value != 10**30
]


@pytest.mark.parametrize(("key", "value"), share(PROGRESS, 6))
def test_the_progress_in_a_checkpoint(call, place: Path, key: str, value: Any) -> None:
    run = copied("run", place)
    edit_meta(run / "last.safetensors", lambda meta: put(meta, f"progress.{key}", value))
    refuses(call, *resume(run), names="last.safetensors", kept=run)


MOMENTS: tuple[Callable[[torch.Tensor], torch.Tensor | None], ...] = (
    lambda tensor: None,
    lambda tensor: tensor[:1].clone(),
    lambda tensor: tensor.double(),
    lambda tensor: tensor > 0,
)


@pytest.mark.parametrize(("number", "change"), share(itertools.product(range(8), MOMENTS), 6))
def test_the_optimizer_in_a_checkpoint(
    call, place: Path, number: int, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> None:
    last = copied("run", place) / "last.safetensors"
    tensors = load_file(last)
    with safe_open(last, "pt") as file:
        text = file.metadata()["cnnlab"]
    name = sorted(name for name in tensors if name.startswith("optimizer.") and tensors[name].ndim)[number]
    new = change(tensors.pop(name))
    sign(last, tensors | ({} if new is None else {name: new}), text)
    refuses(call, *resume(last.parent), names=last.name, kept=last.parent)


# --- data

STEMS = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def magic(path: Path, random_: random.Random) -> None:
    path.write_bytes(random_.choice([b"", b"\0\0\x08", b"\0\0\x09\x03", b"\x1f\x8b\x08\0", b"PK\3\4"]) + path.read_bytes()[4:])


def shape(path: Path, random_: random.Random) -> None:
    """A header of other sides, of none, or of more than there is."""
    sides = random_.choice([(), (0,), (20, 28), (2**32 - 1,) * 3, (2**31, 1, 1), (20, 28, 27), (21, 28, 28), (1,) * 4])
    path.write_bytes(bytes([0, 0, 8, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + path.read_bytes()[16:])


def longer(path: Path, _: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def packed(path: Path, random_: random.Random) -> None:
    """Compressed, and then cut or flipped where the sum is."""
    content = gzip.compress(path.read_bytes())
    broken = content[: random_.randrange(len(content) - 9)] if random_.random() < 0.5 else content[:-8] + b"\0" * 8
    path.with_suffix(".gz").write_bytes(broken)
    path.unlink()


def labels(path: Path, _: random.Random) -> None:
    """Labels or images that are not as many, or not of the classes."""
    write_idx(path, np.full(21, 200, np.uint8) if "labels" in path.name else np.zeros((21, 28, 28), np.uint8))


@pytest.mark.parametrize("seed", share(range(42), 6))
def test_an_idx_file(call, place: Path, seed: int) -> None:
    raw = place / "data/MNIST/raw"
    for stem in STEMS:
        images = np.zeros((20, 28, 28), np.uint8) if "images" in stem else (np.arange(20) % 10).astype(np.uint8)
        write_idx(raw / stem, images)
    stem = STEMS[seed % len(STEMS)]
    breaks = (cut, garbage, magic, shape, longer, packed, labels)
    breaks[seed % len(breaks)](raw / stem, random.Random(seed))
    command = ("evaluate", original("run"), "data=mnist", f"data.root={place / 'data'}")
    refuses(call, *command, names=stem.partition("-")[0], kept=place)


@pytest.mark.parametrize("seed", share(range(8), 6))
def test_a_cifar_file(call, place: Path, seed: int) -> None:
    folder = place / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(bytes([0, 3073, 30_730_001][seed % 3]))
    if seed % 2:
        (folder / "test_batch.bin").unlink()
    if seed > 5:
        (folder / "test_batch.bin").unlink(missing_ok=True)
        (folder / "test_batch.bin").mkdir()
    command = ("train", *SMALL[3:], "data=cifar10", "data.download=false", f"data.root={place}", "hydra.run.dir=new")
    refuses(call, *command, names="cifar-10-batches-bin", kept=place)


FOLDERS: list[tuple[str, ...]] = [
    (), ("a/1.png",), ("a/1.png", "b/x.txt"), ("a/", "b/"), ("a/1.png", "A/1.png"), ("1.png", "2.png"),
    ("train/a/1.png", "train/b/1.png", "test/c/1.png"), ("test/a/1.png", "test/b/1.png"), (".a/1.png", "b/1.png"),
    ("train/a/1.png", "train/b/1.png", "training/a/1.png", "training/b/1.png"), ("a/1.png", "b/1.png"), ("a/b/c/1.png",),
]  # fmt: skip


@pytest.mark.parametrize("files", share(FOLDERS, 6))
def test_a_folder_of_pictures(call, place: Path, files: tuple[str, ...]) -> None:
    root = place / "pictures"
    root.mkdir()
    for name in files:
        (root / name).mkdir(parents=True) if name.endswith("/") else picture(root / name)
    command = ("train", *SMALL[3:], "data=folder", f"data.root={root}", "data.size=8", "hydra.run.dir=new")
    refuses(call, *command, names="pictures", kept=place)


# --- what a run or a sweep recorded

RECORDS = (
    "", "{", "[]", "3", "null", '"x"', "{}}", "\xff", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', f'{{"a": {"9" * 5000}}}',
    f'{{"a": {"[" * 60}{"]" * 60}}}', f'{{"a": [{"[]," * 600_000}[]]}}',
)  # fmt: skip


def sweep_again(sweep: Path) -> tuple[object, ...]:
    return "train", *SWEPT, f"hydra.sweep.dir={sweep}"


@pytest.mark.parametrize("text", share(RECORDS, 6))
@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "environment.json", "manifest.json"])
def test_a_record_that_is_none(call, place: Path, name: str, text: str) -> None:
    folder = copied("sweep" if name == "manifest.json" else "run", place)
    lines = "\n\n\n" if name == "metrics.jsonl" else ""  # or what stops at the end is passed over, as after a power cut
    (folder / name).write_bytes((text + lines).encode("latin-1"))
    refuses(call, *(sweep_again if name == "manifest.json" else resume)(folder), names=name, kept=folder)


WRONG = {int: ("word", -1, 1.5, True, None, [], {}), float: ("word", [], {}, True), str: (), bool: ()}
FIELDS = [
    *(("result.json", key, wrong) for key in ("epochs", "steps", "parameters", "seconds", "test.loss", "test.accuracy")
      for wrong in WRONG[float if key in ("seconds", "test.loss", "test.accuracy") else int]),
    *(("result.json", "status", wrong) for wrong in (None, 3, "nope", [], {})),
    *(("result.json", "test", wrong) for wrong in (None, 3, "word", [], {})),
    *(("metrics.jsonl", key, wrong)
      for key in ("epoch", "step", "lr", "train_s", "images_per_s", "train_loss", "train_accuracy")
      for wrong in WRONG[int if key in ("epoch", "step") else float]),
    *(("manifest.json", f"jobs.1.{key}", wrong) for key in ("directory", "overrides", "recipe", "seed", "status", "drawn")
      for wrong in (None, 1.5, [[1]], {"a": 1})),
    *(("manifest.json", f"jobs.1.{key}", wrong) for key in ("cause", "split", "metric", "score", "seconds", "exit_code")
      for wrong in ([], {"a": 1}, True)),
    *(("manifest.json", "jobs", wrong) for wrong in (None, 3, "word", [3], [None], [{}], {"a": 1})),
    *(("manifest.json", f"jobs.1.{key}", "DELETE") for key in ("directory", "overrides", "recipe", "seed")),
    *(("environment.json", f"data.{key}", wrong) for key in ("train_digest", "test_digest") for wrong in (None, 3, [], {})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key", "value"), share(FIELDS, 6))
def test_a_field_of_a_record(call, place: Path, name: str, key: str, value: Any) -> None:
    folder = copied("sweep" if name == "manifest.json" else "run", place)

    def change(content: dict[str, Any]) -> None:
        put(content, key, value)
        if value == "DELETE":
            del content["jobs"][1][key.rpartition(".")[2]]

    if name == "metrics.jsonl":
        first, *rest = (folder / name).read_text().splitlines(keepends=True)
        content = json.loads(first)
        change(content)
        (folder / name).write_text("".join([json.dumps(content) + "\n", *rest]))
    else:
        edit_json(folder / name, change)
    again = sweep_again if name == "manifest.json" else resume
    refuses(call, *again(folder), names="images" if name == "environment.json" else name, kept=folder)


@pytest.mark.parametrize("seed", share(range(10), 6))
def test_a_journal_of_a_search(call, place: Path, seed: int) -> None:
    pytest.importorskip("optuna")
    search = copied("search", place)
    path, random_ = search / "study.journal", random.Random(seed)
    lines = path.read_text().splitlines(keepends=True)
    at = random_.randrange(len(lines) - 1)
    lines[at] = random_.choice(
        ["word\n", "[]\n", "3\n", '{"op_code": 99}\n', "{}\n", '{"op_code": 0}\n', "\0\n", "[" * 100_000 + "\n"]
    )
    path.write_text("".join(lines))
    refuses(call, "train", *searching(search, 3), names="study.journal", kept=search)


# --- pictures

KINDS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


@pytest.mark.parametrize("seed", share(range(50), 6))
def test_a_picture(call, place: Path, seed: int) -> None:
    random_, kind = random.Random(seed), KINDS[seed % len(KINDS)]
    good, bad = picture(place / "good.png"), place / f"bad.{kind.lower()}"
    Image.effect_noise((64, 64), 80).save(bad, kind)
    size = bad.stat().st_size
    content = [
        lambda: bad.read_bytes()[: random_.randrange(size // 2)],
        lambda: random_.randbytes(200),
        lambda: bytes(200),
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        lambda: bad.read_bytes()[8:],
    ][seed // len(KINDS) % 6]()
    bad.write_bytes(content)
    before = state(place)
    code, *output = call("predict", original("run"), bad, good)
    assert code == 2, output
    assert [line for line in said(output).splitlines() if line.startswith(f"cannot read {bad}")]
    assert "good.png" in output[0]
    assert state(place) == before
