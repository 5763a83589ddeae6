"""The worked examples and formulas of configs/published.yaml, extracted from their sentences."""

import math
import re
from typing import Any

import yaml

from cnnlab.config import config_dir

PUBLISHED: dict[str, Any] = yaml.safe_load((config_dir() / "published.yaml").read_text())
ARITHMETIC: dict[str, Any] = PUBLISHED["arithmetic"]


def has(entry: str, phrase: str) -> bool:
    """Whether a sentence contains `phrase` between punctuation."""
    return re.search(rf"(^|[;:,] ){re.escape(phrase)}($|[;,])", ARITHMETIC[entry]) is not None


def formula(entry: str, before: str, after: str, **names: float) -> float:
    """Return the value of the formula that a sentence prints between two phrases."""
    found = re.search(rf"{re.escape(before)}(.+?){re.escape(after)}", ARITHMETIC[entry])
    assert found is not None, f"{entry}: no formula between {before!r} and {after!r}"
    written = re.sub(r"(\d)([A-Z])", r"\1 * \2", found[1])  # 2P
    return float(eval(written, {"ceil": math.ceil}, names))
