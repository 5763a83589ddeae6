"""Row 3: a power cut that drops every byte that was not synced and every name that was not synced into its folder."""

from pathlib import Path

import pytest
from conftest import assert_same_run
from disk import MOST, Durable, watch
from protocol import TWO_EPOCHS, goes_on, share
from small_runs import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Durable]:
    """A run, and what a power cut would have left of it before each of its file operations."""
    root = tmp_path_factory.mktemp("whole")
    durable = Durable(root)
    with pytest.MonkeyPatch.context() as patch:
        watch(root, patch, durable.before, durable.after)
        train(root / "runs" / "run", *TWO_EPOCHS)
    return root / "runs" / "run", durable


@pytest.mark.parametrize("keeps_names", [False, True], ids=["no name", "names"])
@pytest.mark.parametrize("at", share(range(MOST), 10))
def test_before_each_file_operation(call, whole: tuple[Path, Durable], tmp_path: Path, at: int, keeps_names: bool) -> None:
    finished, durable = whole
    if at >= len(durable.cuts):
        pytest.skip(f"a run has {len(durable.cuts)} file operations")
    durable.cuts[at].write(tmp_path, keeps_names)
    goes_on(call, tmp_path / "runs" / "run")
    assert_same_run(tmp_path / "runs" / "run", finished)


def test_a_run_that_has_ended_is_whole(whole: tuple[Path, Durable], tmp_path: Path) -> None:
    finished, durable = whole
    durable.before()
    durable.cuts.pop().write(tmp_path, keeps_names=False)
    left = tmp_path / "runs" / "run"
    for path in finished.iterdir():
        if not path.name.startswith(("events", ".")):
            assert (left / path.name).read_bytes() == path.read_bytes()
