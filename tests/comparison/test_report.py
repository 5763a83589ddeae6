"""The drawn curves and the HTML report; in a real browser where there is one."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_runs import fake_run

from cnnlab.comparison import curves, report
from cnnlab.comparison.runs import LeftOut, read_runs
from cnnlab.comparison.tables import Table, configurations, tables
from cnnlab.errors import CheckpointError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def made(path: Path) -> list[Table]:
    return tables(configurations(read_runs([str(path)]))[0])


def page(path: Path, *left_out: LeftOut) -> str:
    return report.html(made(path), left_out, "python -m cnnlab.compare '<b>'")


@pytest.fixture
def three_seeds(tmp_path: Path) -> Path:
    """Two configurations with three seeds each."""
    for seed in range(3):
        curve = [0.5 + 0.1 * seed, 0.8, 0.9 + 0.01 * seed, 0.95][: 3 + seed]
        fake_run(tmp_path / "runs" / f"lenet-{seed}", seed=seed, test=0.95, validation=0.95, wrong=[seed, 50], curve=curve)
        fake_run(tmp_path / "runs" / f"mlp-{seed}", "model=mlp", seed=seed, test=0.8 + 0.01 * seed, validation=0.8, wrong=[9])
    return tmp_path / "runs"


class Checker(HTMLParser):
    """Every element is closed in its turn, and nothing is fetched from elsewhere."""

    VOID = ("meta", "br", "wbr", "col", "path", "use")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset"):
                assert (value or "").startswith("#"), f"{tag} {name}={value}"

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def checked(html: str) -> set[str]:
    parser = Checker()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.tags


def test_a_curve_is_the_mean_with_the_range_of_the_seeds(three_seeds: Path) -> None:
    curve = curves.read_curve(made(three_seeds)[0].rows[0])
    assert curve is not None
    assert (curve.part, curve.epochs) == ("validation", [1, 2, 3])  # the shortest seed ends there
    assert curve.mean == pytest.approx([0.6, 0.8, 0.91])
    assert (curve.low, curve.high) == (pytest.approx([0.5, 0.8, 0.9]), pytest.approx([0.7, 0.8, 0.92]))


def test_without_validation_another_score_is_drawn(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "data.validation=0", validation=None)
    fake_run(tmp_path / "b", "model=mlp")
    (tmp_path / "b" / "metrics.jsonl").unlink()
    (table,) = made(tmp_path)
    (line,) = curves.lines_of(table)
    assert line.curve.part == "train"
    assert "model=lenet" in line.label


@pytest.mark.parametrize("form", curves.FORMATS)
def test_the_same_runs_give_the_same_file(three_seeds: Path, tmp_path: Path, form: str) -> None:
    files = [tmp_path / f"{name}{form}" for name in "ab"]
    for file in files:
        curves.save(file, made(three_seeds))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_settings_are_no_mathematics(tmp_path: Path) -> None:
    for name in ("$x_{", "$\\frac$"):
        fake_run(tmp_path / "runs" / str(len(name)), f"data.name='{name}'")
    curves.save(tmp_path / "odd.png", made(tmp_path / "runs"))


def test_confusion_counts_by_hand(three_seeds: Path) -> None:
    counts = report.confusion_of_seeds(made(three_seeds)[0].rows[0], 10)
    assert counts.sum() == 300
    assert counts[0].tolist() == [26, 4, *[0] * 8]  # images 0 and 50 are zeros: wrong once and three times
    assert [counts[1, 2], counts[2, 3], counts[3, 3]] == [1, 1, 30]


def test_confusion_that_cannot_be_had(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", wrong=[1])
    row = made(tmp_path)[0].rows[0]
    for classes in (5, 0, 1000):
        with pytest.raises(CheckpointError):
            report.confusion_of_seeds(row, classes)


def test_the_report_is_whole_and_always_the_same(three_seeds: Path) -> None:
    html = page(three_seeds, LeftOut("runs/bad", "diverged", "why"))
    assert html == page(three_seeds, LeftOut("runs/bad", "diverged", "why"))
    assert checked(html) >= {"table", "svg", "figure", "details"}
    assert html.count("class=matrix") == 2


def test_text_of_people_is_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\"'"
    for name, changes in (("<b>a", ["model=mlp"]), ("b", [])):
        path = fake_run(tmp_path / "runs" / name, *changes, wrong=[1]) / "environment.json"
        path.write_text(path.read_text().replace('"mlp"', '"<i>mlp"').replace('"7"', '"<u>7"'))
    html = page(tmp_path / "runs", LeftOut(evil, evil, evil))
    tags = checked(html)
    assert not tags & {"i", "u", "b"}
    assert html.count("<script") == 1  # the page's own
    assert "&lt;i&gt;mlp" in html
    assert "&lt;u&gt;7" in html


def test_a_report_of_few_things(tmp_path: Path) -> None:
    checked(report.html([], [], ""))
    fake_run(tmp_path / "a", "task=regression", metric="mae", curve=[])
    checked(page(tmp_path))
    fake_run(tmp_path / "b", "data.validation=0", validation=None)
    html = page(tmp_path)
    checked(html)
    assert "class=matrix" not in html


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 360])
def test_in_a_browser_the_page_does_not_scroll_sideways(three_seeds: Path, tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    measured = "[innerWidth, document.documentElement.scrollWidth, document.querySelectorAll('table').length]"
    probe = f"<script>parent.postMessage({measured}.join(), '*')</script>"
    (tmp_path / "page.html").write_text(page(three_seeds).replace("</body>", f"{probe}</body>"))
    frame = f'<iframe src="page.html" style="border:0;width:{width}px;height:900px"></iframe>'  # no window is that narrow
    (tmp_path / "frame.html").write_text(f"<script>onmessage = told => document.title = told.data</script>{frame}")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"<title>(\d+),(\d+),(\d+)</title>", done.stdout)
    assert found, done.stderr
    assert (int(found[1]), int(found[3])) == (width, 4)  # the rows, two matrices, each run
    assert int(found[2]) <= width
