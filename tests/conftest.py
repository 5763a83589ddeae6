"""Small data sets in the official formats, and fixtures that call commands in this process."""

import gzip
import json
import os
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from cnnlab import cli, composing, data

WHOLE = bool(os.environ.get("CNNLAB_TORTURE"))  # tests/reliability: every case, not only CI's share
PASSED = Path("outputs/torture.txt").absolute()  # tests that passed in an earlier, stopped call; removed when all have


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    passed = set(PASSED.read_text().splitlines()) if WHOLE and PASSED.exists() else set()
    items[:] = [item for item in items if item.nodeid not in passed]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if WHOLE and report.when == "call" and report.passed:
        PASSED.parent.mkdir(exist_ok=True)
        with PASSED.open("a") as file:
            file.write(f"{report.nodeid}\n")


def pytest_sessionfinish(exitstatus: int) -> None:
    if WHOLE and exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        PASSED.unlink(missing_ok=True)


def choices(group: str) -> list[str]:
    """Return the complete choices of a config group, not `custom`, `folder` or `transfer`, which need a name, pictures or a
    run."""
    return [name for name in composing.groups()[group] if name not in ("custom", "folder", "transfer")]


@cache
def optimizer_section(choice: str) -> dict[str, Any]:
    """Return the configured section of "sgd" or "sgd optimizer.momentum=0.9"."""
    name, *overrides = choice.split()
    return dict(OmegaConf.to_container(composing.compose([f"optimizer={name}", *overrides]).optimizer))


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write `array` (uint8) as an IDX file, compressed when the name ends in .gz."""
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_cifar(root: Path, records: int) -> None:
    """Write the six files of CIFAR-10's binary version with `records` random images each."""
    random = np.random.default_rng(5)
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]:
        content = random.integers(0, 256, (records, 3073), dtype=np.uint8)
        content[:, 0] = np.arange(records) % 10
        (folder / name).write_bytes(content.tobytes())


def assert_same_run(one: Path, other: Path) -> None:
    """Check that weights, optimizer, predictions and metrics, except times, of two runs are the same bits."""
    for name in ("last", "best", "predictions"):
        a, b = load_file(one / f"{name}.safetensors"), load_file(other / f"{name}.safetensors")
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), f"{name}: {key}"
    assert metrics(one) == metrics(other)


def metrics(run: Path) -> list[dict[str, float]]:
    """Return the lines of metrics.jsonl without their times."""
    timeless = {"train_s", "images_per_s"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timeless} for line in lines]


@pytest.fixture(scope="session", autouse=True)
def digits_are_drawn_once() -> None:
    """Draw the digits once, which saves a quarter of a second for each run of this process."""
    data.share(composing.typed(composing.compose(["data=digits"])).data)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """MNIST and Fashion-MNIST with 300 training and 100 test images each, random pixels, labels 0 to 9 in turn."""
    random = np.random.default_rng(4)
    root = tmp_path / "data"
    for name in ("MNIST", "FashionMNIST"):
        for prefix, count in (("train", 300), ("t10k", 100)):
            images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            write_idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte.gz", images)
            write_idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return root


@pytest.fixture
def mnist(tmp_path: Path) -> str:
    """Four images: gray 40, 80, 120, 160, one pixel of 255 in each."""
    images = (torch.arange(1, 5, dtype=torch.uint8) * 40).view(4, 1, 1).repeat(1, 28, 28)
    images[:, 13, 14] = 255
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-images-idx3-ubyte", images.numpy())
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-labels-idx1-ubyte", torch.arange(4, dtype=torch.uint8).numpy())
    return str(tmp_path)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """call("train", "data=digits", ...) runs a command in this process: (exit code, stdout, stderr)."""

    def run(command: str, *arguments: object, package: str = "cnnlab") -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run(command, [str(argument) for argument in arguments], package)
        out, err = capsys.readouterr()
        return code, out, err

    return run
