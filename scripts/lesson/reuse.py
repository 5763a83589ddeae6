"""The claims about transfer, whose measurements are in docs/transfer.json."""

from typing import TYPE_CHECKING

from scripts import transfer
from scripts.lesson.claims import Claim, Measured, gap, test, train
from scripts.lesson.drawing import BLUE, GREEN, ORANGE, PURPLE, chart, dots, new_figure
from scripts.lesson.rules import Finding, above

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = {arm.name: arm for arm in transfer.arms()}
LARGE = [ARMS[f"{way}-{photos}"] for photos in (1000, 20) for way in ("scratch", "features", "fine-tune")]


def _generic(measured: Measured) -> list[Finding]:
    scratch, early, frozen = (measured.values(f"halves-{arm}") for arm in ("scratch", "early", "frozen"))
    return [
        above("all convolutions of the other classes, frozen, minus from scratch", frozen, scratch),
        above("the first two of them frozen, the rest trained further, minus from scratch", early, scratch),
        above("the later ones are less generic: training them further minus freezing them", early, frozen),
    ]


def _overfits(measured: Measured) -> list[Finding]:
    def values(way: str, photos: int = 1000) -> list[float]:
        return measured.values(f"{way}-{photos}")

    fits, scores = measured.values("scratch-1000", train), measured.values("scratch-1000", test)
    own, features = (measured.values(f"{way}-1000", gap) for way in ("scratch", "features"))
    return [
        above("it overfits: training minus test accuracy from scratch, 1,000 photos a class", fits, scores),
        above("features mend it: that gap minus theirs", own, features),
        above("test accuracy with 1,000 a class: features minus from scratch", values("features"), values("scratch")),
        above("test accuracy with 20 a class: features minus from scratch", values("features", 20), values("scratch", 20)),
        above("test accuracy with 1,000 a class: fine-tuned minus from scratch", values("fine-tune"), values("scratch")),
    ]


def _halves(measured: Measured) -> "Figure":
    names = {"scratch": "from scratch", "early": "the first two\nconvolutions frozen", "frozen": "all five frozen"}
    colors = (ORANGE, GREEN, BLUE)
    rows = [(label, measured.values(f"halves-{arm}"), color) for (arm, label), color in zip(names.items(), colors, strict=True)]
    return chart(rows, "Convolutions of five classes, reused for five others", "test accuracy, 500 training images")


def _mended(measured: Measured) -> "Figure":
    figure, places = new_figure(2)
    for axes, of, title in zip(places, (train, test), ("training", "test"), strict=True):
        rows = [
            (way if of is train else "", measured.values(f"{way}-1000", of), color)
            for way, color in (("scratch", ORANGE), ("features", BLUE), ("fine-tune", PURPLE))
        ]
        dots(axes, rows, f"{title} accuracy")
    figure.suptitle("2,000 photos of cats and dogs", x=0.02, ha="left", weight="bold")
    return figure


CLAIMS = [
    Claim("generic-early", _generic, draw=_halves, transferred=[arm for arm in ARMS.values() if arm.of == transfer.HALVES]),
    Claim("transfer-mends", _overfits, draw=_mended, transferred=LARGE),
]
