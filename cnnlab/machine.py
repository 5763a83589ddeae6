"""The CPU cores, and whether others use them. Does not import torch, which must not be imported before `share_cores`."""

import os
import sys
import time

LOOKS, BETWEEN_S = 5, 0.002  # real work shows at every look; a shell that starts something does not


def share_cores() -> None:
    """Let waiting OpenMP threads give up their core after 1000 rounds, if other processes are computing.

    After every operation the threads wait for each other, by default without giving up their core, while one of them may have
    none. Results do not change by a bit; measurements: docs/BENCHMARKS.md, "Beside other work". The user's settings are kept,
    and nothing happens if torch is already loaded.
    """
    if "torch" not in sys.modules and not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} and is_busy():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def is_busy() -> bool:
    """Whether other processes need more cores than those that this process may not use; Linux only."""
    spare = (os.cpu_count() or 1) - num_cores()
    for look in range(LOOKS):
        if look:
            time.sleep(BETWEEN_S)
        if num_running() - 1 <= spare:
            return False
    return True


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_running() -> int:
    """Return how many threads run or wait for a core, including this one, from /proc/loadavg; 1 without that file."""
    try:
        with open("/proc/loadavg") as file:
            return int(file.read().split()[3].partition("/")[0])
    except OSError:
        return 1
