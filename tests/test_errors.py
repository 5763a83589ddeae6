"""What the machine does to a run is told from bugs."""

import errno

import pytest

from cnnlab import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device", "last.safetensors"), 4),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected", "last.safetensors"), 4),  # a network drive
        (PermissionError(13, "Permission denied", "outputs"), 2),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), 4),
        (MemoryError(), 4),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 4),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 TB"), 4),
    ],
)
def test_what_the_machine_does_is_told_apart_from_bugs(error: Exception, code: int) -> None:
    known = errors.as_known(error)
    assert known is not None
    assert known.exit_code == code


def test_a_bug_keeps_its_traceback() -> None:
    assert errors.as_known(KeyError("x")) is None
    assert errors.as_known(RuntimeError("shapes")) is None
