"""Reasons to stop, which the training loop polls so that a run stops where it can be continued: Ctrl-C, SIGTERM and SIGHUP (a
closed terminal) as a flag, and pruning."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]
PruneReason = Callable[[], str | None]  # called after each scoring: why the run is to be pruned, or None
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def _heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """The signals to handle: all but a SIGHUP that is already ignored, as under nohup."""
    return [one for one in numbers if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


def after_imports(handler: Handler) -> Handler:
    """Wrap `handler` so that it waits until no import is under way: torch's C code clears an exception raised while it imports
    numpy, which is then left half imported."""

    def called(number: int, frame: FrameType | None) -> None:
        outer = frame
        while outer is not None and outer.f_code.co_filename != "<frozen importlib._bootstrap>":
            outer = outer.f_back
        if outer is None:
            handler(number, frame)
            return
        again = threading.Timer(0.02, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    return called


@contextmanager
def ctrl_c_after_imports() -> Iterator[None]:
    """Context in which Ctrl-C raises KeyboardInterrupt as usual, but never during an import."""
    before = signal.getsignal(signal.SIGINT)
    answered = before in (signal.default_int_handler, signal.SIG_DFL)  # SIG_DFL under `python -m`, see cnnlab/__init__.py
    if not answered or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, after_imports(signal.default_int_handler))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _open_terminals() -> list[int]:
    """The file descriptors of stdout and stderr that are terminals."""
    return [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]


def _leave(terminals: Sequence[int]) -> None:
    """Redirect closed terminals, to which writing would fail, to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextmanager
def signals_exit() -> Iterator[None]:
    """Context in which SIGTERM and SIGHUP, unless a StopRequest handles them, end the process through its `finally` blocks,
    with exit codes 143 and 129."""
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers only in the main thread
        yield
        return
    terminals = _open_terminals()

    def leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave(terminals)
        sys.exit(128 + number)

    before = {number: signal.signal(number, after_imports(leave)) for number in _heeded((signal.SIGTERM, signal.SIGHUP))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """Context in which the first Ctrl-C, SIGTERM or SIGHUP sets `signal_number`; a second one ends the process at once, or only
    the call at an interactive prompt or in a notebook."""

    def __init__(self, tell: bool = True) -> None:
        self.signal_number: int | None = None
        self.tell = tell  # acknowledge on stderr at once; False where a live display does it
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._terminals = _open_terminals()
        if threading.current_thread() is threading.main_thread():  # Python sets handlers only there
            for number in _heeded(NAMES):
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        if number == signal.SIGHUP:
            _leave(self._terminals)
        for each in self._before:
            signal.signal(each, self._before[each] if hasattr(sys, "ps1") else signal.SIG_DFL)
        if self.tell:
            with suppress(OSError):  # the reader of stderr may have died of the same Ctrl-C
                os.write(2, f"\n{NAMES[signal.Signals(number)]}: saving; once more to leave at once\n".encode())
