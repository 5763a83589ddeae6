"""Run directories written by hand, with real configurations and made-up scores."""

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cnnlab import composing, config

LABELS = np.arange(100) % 10


@cache
def composed(changes: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """config.yaml and the choices' names, as a run started with `changes` records them."""
    new = composing.new_run(changes)
    return config.to_yaml(new.cfg), new.choices


def fake_run(
    path: Path,
    *changes: str,
    seed: int = 0,
    test: float = 0.9,
    validation: float | None = 0.9,
    wrong: Sequence[int] | None = None,
    metric: str = "accuracy",
    curve: Sequence[float] = (0.5, 0.8, 0.9),
    ended: float = 1_000_000,
    images: str | None = "b",
    **result: Any,
) -> Path:
    """A finished run in `path`.

    wrong: the test images, of 100, that it gets wrong; without it there are no predictions. curve: validation scores, or
    training scores without validation. ended: when, in seconds of the clock. images: the digest of the test images.
    result: further entries of result.json.
    """
    text, choices = composed(("data=digits", *changes))
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(text.replace("seed: 0\n", f"seed: {seed}\n", 1))
    data = {"name": "digits", "classes": list("0123456789"), "test": 100}
    data |= {} if images is None else {"train_digest": "a", "test_digest": images}
    (path / "environment.json").write_text(json.dumps({"choices": choices, "data": data}))
    part = "train" if validation is None else "validation"
    lines = [{"epoch": epoch, "step": 10 * epoch, f"{part}_{metric}": score} for epoch, score in enumerate(curve, 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scores: dict[str, Any] = {"test": {"loss": 0.5, metric: test}, "higher_is_better": metric != "mae"}
    if validation is not None:
        scores["validation"] = {"loss": 0.5, metric: validation}
    common = {"status": "finished", "epochs": len(curve), "parameters": 61_706, "seconds": 10.0}
    (path / "result.json").write_text(json.dumps(common | scores | result))
    os.utime(path / "result.json", (ended, ended))
    if wrong is not None:
        predicted = LABELS.copy()
        predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 10
        save_file({"class": predicted, "label": LABELS}, path / "predictions.safetensors")
    return path
