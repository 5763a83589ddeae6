"""The lessons: claims that can go either way, what is trained for them and once only, the page and its pictures."""

import shutil
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnlab.data import idx
from cnnlab.errors import ConfigError
from scripts import ledger
from scripts.lesson import measure, networks, page, probes, space, training
from scripts.lesson.arms import ARMS
from scripts.lesson.claims import Measured
from scripts.lesson.measure import Arm
from scripts.lesson.rules import verdict
from scripts.published.comparison import read_published

idx_load = idx.load
CLAIMS = read_published("claims")
DEEP = {"5 x 5, padded": [], "5 x 5, unpadded": []}
HIGH, LOW, WIDE = [0.90, 0.91, 0.92], [0.80, 0.81, 0.82], [0.7, 0.9, 1.1]


def entries(arms: Any, tests: dict[str, list[float]], parameters: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """A ledger with these test accuracies of the arms; training accuracy 0.9."""
    sizes = parameters or {}
    return [
        {"recipe": arm.recipe, "seed": seed, "test": test, "train": 0.9, "parameters": sizes.get(arm.name, 1)}
        for arm in arms
        for seed, test in enumerate(tests[arm.name])
    ]


@pytest.mark.parametrize(
    ("three", "two", "expected"),
    [(HIGH, LOW, "held in part (1 yes, 1 no, 2 open)"), (LOW, HIGH, "did not hold (2 no, 2 open)")],
)
def test_a_claim_can_fail(three: list[float], two: list[float], expected: str) -> None:
    """Shrinking fast: three steps against two, and at once as good as the better of them."""
    claim = next(claim for claim in space.CLAIMS if claim.name == "shrink-fast")
    found = claim.measured(entries(claim.arms, {"in three steps": three, "in two steps": two, "at once": HIGH, **DEEP}))
    assert verdict(claim.find(found)) == expected


@pytest.mark.parametrize(("small", "holds"), [(HIGH, True), ([0.83] * 3, True), (LOW, False), (WIDE, False)])
def test_the_smallest_convnet_as_good_as_the_best_dense_network(small: list[float], holds: bool) -> None:
    arms = [arm for arm in ARMS["fewer-parameters"] if arm.name.startswith("mnist")]
    tests = {arm.name: LOW if "dense" in arm.name else small if arm.name.endswith("0.125") else HIGH for arm in arms}
    sizes = {arm.name: 1000 if "dense" in arm.name else 100 if arm.name.endswith("0.125") else 900 for arm in arms}
    found = training.fewest(Measured(arms, entries(arms, tests, sizes)), "mnist")
    assert found.holds is holds  # 10 times as many; else 1000 / 900
    assert f"{100 if holds else 900} parameters" in found.text


def test_every_claim_is_tested_once() -> None:
    assert [page.WORDS[claim.name]["quote"] for claim in page.CLAIMS] == [entry["claim"] for entry in CLAIMS]
    assert set(page.WORDS) == {claim.name for claim in page.CLAIMS} >= set(ARMS)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("receptive-field", [True, True, None]),
        ("any-size", [True, True, None]),
        ("global-max", [True]),
        ("pooling-cheaper", [True] * 3),
        ("other-sizes", [True, True, False, None, None]),
    ],
)
def test_what_is_exact_is_told_before_anything_is_measured(name: str, holds: list[bool | None]) -> None:
    claim = next(claim for claim in page.CLAIMS if claim.name == name)
    assert [finding.holds for finding in claim.find(claim.measured([]))] == holds


def full_ledger() -> list[dict[str, Any]]:
    """Two seeds of everything, all accuracies 0.5 and 0.6, with every probe."""
    probed = {"shift": {str(n): 0.5 for n in probes.SHIFTS}, "mosaic": {"single": 0.9, "mosaic": 0.8}}
    probed |= {"resized": {str(n): 0.5 for n in probes.SIZES}, "alike": {str(n): 0.9 for n in probes.APART}}
    probed["readout"] = {f"{kind} {depth}": 0.1 * depth for kind in ("trained", "untrained") for depth in (1, 2, 3, 4)}
    arms = [arm for claim in page.CLAIMS for arm in (*claim.arms, *claim.published, *claim.transferred)]
    made = {"device": "a device", "threads": 1, "torch": "2", "date": "2026-11-21", "probes": probed}
    return [entry | made for entry in entries(arms, {arm.name: [0.5, 0.6] for arm in arms})]


