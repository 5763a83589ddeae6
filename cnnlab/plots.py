"""Drawing with matplotlib, without its global state: what all figures share. Loads no matplotlib until something is drawn."""

import io
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cnnlab.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart with any color vision, on white and on black: Okabe and Ito 2008, "Color universal design".
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GRAY = "#999999"  # the lines after them


def require_matplotlib(needed_by: str) -> None:
    """Raise ConfigError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError(f"{needed_by}: needs matplotlib, which is not installed: pip install 'cnnlab[plots]'")


def rendered(figure: "Figure", form: str, **options: Any) -> bytes:
    """The file of a figure, the same bytes for the same figure. form: png, svg or pdf. options: of `savefig`."""
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in a name is a dollar
    target = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
    with matplotlib.rc_context({"svg.hashsalt": "cnnlab"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in a script that the font lacks
        figure.savefig(target, format=form, metadata=metadata, **options)
    return target.getvalue()


def plain_axes(axes: "Axes", ink: str = "black") -> None:
    """A light grid, and lines at the left and at the bottom alone, in the color `ink`."""
    axes.tick_params(colors=ink)
    axes.grid(alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
