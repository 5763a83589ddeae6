"""Ctrl-C while a run trains, at a terminal and in a notebook."""

import signal
import sys

import pytest

from cnnlab.training.interrupt import StopRequest


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
