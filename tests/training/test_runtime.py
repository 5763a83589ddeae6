"""Device, threads and precision, as asked and as resolved."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import SMALL

from cnnlab import composing
from cnnlab.config.schema import TrainerConfig
from cnnlab.errors import ConfigError
from cnnlab.training import runtime
from cnnlab.training.runtime import Runtime, configure, describe


@pytest.fixture(autouse=True)
def torch_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def trainer(*overrides: str) -> TrainerConfig:
    return composing.typed(composing.compose(["trainer.device=cpu", *overrides])).trainer


@pytest.mark.parametrize(("asked", "resolved"), [("1", 1), ("null", 3)])
def test_threads_as_asked_or_as_many_as_the_process_may_use(asked: str, resolved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert configure(trainer(f"trainer.threads={asked}")).threads == torch.get_num_threads() == resolved


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_is_switched_on_and_off(deterministic: bool) -> None:
    configure(trainer(f"trainer.deterministic={str(deterministic).lower()}"))
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic


@pytest.mark.parametrize(
    ("asked", "count", "resolved"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_devices(asked: str, count: int, resolved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert configure(trainer(f"trainer.device={asked}")).device == torch.device(resolved)


@pytest.mark.parametrize(
    "asked",
    ["cuda", "cuda:2", "gpu", "cuda:x", "cuda:", "cuda:-1", f"cuda:{'9' * 5000}", "cuda:\N{SUPERSCRIPT TWO}", "tpu", "cpu:0"],
)
def test_devices_that_are_not_there(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0 if asked == "cuda" else 2)
    with pytest.raises(ConfigError, match=f"trainer.device={asked}: "):
        configure(trainer(f"trainer.device='{asked}'"))


def test_tf32_is_for_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.precision=tf32"):
        configure(trainer("trainer.precision=tf32"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    configure(trainer("trainer.precision=tf32", "trainer.device=cuda"))
    assert torch.backends.cuda.matmul.allow_tf32
    configure(trainer("trainer.device=cuda"))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_follows_the_precision(precision: str, dtype: torch.dtype) -> None:
    values = torch.ones(2, 2)
    with Runtime(torch.device("cpu"), 1, precision).autocast():
        assert (values @ values).dtype == dtype


def test_describe_names_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    info = Path("/proc/cpuinfo")
    if info.exists() and "model name" in info.read_text():
        assert f": {describe(torch.device('cpu'))['device'].partition(' (')[0]}\n" in info.read_text()
    monkeypatch.setattr(runtime, "open", lambda _: os.open("/no/such/file", os.O_RDONLY), raising=False)
    monkeypatch.setattr(runtime.platform, "processor", lambda: "some processor")
    assert describe(torch.device("cpu"))["device"] == "some processor"


def test_configuration_loads_no_torch_and_a_run_no_compiler(tmp_path: Path) -> None:
    """torch._dynamo and torch._inductor take longer to import than a small run to train."""
    quick = [*SMALL, "trainer.steps=2", f"hydra.run.dir={tmp_path / 'run'}"]
    code = f"""
import sys
from cnnlab import cli, composing
composing.typed(composing.compose({quick[:2]!r}))
loaded = {{"torch"}} & set(sys.modules)
code = cli.run("train", {quick!r})
loaded |= {{"torch._dynamo", "torch._inductor", "torchvision"}} & set(sys.modules)
sys.exit(code or ", ".join(loaded) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
