"""What is set before torch is loaded, beside other work and alone."""

import os
import sys

import pytest

from cnnlab import machine


@pytest.mark.parametrize(("running", "mine", "busy"), [(1, 4, False), (2, 4, True), (2, 3, False), (3, 3, True), (9, 4, True)])
def test_busy_is_where_others_want_more_cores_than_are_spare(
    running: int, mine: int, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "num_cores", lambda: mine)
    monkeypatch.setattr(machine, "num_running", lambda: running)
    assert machine.is_busy() is busy


def test_what_ends_meanwhile_is_not_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([3, 2, 1])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "num_cores", lambda: 2)
    monkeypatch.setattr(machine, "num_running", lambda: next(looks))
    assert not machine.is_busy()


@pytest.mark.parametrize(
    ("given", "torch_is_loaded", "busy", "expected"),
    [
        ({}, False, True, {"GOMP_SPINCOUNT": "1000"}),
        ({}, False, False, {}),
        ({}, True, True, {}),
        ({"GOMP_SPINCOUNT": "7"}, False, True, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, False, True, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_what_the_user_set_stays(
    given: dict[str, str], torch_is_loaded: bool, busy: bool, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(given)
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sys, "modules", {"torch": None} if torch_is_loaded else {})
    monkeypatch.setattr(machine, "is_busy", lambda: busy)
    machine.share_cores()
    assert environment == expected
