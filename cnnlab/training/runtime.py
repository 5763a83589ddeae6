"""A run's device, threads, precision and memory. The only place that sets torch's global state."""

import ctypes
import os
import platform
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from cnnlab.config.schema import MOST_THREADS, TrainerConfig
from cnnlab.errors import ConfigError
from cnnlab.machine import num_cores


@dataclass(frozen=True)
class Runtime:
    """The resolved device (with its index), number of CPU threads and precision."""

    device: torch.device
    threads: int
    precision: str

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass: bf16 autocast if the precision is bf16."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


def configure(cfg: TrainerConfig) -> Runtime:
    """Resolve device and threads, and set torch up for them.

    Raises:
        ConfigError: a missing device, or a precision that it does not support.
    """
    device = find_device(cfg.device)
    if cfg.precision == "tf32" and device.type != "cuda":
        raise ConfigError("trainer.precision=tf32: only CUDA devices have it, and this run is on the CPU; use fp32 or bf16")
    threads = cfg.threads or min(num_cores(), MOST_THREADS)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.precision == "tf32"
    if torch.are_deterministic_algorithms_enabled() != cfg.deterministic:  # setting it imports torch._inductor: 1.1 s
        torch.use_deterministic_algorithms(cfg.deterministic)
    torch.backends.cudnn.benchmark = not cfg.deterministic
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    keep_freed_memory()
    keep_dynamo_out()
    return Runtime(device, threads, cfg.precision)


def keep_dynamo_out() -> None:
    """Keep torch's optimizers from importing torch._dynamo (1.8 s), which they do to exclude a few methods from torch.compile.

    Each of these methods looks for the version of itself that `torch._dynamo.disable` returned; without torch.compile that is
    the plain method. On a version of torch that does this differently, nothing changes.
    """
    if "torch._dynamo" in sys.modules:  # somebody compiles
        return
    for method in vars(torch.optim.Optimizer).values():
        if (plain := getattr(method, "__wrapped__", None)) is not None:
            setattr(plain, "__dynamo_disable", plain)


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks: by default it returns those over 128 KB to the kernel and gets them back, page fault by
    page fault, at every step. This cuts a LeNet epoch from 4.5 to 3.2 s, a Chollet step from 14 to 9 ms (2 cores). Turning off
    its lists of small free blocks, which it merges with every large allocation, cuts a LeNet step by another 2 %."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    max_fast, trim_threshold, top_pad, mmap_threshold = 1, -1, -2, -3  # malloc.h
    mallopt(max_fast, 0)
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 1 << 26)


def describe(device: torch.device) -> dict[str, str]:
    """The hardware that the bits of a run depend on: "device", the name of the GPU or CPU, and "instructions", the CPU
    instruction set that torch's kernels use ("AVX512") or the GPU's compute capability ("9.0")."""
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        return {"device": torch.cuda.get_device_name(device), "instructions": capability}
    return {"device": _cpu_name(), "instructions": torch.backends.cpu.get_cpu_capability()}


def _cpu_name() -> str:
    """The CPU's name, with family and model number on Linux, since under a hypervisor the name may hide the generation."""
    try:
        with open("/proc/cpuinfo") as info:
            first = info.read().partition("\n\n")[0]
    except OSError:
        first = ""
    told = dict(line.replace("\t", "").partition(":")[::2] for line in first.splitlines())
    name = told.get("model name", "").strip() or platform.processor() or platform.machine()
    return f"{name} (family{told['cpu family']}, model{told['model']})" if {"cpu family", "model"} <= told.keys() else name


def find_device(name: str, key: str = "trainer.device") -> torch.device:
    """The device that `name` refers to; `key` is the setting, for the error.

    Raises:
        ConfigError: there is no such device.
    """
    count = torch.cuda.device_count() if name == "auto" or name.startswith("cuda") else 0
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (name == "cuda" or re.fullmatch("[0-9]{1,4}", index)):
        raise ConfigError(f"{key}={name}: expected auto, cpu, cuda or cuda:N")
    if int(index or 0) >= count:
        raise ConfigError(f"{key}={name}: torch sees {count} CUDA devices here; use {key}=cpu")
    return torch.device("cuda", int(index or 0))
