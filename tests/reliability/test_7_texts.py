"""Row 7: names and causes that would steer a terminal, a spreadsheet or a browser."""

import csv
import html.parser
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hostile import ESCAPE
from hostile import place as place
from made import (
    edit_json,
    edit_yaml,
    original,
    picture,
)
from protocol import share
from small_runs import SMALL
from watch import said, watched


class Tags(html.parser.HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs)]


MARKUP = '<script src="//x">alert(1)</script><img src=x onerror=alert(1)>\'"&amp;]]>--></style></title></svg>'
FORMULAS = ['=HYPERLINK("http://x")', "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "=cmd|' /C calc'!A0"]


def speaking(folder: Path, name: str, text: str) -> Path:
    """A run every text of which is `text`."""
    run = folder / name
    run.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(original("run"), run)

    def configuration(cfg: dict[str, Any]) -> None:
        cfg["data"]["name"] = cfg["data"]["root"] = cfg["trainer"]["device"] = text
        cfg["model"][text] = text
        cfg[text] = {text: text}

    def environment(found: dict[str, Any]) -> None:
        found["choices"] = dict.fromkeys(found["choices"], text) | {text: text}
        found["data"] |= {"name": text, "classes": [text] * 10}
        found |= {"command": text, "git": text, "device": text, "varied": [text]}

    edit_yaml(run / "config.yaml", configuration)
    edit_json(run / "environment.json", environment)
    edit_json(run / "result.json", lambda found: found.update(cause=text))
    return run


TEXTS = [ESCAPE, MARKUP, "$\\frac{", "[bold]x[/bold][/]", "a|b`c*d_", "{0}{x}%s%(x)d", "🏳️‍🌈", *FORMULAS]


@pytest.mark.parametrize("text", share(TEXTS, 7))
def test_a_text_steers_nothing(call, place: Path, text: str) -> None:
    safe = re.sub(r"[/\0]", "", text)[:200]
    speaking(place / "runs", f"one{safe}", text)
    two = speaking(place / "runs", f"{safe}two", "plain")
    edit_json(two / "result.json", lambda found: found.update(status="failed", cause=text))
    speaking(place / "runs", f"three{safe}", text * 2)
    page = place / "report.html"
    for form in ((), ("--wide",), ("--csv",), ("--csv", "--runs"), ("--json",), ("--markdown",), ("--html", page),
                 ("--plot", place / "curves.png")):  # fmt: skip
        with watched(place) as seen:
            code, *output = call("compare", place / "runs", *form)
        assert (code, seen) == (0, []), output
        said(output)
        if "--csv" in form:
            for row in csv.reader(io.StringIO(output[0])):
                assert not [one for one in row if one.lstrip().startswith(("=", "+", "@")) or re.match(r"\s*-[^\d]", one)], row
        if "--json" in form:
            json.loads(output[0])
    assert {"img", "onerror", "src"}.isdisjoint(Tags(page.read_text()).found)


@pytest.mark.parametrize("text", share([ESCAPE, "[/x]", "[red]cat[/]", "=1+1", MARKUP.replace("/", ""), "$\\frac{"], 3))
def test_names_of_classes_and_pictures(call, place: Path, text: str) -> None:
    """A folder of somebody's pictures, trained on, scored, shown and predicted."""
    text = text.replace("/", "\u2215")
    for name in (text, f"{text}2"):
        for number in range(6):
            picture(place / "pictures" / name / f"{text}{number}.png")
    run = place / f"run{text}".replace("=", "")
    settings = ("data=folder", f"data.root={place / 'pictures'}", "data.size=28", "data.validation=0", *SMALL[3:5],
                "trainer.epochs=1", "console=plain", "trainer.threads=1")  # fmt: skip
    settings = tuple(one.replace("model.hidden=[8]", "model.hidden=[4]") for one in settings)
    with watched(place) as seen:
        code, *output = call("train", *settings, "hydra.run.dir=work/run")
    assert (code, seen) == (0, []), output
    said(output)
    (place / "run").rename(run)
    pictures = place / "pictures"
    for arguments in (
        ("evaluate", run),
        ("predict", run, pictures),
        ("predict", run, pictures, "--csv"),
        ("predict", run, pictures, "--json"),
        ("visualize", run, "confusion", "classes", "curves"),
        ("export", run, "--to", "safetensors", "--output", place / "w.safetensors"),
        ("compare", run),
    ):
        with watched(place) as seen:
            code, *output = call(*arguments)
        assert (code, seen) == (0, []), output
        said(output)
