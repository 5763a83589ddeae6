"""The cores of the machine, and who else computes on them. Loads no torch, which must not be loaded before `share_cores`."""

import os
import sys
import time

LOOKS, BETWEEN_S = 5, 0.002  # what computes all the time is there at every look; a shell that starts something is not


def share_cores() -> None:
    """Let OpenMP's threads that wait give their core back after 1000 rounds, where other processes compute already.

    After every operation the threads wait for each other, by default without giving the core back, and one of them may have
    none meanwhile. The bits do not depend on it; figures: docs/BENCHMARKS.md, "Beside other work". What the user has set
    stays, and where torch is loaded it is too late.
    """
    if "torch" not in sys.modules and not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} and is_busy():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def is_busy() -> bool:
    """Whether other processes compute, more of them than there are cores that this process may not use; Linux only."""
    spare = (os.cpu_count() or 1) - num_cores()
    for look in range(LOOKS):
        if look:
            time.sleep(BETWEEN_S)
        if num_running() - 1 <= spare:
            return False
    return True


def num_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_running() -> int:
    """Threads that run or wait for a core now, this one included: the fourth field of /proc/loadavg; 1 where there is none."""
    try:
        with open("/proc/loadavg") as file:
            return int(file.read().split()[3].partition("/")[0])
    except OSError:
        return 1
