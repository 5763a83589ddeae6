"""Row 5: checkpoints that are malformed: one line that names the thing, exit 2, nothing lost."""

import itertools
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made import copied, edit_meta, put, sign
from malformed import cut, garbage, refuses, resume
from malformed import place as place
from protocol import share
from safetensors import safe_open
from safetensors.torch import load_file
from small_runs import SMALL


def flip(path: Path, random_: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    path.write_bytes(content)


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
        [
            "",
            "{",
            "[]",
            "3",
            "null",
            "{}",
            '"x"',
            "[" * 100_000,
            '{"network": ' + "9" * 5000 + "}",
            "NaN",
            "\ud800",
            '{"network": {"classes": ["\\ud800"]}}',
        ]
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


def test_a_checkpoint_of_60_gib_is_not_read(call, place: Path) -> None:
    last = copied("run", place) / "last.safetensors"
    with safe_open(last, "pt") as file:
        told = file.metadata()
    size = 60 << 30
    head = json.dumps({"__metadata__": told, "model.x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with last.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + size)
    for command in (resume(last.parent), ("evaluate", last.parent, "evaluation.weights=last")):
        refuses(call, *command, names=last.name, kept=last.parent)


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


def replaced(tensors: dict[str, torch.Tensor], numbers: dict[str, Any], key: str, number: Any) -> None:
    """A number for what is a tensor, or beside it."""
    numbers["dense.dense0.weight.exp_avg"] = number


def foreign(tensors: dict[str, torch.Tensor], numbers: dict[str, Any], key: str, number: Any) -> None:
    numbers["dense.dense0.weight.other"] = number


def without(tensors: dict[str, torch.Tensor], numbers: dict[str, Any], key: str, number: Any) -> None:
    """No parameter has it."""
    for name in [name for name in tensors if name.endswith(key)]:
        del tensors[name]


def every(tensors: dict[str, torch.Tensor], numbers: dict[str, Any], key: str, number: Any) -> None:
    tensors.update({name: torch.tensor(float(number or 0)) for name in tensors if name.endswith(key)})


@pytest.mark.parametrize(
    ("change", "key", "number"),
    [(replaced, "", 5), (replaced, "", None), (replaced, "", [1]), (foreign, "", 5), (without, ".exp_avg", None),
     (without, ".step", None), (every, ".step", -5), (every, ".step", float("nan")), (every, ".exp_avg", 1)],
)  # fmt: skip
def test_the_kinds_of_optimizer_state(call, place: Path, change: Callable[..., None], key: str, number: Any) -> None:
    last = copied("run", place) / "last.safetensors"
    tensors = load_file(last)
    with safe_open(last, "pt") as file:
        meta = json.loads(file.metadata()["cnnlab"])
    change(tensors, meta["optimizer_numbers"], key, number)
    sign(last, tensors, json.dumps(meta))
    refuses(call, *resume(last.parent), names=last.name, kept=last.parent)


@pytest.mark.parametrize("new", [None, torch.zeros(5, 1), torch.zeros(8, 1).double()])
def test_state_that_has_not_the_shape_of_its_parameter(call, place: Path, new: torch.Tensor | None) -> None:
    settings = ("optimizer._target_=torch.optim.Adafactor", "optimizer.lr=0.01", "trainer.epochs=1", "hydra.run.dir=other")
    assert call("train", *SMALL, *settings)[0] == 0
    last = Path("other/last.safetensors")
    with safe_open(last, "pt") as file:
        text = file.metadata()["cnnlab"]
    tensors = load_file(last)
    del tensors["optimizer.dense.dense0.weight.row_var"]
    sign(last, tensors | ({} if new is None else {"optimizer.dense.dense0.weight.row_var": new}), text)
    refuses(call, *resume(last.parent), names=last.name, kept=last.parent)


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
