"""A convolution block as written in a config: `{conv: 64, kernel: 3, stride: 2, padding: same, pool: 2}`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from cnnlab.errors import ConfigError, suggest
from cnnlab.models.geometry import Padding

PADDINGS = ("valid", "same", "full")
POOL_TYPES = ("max", "average")
SIDES = {1: "[length]", 2: "a pair [height, width]", 3: "[depth, height, width]"}  # by their number


@dataclass(frozen=True)
class Block:
    """A convolution, then pooling; either may be missing. Tuples have one number per side: (height, width) for images."""

    conv: int | None  # number of filters
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[Padding, ...]
    pool: tuple[int, ...] | None  # window
    pool_stride: tuple[int, ...]
    pool_type: str
    dropout: float | None  # None: the model's
    batch_norm: bool | None

    @property
    def conv_name(self) -> str:
        """The convolution as written in the lecture notes: "conv 64 k3 s2 same"."""
        stride = f" s{sides_name(self.stride)}" if set(self.stride) != {1} else ""
        padding = f" {sides_name(self.padding)}" if set(self.padding) != {"valid"} else ""
        return f"conv {self.conv} k{sides_name(self.kernel)}{stride}{padding}"

    @property
    def pool_name(self) -> str:
        stride = f" s{sides_name(self.pool_stride)}" if self.pool_stride != self.pool else ""
        return f"{self.pool_type} pool {sides_name(cast(tuple[int, ...], self.pool))}{stride}"


def parse_block(keys: Mapping[str, Any], where: str, num_sides: int = 2) -> Block:
    """Check the keys of one block and fill in defaults (kernel 3, stride 1, padding valid, pool stride = window).

    Args:
        keys: as in the config.
        where: the block's key, such as "model.blocks[0]", for the error.
        num_sides: 1 for signals, 2 for images, 3 for clips and voxels.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
    """
    names = [item.name for item in fields(Block)]
    if not isinstance(keys, Mapping):
        raise ConfigError(f"{where}={keys}: expected a mapping such as {{conv: 32, kernel: 3}}")
    for key in keys:
        if key not in names:
            raise ConfigError(f"{where}.{key}: no such key of a block.{suggest(key, names)} Keys: {', '.join(names)}.")
    if keys.get("conv") is None and keys.get("pool") is None:
        raise ConfigError(f"{where}: expected conv (a number of filters), pool (a window), or both")
    conv = None if keys.get("conv") is None else _positive(keys["conv"], f"{where}.conv")
    for key in () if conv else ("kernel", "stride", "padding", "batch_norm"):
        if key in keys:
            raise ConfigError(f"{where}.{key}: has no meaning without conv, a number of filters")
    pool = None if keys.get("pool") is None else parse_sides(keys["pool"], f"{where}.pool", num_sides)
    for key in () if pool else ("pool_stride", "pool_type"):
        if key in keys:
            raise ConfigError(f"{where}.{key}: has no meaning without pool, a window")
    pool_type = keys.get("pool_type", "max")
    if pool_type not in POOL_TYPES:
        raise ConfigError(f"{where}.pool_type={pool_type}: expected {' or '.join(POOL_TYPES)}")
    batch_norm = keys.get("batch_norm")
    if batch_norm is not None and not isinstance(batch_norm, bool):
        raise ConfigError(f"{where}.batch_norm={batch_norm}: expected true or false")
    dropout = keys.get("dropout")
    if dropout is not None:
        check_rate(dropout, f"{where}.dropout")
    return Block(
        conv,
        parse_sides(keys.get("kernel", 3), f"{where}.kernel", num_sides),
        parse_sides(keys.get("stride", 1), f"{where}.stride", num_sides),
        _paddings(keys.get("padding", "valid"), f"{where}.padding", num_sides),
        pool,
        parse_sides(keys.get("pool_stride", pool or 1), f"{where}.pool_stride", num_sides),
        pool_type,
        dropout,
        batch_norm,
    )


def check_rate(rate: Any, where: str) -> None:
    """Raise ConfigError unless 0 <= rate < 1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ConfigError(f"{where}={rate}: expected a rate of 0 or more and less than 1")


def sides_name(sides: tuple[Any, ...]) -> str:
    """Format sides: "3" for (3, 3), "3x5" for (3, 5)."""
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def _positive(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where}={value}: expected an integer of 1 or more")
    return value


def parse_sides(value: Any, where: str, num_sides: int) -> tuple[int, ...]:
    """A number for each side, from a list or one number for all; ConfigError unless each is an integer of 1 or more."""
    if isinstance(value, list | tuple) and len(value) != num_sides:
        raise ConfigError(f"{where}={value}: expected a number, or {SIDES[num_sides]}")
    sides = value if isinstance(value, list | tuple) else [value] * num_sides
    return tuple(_positive(side, where) for side in sides)


def _paddings(value: Any, where: str, num_sides: int) -> tuple[Padding, ...]:
    sides = tuple(value) if isinstance(value, list | tuple) and len(value) == num_sides else (value,) * num_sides
    for side in sides:
        if side not in PADDINGS and (isinstance(side, bool) or not isinstance(side, int) or side < 0):
            each = SIDES[num_sides]
            raise ConfigError(f"{where}={value}: expected {', '.join(PADDINGS)}, a number of pixels, or {each}")
    if "same" in sides and len(set(sides)) > 1:
        raise ConfigError(f"{where}={value}: use same for all sides or for none")
    return sides
