"""Reasons to stop that the training loop reads, so that a run stops where it can be continued: Ctrl-C and SIGTERM as a flag,
and whoever prunes it."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

PruneReason = Callable[[], str | None]  # asked after each scoring: why the run is to be pruned, if it is
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """While entered, and where no StopRequest is, SIGTERM ends the process through its `finally` blocks, with 143."""
    if threading.current_thread() is not threading.main_thread():  # where Python refuses handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """While entered, the first Ctrl-C or SIGTERM sets `signal_number`; the second one ends the process at once, but at an
    interactive prompt or in a notebook only the call."""

    def __init__(self, tell: bool = True) -> None:
        self.signal_number: int | None = None
        self.tell = tell  # on stderr, at once; where a display is live, that tells better
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            for number in NAMES:
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        for each in NAMES:
            signal.signal(each, self._before[each] if hasattr(sys, "ps1") else signal.SIG_DFL)
        if self.tell:
            with suppress(OSError):  # the reader of stderr may have died of the same Ctrl-C
                os.write(2, f"\n{NAMES[signal.Signals(number)]}: saving; once more to leave at once\n".encode())
