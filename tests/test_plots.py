"""What all figures share: letters of other scripts."""

import pytest

from cnnlab import plots
from cnnlab.errors import short

pytest.importorskip("matplotlib", reason="needs the extra plots")


def figure_of(text: str):
    from matplotlib.figure import Figure

    figure = Figure((1, 1))
    figure.text(0, 0.5, text)
    return figure


def test_letters_that_the_font_lacks_come_from_another_or_are_told_once(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for function in (plots.installed_fallbacks, plots.tell_boxes):
        function.cache_clear()
    monkeypatch.setattr(plots, "FALLBACKS", ("no such font",))
    boxes = [plots.rendered(figure_of("a\u1d81"), "png") for _ in range(2)]
    err = capsys.readouterr().err
    assert (boxes[0] == boxes[1], err.count("\n"), "font" in err) == (True, 1, True)
    plots.installed_fallbacks.cache_clear()
    plots.tell_boxes.cache_clear()
    monkeypatch.setattr(plots, "FALLBACKS", ("no such font", "STIXGeneral"))
    assert plots.rendered(figure_of("a\u1d81"), "png") != boxes[0]
    assert capsys.readouterr().err == ""
    plots.installed_fallbacks.cache_clear()


@pytest.mark.parametrize(("name", "shown"), [("bird", "bird"), ("a long name, 0", "a lo…, 0"), ("a long name, 1", "a lo…, 1")])
def test_a_long_name_is_cut_in_the_middle(name: str, shown: str) -> None:
    assert short(name, 8) == shown
