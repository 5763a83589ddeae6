"""Ctrl-C while a run trains, at a terminal and in a notebook, and while modules are imported."""

import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from cnnlab.training.interrupt import StopRequest, ctrl_c_after_imports


@pytest.mark.parametrize(("interactive", "expected"), [(True, KeyboardInterrupt), (False, None)])
def test_a_second_ctrl_c_ends_the_call_but_not_a_notebook(
    monkeypatch: pytest.MonkeyPatch, interactive: bool, expected: type[BaseException] | None
) -> None:
    if interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with StopRequest(tell=False) as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signal_number == signal.SIGINT
            if expected is None:
                assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
            else:
                with pytest.raises(expected):
                    signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)


def test_ctrl_c_within_an_import_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interrupted_half_way.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ctrl_c_after_imports():  # noqa: PT012 - it comes between the two
            assert import_module("interrupted_half_way").whole
            time.sleep(10)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)
