"""Row 13: thousands of runs: memory and open files stay, and the last takes as long as the first."""

import gc
import os
import time
from pathlib import Path
from statistics import median

from conftest import WHOLE
from small_runs import SMALL

from cnnlab import cli
from cnnlab.status import Status
from cnnlab.sweep.manifest import Manifest

RUNS, JOBS = (2000, 300) if WHOLE else (50, 10)


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_runs_in_one_process(tmp_path: Path) -> None:
    seconds: list[float] = []
    first_files = first_memory = 0
    for number in range(RUNS):
        began = time.perf_counter()
        assert cli.run("train", [*SMALL, "trainer.epochs=1", f"seed={number}", f"hydra.run.dir={tmp_path / str(number)}"]) == 0
        seconds.append(time.perf_counter() - began)
        if number == RUNS // 5:  # caches are filled
            first_files, first_memory = open_files(), resident()
    assert open_files() <= first_files
    assert resident() < 1.02 * first_memory
    if WHOLE:  # a ratio of medians over hundreds of runs; a few runs on a shared machine say nothing
        assert median(seconds[-RUNS // 5 :]) < 1.2 * median(seconds[RUNS // 5 : 2 * RUNS // 5])


def test_jobs_of_one_sweep(call, tmp_path: Path) -> None:
    files = open_files()
    sweep = tmp_path / "sweep"
    assert call("train", "-m", *SMALL, "trainer.epochs=1", f"seed=range({JOBS})", f"hydra.sweep.dir={sweep}")[0] == 0
    assert [job.status for job in Manifest(sweep).jobs()] == [Status.FINISHED] * JOBS
    assert open_files() <= files + 4  # the server that workers are forked from, once a process
