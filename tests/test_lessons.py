"""The lessons: statistics against scipy and printed tables, verdicts that can go either way, the page against its ledger."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import write_idx
from scipy import stats

from cnnlab import config
from cnnlab.data import idx
from scripts import lessons
from scripts.lesson import figures, measure, page, probes, rules, sources, space, training
from scripts.lesson.arms import ARMS
from scripts.lesson.claims import Measured
from scripts.lesson.measure import Arm
from scripts.lesson.rules import Finding, above, at_most, difference, estimate, near, verdict

idx_load = idx.load
ROOT = Path(__file__).parent.parent
CLAIMS = yaml.safe_load((config.config_dir() / "published.yaml").read_text())["claims"]
TRANSFER = ("early layers", "a large network on little data")
HIGH, LOW, WIDE = [0.90, 0.91, 0.92], [0.80, 0.81, 0.82], [0.7, 0.9, 1.1]


def test_a_mean_has_students_interval() -> None:
    # Mean 0.91, standard deviation 0.01; t(0.975, 2) = 4.303 in printed tables.
    found = estimate(HIGH)
    assert (found.mean, found.half) == (pytest.approx(0.91), pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4))
    assert estimate([0.5]).half is None


@pytest.mark.parametrize(("first", "second"), [(HIGH, WIDE), (HIGH, [0.1, 0.2]), (LOW, [0.8, 0.9, 0.7, 0.75, 0.83])])
def test_a_difference_has_welchs_interval(first: list[float], second: list[float]) -> None:
    reference = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    found = difference(first, second)
    assert (found.low, found.high) == (pytest.approx(reference.low), pytest.approx(reference.high))


def test_equal_numbers_have_no_width() -> None:
    assert difference([1.0, 1.0], [0.5, 0.5]) == rules.Estimate(0.5, 0.0)


@pytest.mark.parametrize(
    ("finding", "holds"),
    [
        (above("", HIGH, LOW), True),
        (above("", LOW, HIGH), False),
        (above("", HIGH, WIDE), None),  # chance could do it
        (above("", HIGH, LOW, 0.05), True),
        (above("", HIGH, LOW, 0.2), False),
        (above("", LOW, HIGH, -0.2), True),  # at most 0.2 below
        (above("", HIGH, [0.8]), None),  # no interval
        (above("", HIGH, []), None),
        (near("", HIGH, LOW, 0.2), True),
        (near("", HIGH, LOW, 0.05), False),
        (near("", HIGH, WIDE, 0.05), None),
        (at_most("", LOW, 0.9), True),
        (at_most("", HIGH, 0.8), False),
        (at_most("", WIDE, 0.9), None),
        (at_most("", [0.5], 0.9), None),
        (at_most("", [], 0.9), None),
    ],
)
def test_findings(finding: Finding, holds: bool | None) -> None:
    assert finding.holds is holds


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((True, True), "held"),
        ((True, None, True), "held as far as could be told (2 yes, 1 open)"),
        ((True, None), "held as far as could be told (1 yes, 1 open)"),
        ((True, None, None), "largely open (1 yes, 2 open)"),
        ((True, False), "held in part (1 yes, 1 no)"),
        ((True, False, None), "held in part (1 yes, 1 no, 1 open)"),
        ((False, False), "did not hold"),
        ((False, None), "did not hold (1 no, 1 open)"),
        ((None, None), "could not be told"),
    ],
)
def test_verdicts(told: tuple[bool | None, ...], expected: str) -> None:
    assert verdict([Finding("", holds) for holds in told]) == expected


def entries(arms: Any, tests: dict[str, list[float]], parameters: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """A ledger with these test accuracies of the arms; training accuracy 0.9."""
    sizes = parameters or {}
    return [
        {"recipe": measure.recipe(arm), "seed": seed, "test": test, "train": 0.9, "parameters": sizes.get(arm.name, 1)}
        for arm in arms
        for seed, test in enumerate(tests[arm.name])
    ]


@pytest.mark.parametrize(
    ("three", "two", "expected"),
    [(HIGH, LOW, "held in part (1 yes, 1 no, 1 open)"), (LOW, HIGH, "did not hold (2 no, 1 open)")],
)
def test_a_claim_can_fail(three: list[float], two: list[float], expected: str) -> None:
    """Shrinking fast: three steps against two, and at once as good as the better of them."""
    claim = next(claim for claim in space.CLAIMS if claim.name == "shrink-fast")
    found = claim.measured(entries(claim.arms, {"in three steps": three, "in two steps": two, "at once": HIGH}))
    assert verdict(claim.find(found)) == expected


@pytest.mark.parametrize(("small", "holds"), [(HIGH, True), ([0.83] * 3, True), (LOW, False), (WIDE, False)])
def test_the_smallest_convnet_as_good_as_the_best_dense_network(small: list[float], holds: bool) -> None:
    arms = [arm for arm in ARMS["fewer-parameters"] if arm.name.startswith("mnist")]
    tests = {arm.name: LOW if "dense" in arm.name else small if arm.name.endswith("0.125") else HIGH for arm in arms}
    sizes = {arm.name: 1000 if "dense" in arm.name else 100 if arm.name.endswith("0.125") else 900 for arm in arms}
    found = training.fewest(Measured(arms, entries(arms, tests, sizes)), "mnist")
    assert found.holds is holds  # 10 times as many; else 1000 / 900
    assert f"{100 if holds else 900} parameters" in found.text


def test_every_claim_but_those_of_transfer_is_tested_once() -> None:
    wanted = [entry["claim"] for entry in CLAIMS if not entry["claim"].startswith(TRANSFER)]
    assert [page.WORDS[claim.name]["quote"] for claim in page.CLAIMS] == wanted
    assert len(CLAIMS) == len(wanted) + len(TRANSFER)
    assert set(page.WORDS) == {claim.name for claim in page.CLAIMS} >= set(ARMS)


def test_the_page_is_what_the_ledgers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = page.read()
    assert page.PAGE.read_text() == page.text(found)
    for name in re.findall(r"\]\((lessons/\S+\.png)\)", page.PAGE.read_text()):
        assert 0 < (page.PAGE.parent / name).stat().st_size < 300_000, name


def test_a_claim_without_training_from_end_to_end() -> None:
    """Nothing measured: what is exact is told, and what is not is left open."""
    claims = {claim.name: claim for claim in page.CLAIMS}
    assert [finding.holds for finding in claims["receptive-field"].find(claims["receptive-field"].measured([]))] == [
        True,
        True,
        None,
    ]
    assert [finding.holds for finding in claims["any-size"].find(claims["any-size"].measured([]))] == [True, True, None]
    assert verdict(claims["global-max"].find(claims["global-max"].measured([]))) == "held"
    assert "not measured yet" in page.text([])


@pytest.fixture
def mnist(tmp_path: Path) -> str:
    """Four images: grey 40, 80, 120, 160, one pixel of 255 in each."""
    images = (torch.arange(1, 5, dtype=torch.uint8) * 40).view(4, 1, 1).repeat(1, 28, 28)
    images[:, 13, 14] = 255
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-images-idx3-ubyte", images.numpy())
        write_idx(tmp_path / "MNIST/raw" / f"{prefix}-labels-idx1-ubyte", torch.arange(4, dtype=torch.uint8).numpy())
    return str(tmp_path)


def full_ledger() -> list[dict[str, Any]]:
    """Two seeds of everything, all accuracies 0.5 and 0.6, with every probe."""
    probed = {"shift": {str(n): 0.5 for n in probes.SHIFTS}, "mosaic": {"single": 0.9, "mosaic": 0.8}}
    probed["readout"] = {f"{kind} {depth}": 0.1 * depth for kind in ("trained", "untrained") for depth in (1, 2, 3, 4)}
    arms = [arm for claim in page.CLAIMS for arm in (*claim.arms, *claim.published)]
    made = {"device": "a device", "threads": 1, "torch": "2", "date": "2026-11-21", "probes": probed}
    return [entry | made for entry in entries(arms, {arm.name: [0.5, 0.6] for arm in arms})]


def test_every_picture_can_be_drawn_and_is_the_same_twice(mnist: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "RUNS", tmp_path)  # no trained network for the mosaic
    monkeypatch.setattr(idx, "load", lambda *_: idx_load(mnist, False, "MNIST"))
    ledger, drawn = full_ledger(), {}
    for claim in page.CLAIMS:
        if claim.draw is not None and (figure := claim.draw(claim.measured(ledger))) is not None:
            drawn[claim.name] = figure
    assert set(page.WORDS) - set(drawn) == {"xavier", "global-max", "any-size"}
    for name in ("first.png", "second.png"):
        figures.save(drawn["harder-data"], tmp_path / name, (2, 2))
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert "not measured yet" not in page.text(ledger)


def test_the_list_of_verdicts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["lessons.py", "--list", "global-max"])
    lessons.main()
    words = capsys.readouterr().out.split()
    assert words[:4] == ["global-max", "held", "yes", "703,594"]
    monkeypatch.setattr(sys, "argv", ["lessons.py", "global-mx"])
    with pytest.raises(SystemExit):
        lessons.main()
    assert "global-mx: no such claim" in capsys.readouterr().err


def test_receptive_fields_of_two_ways_by_hand() -> None:
    # maxpool: 3; 3 + 2 = 5; 5 + 1 = 6, neighbours 2 apart; 6 + 4 = 10; 14; 14 + 2 = 16, 4 apart; 16 + 8 = 24
    assert [row[1:] for row in space.receptive_fields()] == [(n, n) for n in (3, 5, 6, 10, 14, 16, 24)]


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
    (entry,) = measure.ledger.read(measure.LEDGER)
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


def test_shuffling_moves_every_pixel_of_every_image_alike(mnist: str) -> None:
    before, after = idx.load(mnist, False, "MNIST"), sources.shuffled(mnist, False, "MNIST")
    places = {int(image.argmax()) for part in (after.train, after.test) for image in part.images}
    assert len(places) == 1
    assert places != {13 * 28 + 14}
    assert torch.equal(after.train.images.flatten(1).sort().values, before.train.images.flatten(1).sort().values)
    assert after.train.labels.tolist() == [0, 1, 2, 3]


def test_the_canvas_is_black_around_the_middle(mnist: str) -> None:
    part = sources.on_canvas(mnist, False, "MNIST", 60).train
    assert part.images.shape == (4, 1, 60, 60)
    assert int(part.images[0].argmax()) == (13 + 16) * 60 + 14 + 16
    assert int((part.images > 0).sum()) == 4 * 28 * 28


def test_a_figure_stands_where_its_label_says(mnist: str) -> None:
    where, what = (sources.nine_places(mnist, False, "MNIST", label) for label in ("where", "what"))
    assert what.train.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(what.train.images, where.train.images)
    assert len(where.classes) == 9
    for image, place in zip(where.train.images[:, 0], where.train.labels.tolist(), strict=True):
        rows, columns = (torch.nonzero(image.any(axis)).flatten() for axis in (1, 0))
        assert (int(rows[0]), len(rows)) == (8 + 6 * (place // 3), 14)
        assert (int(columns[0]), len(columns)) == (8 + 6 * (place % 3), 14)


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
