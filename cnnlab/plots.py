"""What all matplotlib figures share, without its global state. matplotlib is imported only when something is drawn."""

import io
import warnings
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cnnlab.errors import ConfigError, note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinguishable with any color vision, on white and on black: Okabe and Ito 2008, "Color universal design".
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GRAY = "#999999"  # for further lines
# Fonts with Chinese, Japanese and Korean, which matplotlib's own font lacks: on Linux, then macOS, then Windows.
FALLBACKS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
             "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAGothic", "NanumGothic",
             "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS",
             "Microsoft YaHei", "Yu Gothic", "Malgun Gothic")  # fmt: skip


def require_matplotlib(needed_by: str) -> None:
    """Raise ConfigError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError(f"{needed_by}: needs matplotlib, which is not installed: pip install 'cnnlab[plots]'")


def rendered(figure: "Figure", form: str, **options: Any) -> bytes:
    """Render a figure to the bytes of a file, the same for the same figure. form: png, svg or pdf. options: for `savefig`."""
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in a name is a dollar
        if not text.get_text().isascii():
            text.set_fontfamily([*text.get_fontfamily(), *installed_fallbacks()])
    target = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
    with matplotlib.rc_context({"svg.hashsalt": "cnnlab"}), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure.savefig(target, format=form, metadata=metadata, **options)
    for one in told:
        if str(one.message).startswith("Glyph "):
            tell_boxes()
        else:
            warnings.warn(one.message, stacklevel=2)
    return target.getvalue()


@cache
def installed_fallbacks() -> tuple[str, ...]:
    """Return those of FALLBACKS that matplotlib finds."""
    from matplotlib.font_manager import fontManager

    return tuple(name for name in FALLBACKS if name in fontManager.get_font_names())


@cache
def tell_boxes() -> None:
    """Warn once that letters are missing."""
    note("figures: no installed font has all letters of the names; boxes stand for missing ones. Noto Sans CJK has most")


def plain_axes(axes: "Axes", ink: str = "black") -> None:
    """Give axes a light grid and only a left and a bottom line, in the color `ink`."""
    axes.tick_params(colors=ink)
    axes.grid(alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
