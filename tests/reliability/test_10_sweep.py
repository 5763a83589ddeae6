"""Row 10: a sweep of 20 jobs with nine ways to fail: causes named, the rest done, and again only those that failed."""

from pathlib import Path

import pytest
from protocol import share

from cnnlab.status import Status
from cnnlab.sweep.manifest import Manifest

NETWORK = """
import os, signal, sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, how):
        super().__init__()
        self.dense, self.how = nn.Linear(784, num_outputs), how
    def forward(self, images):
        how = "" if os.path.exists("mended") else self.how
        if self.training:
            if how == "raises": raise ValueError("no such shape today")
            if how == "is_killed": os.kill(os.getpid(), signal.SIGKILL)
            if how == "crashes": os.kill(os.getpid(), signal.SIGSEGV)
            if how == "leaves": os._exit(7)
            if how == "exits": sys.exit(9)
            if how == "needs_memory": raise MemoryError
            if how == "never_returns": self.forward(images)
            if how == "fills_the_disk": raise OSError(28, "No space left on device")
            if how == "diverges": return self.dense(images.flatten(1)) * torch.nan
        return self.dense(images.flatten(1))
"""
QUICK = ("data=digits", "data.limit=100", "data.validation=50", "model=custom", "trainer.epochs=1", "trainer.threads=1",
         "console=quiet")  # fmt: skip
WAYS = {  # what the recorded cause names
    "raises": "no such shape today", "is_killed": "SIGKILL", "crashes": "SIGSEGV", "leaves": "7", "exits": "9",
    "needs_memory": "memory", "never_returns": "recursion", "fills_the_disk": "No space left", "diverges": "step 1",
}  # fmt: skip


@pytest.mark.parametrize("order", share(range(5), 5))
def test_nine_ways_to_fail(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = f"failing{order}"  # a fresh name: Python keeps a module that it has imported
    Path(f"{module}.py").write_text(NETWORK)
    values = [*WAYS, *(f"works_{number}" for number in range(11))]
    values = values[order:] + values[:order]
    line = ("-m", *QUICK, f"model._target_={module}.Net", f"model.how={','.join(values)}", "hydra.sweep.dir=night")
    code, _, err = call("train", *line)
    assert code != 0
    jobs = {job.values["model.how"]: job for job in Manifest(Path("night")).jobs()}
    assert len(jobs) == 20, err
    for way, job in jobs.items():
        if way in WAYS:
            assert job.status in (Status.FAILED, Status.DIVERGED, Status.INTERRUPTED), way
            assert WAYS[way].lower() in (job.cause or "").lower(), way
        else:
            assert job.status == Status.FINISHED, way
    finished = {path: path.stat().st_mtime_ns for path in Path("night").glob("*works*/result.json")}
    Path("mended").touch()
    assert call("train", *line)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert {job.status for job in Manifest(Path("night")).jobs()} == {Status.FINISHED}
