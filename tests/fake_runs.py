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
from cnnlab.status import Status
from cnnlab.tracking import files
from cnnlab.tracking.records import Epoch, Result, Score
from cnnlab.tracking.run import RunDirectory

LABELS = np.arange(100) % 10


@cache
def composed(overrides: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return config.yaml and the choices' names, as a run started with `overrides` records them."""
    new = composing.new_run(overrides)
    return config.to_yaml(new.cfg), new.choices


def fake_run(
    path: Path,
    *overrides: str,
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
    """Write a finished run to `path`.

    wrong: the test images, of 100, that it gets wrong; None: no predictions are written. curve: validation scores, or
    training scores without validation. ended: when, in seconds of the clock. images: the digest of the test images.
    result: further entries of result.json.
    """
    text, choices = composed(("data=digits", *overrides))
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(text.replace("seed: 0\n", f"seed: {seed}\n", 1))
    data = {"name": "digits", "classes": list("0123456789"), "test": 100}
    data |= {} if images is None else {"train_digest": "a", "test_digest": images}
    (path / "environment.json").write_text(json.dumps({"choices": choices, "data": data}))
    split = "train" if validation is None else "validation"
    run = RunDirectory(path)
    epochs = [
        Epoch(epoch, 10 * epoch, 0.1, metric, {split: Score(0.5, score)}, 1.0, 60.0) for epoch, score in enumerate(curve, 1)
    ]
    files.write_json_lines(run.metrics, [epoch.line() for epoch in epochs])
    scores = {"test": Score(0.5, test)} | ({} if validation is None else {"validation": Score(0.5, validation)})
    ends = {"epochs": len(curve), "parameters": 61_706, "seconds": 10.0, "metric": metric, "higher_is_better": metric != "mae"}
    files.write_json(run.result, Result(Status.FINISHED, scores=scores, **ends).content() | result)
    os.utime(run.result, (ended, ended))
    if wrong is not None:
        predicted = LABELS.copy()
        predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 10
        save_file({"class": predicted, "label": LABELS}, path / "predictions.safetensors")
    return path


def failed_run(path: Path, *overrides: str, status: Status = Status.DIVERGED, cause: str = "at step 3", seed: int = 0) -> Path:
    """Write a run to `path` that ended without a score."""
    RunDirectory(fake_run(path, *overrides, seed=seed)).write_result(Result(status, cause))
    return path
