"""The columns that describe a run in TensorBoard's HPARAMS tab. Does not import torch."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import config
from cnnlab.config.schema import Config

Value = bool | int | float | str

NAMED = ("data", "model", "task", "optimizer", "schedule", "augment")  # config groups, one column each
NO_COLUMN = ("data.name", "parameters")  # repeats the data column; takes several lines
LONGEST = 40  # characters in a cell


def hyperparameters(cfg: Config, choices: Mapping[str, str], varied: Sequence[str] = ()) -> dict[str, Value]:
    """Return what a user chooses and compares: the parts by name, then the settings of the recipe that fit in a cell.

    Custom parts are named by their `_target_`. Lists are written as on the command line, [120,84]. Left out are a network's
    blocks, which its name implies, unset values (null), and `trainer.epochs` if `trainer.steps` is set.

    Args:
        choices: names by config group, as environment.json records them.
        varied: the keys in which the jobs of a sweep differ. If there are any, only these are returned: with all of them,
            TensorBoard would show five columns before the scores and push the scores off the screen.
    """
    settings = {key: value for key, value in config.flat(cfg).items() if key not in config.NOT_THE_RECIPE}
    shown: dict[str, Value] = {group: _name(group, cfg, choices) for group in NAMED}
    idle = (*NO_COLUMN, "trainer.epochs") if cfg.trainer.steps else NO_COLUMN
    for key, value in settings.items():
        cell = _cell(value)
        if cell is not None and key not in idle and not key.endswith("._target_"):
            shown[key] = cell
    if "experiment" in varied:
        shown["experiment"] = choices.get("experiment", "none")
    keys = {key.removesuffix("._target_").removesuffix(".source") for key in varied}
    return {key: value for key, value in shown.items() if key in keys} or shown


def _name(group: str, cfg: Config, choices: Mapping[str, str]) -> str:
    if group == "augment":
        return ",".join(cfg.augment) or "none"
    chosen = choices.get(group, "custom")
    if group == "data":
        return cfg.data.name if cfg.data.name != "custom" else str(cfg.data.source["_target_"])
    part = getattr(cfg, group)
    return chosen if chosen != "custom" else str(part["_target_"])


def _cell(value: Any) -> Value | None:
    """Return the value as TensorBoard takes it; None if it does not fit."""
    if isinstance(value, bool | int | float):
        return value if math.isfinite(value) else str(value)  # TensorBoard sends JSON, which has no inf
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        value = json.dumps(value, separators=(",", ":")).replace('"', "")
    return value if isinstance(value, str) and len(value) <= LONGEST else None
