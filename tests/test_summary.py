"""The table of `summary`, against the notes' own figures."""

import re

import pytest


def numbers(out: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", out)]


def test_lenet_as_the_notes_have_it(call) -> None:
    code, out, err = call("summary", "model=lenet", "data=fashion")
    assert (code, err) == (0, "")
    assert "61,706 parameters" in out
    for row in ("28 x 28 x 6", "14 x 14 x 6", "10 x 10 x 16", "5 x 5 x 16", "16 x (6 x 5 x 5 + 1)", "120 x (400 + 1)"):
        assert row in out
    first, second = 5 * 5 * 1 * 28 * 28 * 6, 5 * 5 * 6 * 10 * 10 * 16
    assert f"{first + second + 400 * 120 + 120 * 84 + 84 * 10:,} multiplications" in out


def test_pixels_left_over_are_told(call) -> None:
    """The notes: a 3 x 3 filter at stride 3 does not fit 7 x 7; one row and one column are left."""
    out = call("summary", "model.blocks=[{conv:1,kernel:3,stride:3}]", "data.shape=[1,7,7]", "model.hidden=[]")[1]
    assert "1 row, 1 column" in out
    assert "2 x 2 x 1" in out


def test_memory_is_hand_counted(call) -> None:
    """A dense layer of 784 x 10 keeps its input alone; Adam keeps two numbers a parameter."""
    out = call("summary", "model=mlp", "model.hidden=[]", "trainer.batch_size=1000", "optimizer=adam")[1]
    assert "7,850 parameters" in out
    mib = 7850 * 4 / 2**20
    for name, size in (("weights", mib), ("gradients", mib), ("optimizer", 2 * mib), ("activations", 784 * 4 * 1000 / 2**20)):
        found = re.search(rf"{name}.* ([\d.]+) MiB", out)
        assert found is not None
        assert float(found.group(1)) == pytest.approx(size, abs=0.06), name


def test_it_reads_no_data(call, tmp_path) -> None:
    code, out, _ = call("summary", "data=cifar10", "model=cifar-flatten", f"data.root={tmp_path}/none")
    assert code == 0
    assert "703,594 parameters" in out


def test_a_narrow_terminal_loses_columns_and_no_line_is_broken(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for: this is a terminal
    monkeypatch.setenv("COLUMNS", "80")
    _, narrow, _ = call("summary", "model=conv7", "data=fashion")
    _, wide, _ = call("summary", "model=conv7", "data=fashion", "--wide")
    assert "counted" not in narrow.splitlines()[0]
    assert "counted" in wide.splitlines()[0]
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in narrow.splitlines()) <= 80


def test_choices_of_one_s_own_are_summarized_too(call, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("_target_: cnnlab.models.MLP\nhidden: [3]\n")
    code, out, _ = call("summary", "model=tiny", "data=digits", "--config-dir", str(tmp_path))
    assert code == 0
    assert "2,395 parameters" in out  # 784 * 3 + 3 + 3 * 10 + 10
