"""Worker processes, one per job: forked from a server that has torch loaded, and ended when their parent ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from cnnlab.errors import ResourceError
from cnnlab.training.interrupt import StopRequest

PRELOADED = "cnnlab.sweep.preload"  # packages and data: 3 s once instead of in every job
LOOK_EVERY_S = 0.5

Arguments = tuple[Any, ...]


@dataclass
class Outcome:
    """How a job's process ended. value: what the job returned, None if it died. exit_code: negative for a signal."""

    value: Any
    exit_code: int


@dataclass
class Worker:
    number: int
    process: BaseProcess
    results: Connection
    slot: int


def run_all(
    function: Callable[..., Any],
    jobs: Sequence[Arguments],
    slots: Sequence[Mapping[str, str]],
    ended: Callable[[int, Outcome], None],
    look: Callable[[bool], None],
) -> int | None:
    """Call `function(*job)` for every job, each in its own process, as many at a time as there are slots.

    Args:
        function: defined at the top level of a module, so that it can be pickled; what it returns is small.
        slots: the environment variables of each slot, which a job running in it gets.
        ended: called with a job's number and outcome when it ends.
        look: called twice a second, with whether a signal has stopped the jobs; what it raises ends all of them.

    Returns:
        The signal that stopped the jobs, or None. After it no job is begun, and running ones are told to stop and waited for.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    os.environ["PYTHONSAFEPATH"] = "1"  # or modules in the current directory could replace Python's own
    waiting, free, running = list(enumerate(jobs)), list(range(len(slots))), list[Worker]()
    told = False
    with StopRequest(tell=False) as stop:
        while running or (waiting and stop.signal_number is None):
            while waiting and free and stop.signal_number is None:
                number, arguments = waiting.pop(0)
                slot = free.pop(0)
                running.append(_start(context, number, slot, slots[slot], function, arguments))
            wait([worker.process.sentinel for worker in running], LOOK_EVERY_S)
            if stop.signal_number is not None and not told:
                told = True
                for worker in running:
                    with suppress(ProcessLookupError):  # it has just ended
                        os.kill(worker.process.pid or 0, signal.SIGTERM)
                        os.kill(worker.process.pid or 0, signal.SIGCONT)  # or a suspended process would never get it
            for worker in [worker for worker in running if not worker.process.is_alive()]:
                running.remove(worker)
                free.append(worker.slot)
                ended(worker.number, _outcome(worker))
            try:
                look(stop.signal_number is not None)
            except BaseException:
                for worker in running:
                    worker.process.terminate()
                raise
    return stop.signal_number


def _start(
    context: Any,
    number: int,
    slot: int,
    environment: Mapping[str, str],
    function: Callable[..., Any],
    arguments: Arguments,
) -> Worker:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, dict(environment), function, arguments))
    for again in (True, False):
        try:
            process.start()
            break
        except (EOFError, ConnectionError) as error:  # of the server that forks the workers; the next call starts a new one
            if not again:
                told = "the process that starts the sweep's workers was killed, perhaps because memory ran out"
                raise ResourceError(f"{told}; run the same command again") from error
    sender.close()
    return Worker(number, process, receiver, slot)


def _outcome(worker: Worker) -> Outcome:
    worker.process.join()
    value = None
    with worker.results, suppress(EOFError):
        value = worker.results.recv()
    return Outcome(value, worker.process.exitcode or 0)


def _work(results: Connection, environment: Mapping[str, str], function: Callable[..., Any], arguments: Arguments) -> None:
    """Call the function in the worker, and send back what it returns."""
    os.setpgid(0, 0)  # a terminal's Ctrl-C goes only to the parent, which asks each worker once
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.update(environment)
    results.send(function(*arguments))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
