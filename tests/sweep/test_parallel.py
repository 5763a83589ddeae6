"""Where the jobs of a sweep run."""

import os
from types import SimpleNamespace

import pytest
import torch

from cnnlab.errors import ResourceError
from cnnlab.sweep import pool
from cnnlab.sweep.parallel import slots


def places(jobs: int, at_a_time: int | None = None, per_gpu: int = 1, device: str = "auto") -> list[str | None]:
    """The GPU of each slot; None where the job's environment says nothing."""
    given = SimpleNamespace(
        jobs=at_a_time, jobs_per_gpu=per_gpu, config=SimpleNamespace(trainer=SimpleNamespace(device=device))
    )
    return [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots(given, jobs)]  # type: ignore[arg-type]


def test_on_the_cpu_as_many_jobs_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert places(9) == [None] * 3
    assert places(2) == [None] * 2
    assert places(9, at_a_time=5) == [None] * 5


def test_on_gpus_neighbours_get_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert places(9) == ["0", "1"]
    assert places(9, per_gpu=2) == ["0", "1", "0", "1"]
    assert places(1, per_gpu=2) == ["0"]
    assert places(9, at_a_time=3, per_gpu=2) == ["0", "1", "0"]
    assert places(9, per_gpu=3, device="cuda:1") == [None] * 3  # it says itself where
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert places(9, device="cuda") == ["5", "7"]
    assert len(places(9, device="cpu")) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("deaths", "started"), [(1, True), (2, False)])
def test_workers_outlive_one_death_of_the_server_that_forks_them(deaths: int, started: bool) -> None:
    left = [EOFError("unexpected EOF")] * deaths

    def start() -> None:
        if left:
            raise left.pop()

    pipe = (None, SimpleNamespace(close=lambda: None))
    context = SimpleNamespace(Pipe=lambda duplex: pipe, Process=lambda **_: SimpleNamespace(start=start))
    if started:
        assert pool._start(context, 3, 1, {}, print, ()).number == 3
    else:
        with pytest.raises(ResourceError, match="same command again"):
            pool._start(context, 3, 1, {}, print, ())