def test_the_page_and_its_pictures(mnist: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no trained network for the mosaic
    monkeypatch.setattr(idx, "load", wraps(idx_load)(lambda *_: idx_load(mnist, False, "MNIST")))
    Path("docs").mkdir()
    monkeypatch.setattr(page, "read", list)
    page.write(page.CLAIMS)
    assert "not measured yet" in page.PAGE.read_text()
    assert not page.PICTURES.exists()
    monkeypatch.setattr(page, "read", full_ledger)
    page.write(page.CLAIMS)
    page.check()
    assert "not measured yet" not in page.PAGE.read_text()
    pictures = {path.stem: path.read_bytes() for path in page.PICTURES.iterdir()}
    assert set(page.WORDS) - set(pictures) == {"xavier", "global-max", "any-size", "pooling-cheaper"}
    page.write([claim for claim in page.CLAIMS if claim.name == "harder-data"])
    assert Path(page.PICTURES, "harder-data.png").read_bytes() == pictures["harder-data"]
    monkeypatch.setattr(page, "read", list)
    with pytest.raises(ConfigError, match=r"docs/LESSONS\.md"):
        page.check()


def test_the_command(call) -> None:
    assert call("lessons", "--list", "global-max", package="scripts")[0] == 0
    for bad in ("global-mx", "--seeds=0", "trainer.epochs=1"):
        code, _, err = call("lessons", bad, package="scripts")
        assert (code, err.count("\n"), bad.replace("=0", " 0") in err) == (2, 1, True)


def test_receptive_fields_of_two_ways_by_hand() -> None:
    # maxpool: 3; 3 + 2 = 5; 5 + 1 = 6, neighbors 2 apart; 6 + 4 = 10; 14; 14 + 2 = 16, 4 apart; 16 + 8 = 24
    assert [row[1:] for row in networks.receptive_fields()] == [(n, n) for n in (3, 5, 6, 10, 14, 16, 24)]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, ...]:
    """Those of an arm that trains in a second, with a ledger and runs of its own."""
    monkeypatch.setattr(measure, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(measure, "LEDGER", tmp_path / "lessons.json")
    return ("data=digits", "data.limit=100", "model=allconv", "model.width_factor=0.03", "trainer.steps=1")


def test_a_run_is_measured_once_and_a_probe_added_later_joins_its_entry(
    settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure.measure("a claim", Arm("an arm", settings), 3)
    monkeypatch.setattr("cnnlab.train.main", lambda _: pytest.fail("trained again"))
    measure.measure("another claim", Arm("the same", (*settings, "trainer.device=cpu")), 3)
    measure.measure("a claim", Arm("an arm", settings, probes.mosaic), 3)
    (entry,) = ledger.read(measure.LEDGER)
    assert (entry["id"], entry["seed"]) == ("a claim: an arm", 3)
    assert set(entry["probes"]["mosaic"]) == {"single", "mosaic"}
    assert entry["probes"]["mosaic"]["single"] == pytest.approx(entry["test"], abs=0.005)  # 1998 of 2000 images


def test_a_network_that_a_picture_shows_is_trained_where_its_run_is_gone(settings: tuple[str, ...]) -> None:
    arm = Arm("an arm", settings, pictured=True)
    measure.measure("a claim", arm, 0)
    (run,), before = list(measure.RUNS.iterdir()), measure.LEDGER.read_bytes()
    shutil.rmtree(run)
    measure.measure("a claim", arm, 0)
    assert (run / "last.safetensors").exists()
    assert measure.LEDGER.read_bytes() == before


def test_nine_images_side_by_side() -> None:
    images = torch.arange(18).view(18, 1, 1, 1).expand(18, 1, 2, 4)
    picture = probes.side_by_side(images)
    assert picture.shape == (2, 1, 6, 12)
    assert picture[1, 0, ::2, ::4].tolist() == [[9, 10, 11], [12, 13, 14], [15, 16, 17]]


def test_the_readout_separates_what_is_linear() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 5, generator=generator)
    labels = inputs[:, :3].argmax(1)
    scores = probes._ridge(inputs[:200], labels[:200], inputs[200:])
    assert (scores.argmax(1) == labels[200:]).double().mean() > 0.9
