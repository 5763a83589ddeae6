"""What the rows of docs/RELIABILITY.md share: how many of its cases a row runs, and commands in processes of their own."""

import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from conftest import WHOLE
from small_runs import SMALL

from cnnlab import cli
from cnnlab.sweep.pool import PRELOADED

TWO_EPOCHS = (*SMALL, "trainer.epochs=2", "checkpoint.every_s=0")
LONG = (*SMALL, "data.limit=2000", "trainer.epochs=8", "checkpoint.every_s=0.1", "model.hidden_dropout=0.1", "augment=[flip]")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Case = TypeVar("Case")

# Under nohup or in the background of a script, these are ignored, and every process that is started here would inherit that.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)


def share(cases: Iterable[Case], one_in: int) -> list[Case]:
    """Return all cases in the whole protocol, otherwise one in `one_in`."""
    return list(itertools.islice(cases, 0, None, 1 if WHOLE else one_in))


def goes_on(call, run: Path, settings: tuple[str, ...] = TWO_EPOCHS) -> None:
    """Resume the run if it has begun, otherwise start it, as its user would; it has to end well."""
    begun = (run / "config.yaml").exists()
    code, _, err = call("train", f"resume={run}") if begun else call("train", *settings, f"hydra.run.dir={run}")
    assert code == 0, err


def start(log: Path, *arguments: str) -> BaseProcess:
    """Start `python -m cnnlab.train ARGUMENTS`, forked from a process that has torch loaded already; it prints to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    process = context.Process(target=_command, args=(log, arguments))
    process.start()
    return process


def _command(log: Path, arguments: tuple[str, ...]) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.exit(cli.run("train", arguments))


def ended(process: BaseProcess, within_s: float = 60) -> int:
    """Return the exit code of a process, negative for the signal that killed it; kill it and fail if it does not end."""
    process.join(within_s)
    if process.exitcode is None:
        os.kill(process.pid or 0, signal.SIGKILL)
        raise AssertionError(f"still running after {within_s:.0f} s")
    return process.exitcode


def send(process: int, chance: random.Random, first_s: float, last_s: float) -> set[int]:
    """Send a signal at a random moment, every third time another soon after, and return the exit codes that are then right."""
    time.sleep(chance.uniform(first_s, last_s))
    sent = [chance.choice(SIGNALS)]
    if chance.random() < 1 / 3:
        sent.append(chance.choice(SIGNALS))
    codes = {0}  # it had already ended
    for number in sent:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            break
        codes |= {128 + number, -number}
        time.sleep(chance.uniform(0, 0.1))
    return codes


def users_of(folder: Path) -> Iterator[int]:
    """Yield the other processes that have a file below `folder` open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(link.startswith(f"{folder.resolve()}/") for link in links):
            yield int(process.name)
