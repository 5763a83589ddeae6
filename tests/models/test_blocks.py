from dataclasses import fields
from typing import Any

import pytest

from cnnlab.errors import ConfigError
from cnnlab.models.blocks import Block, check_rate, parse_block


def test_what_a_block_leaves_out() -> None:
    assert parse_block({"conv": 8}, "b") == Block(8, (3, 3), (1, 1), ("valid", "valid"), None, (1, 1), "max", None, None)
    assert parse_block({"pool": 3}, "b").pool_stride == (3, 3)
    assert parse_block({"pool": [2, 3]}, "b").pool_stride == (2, 3)
    assert parse_block({"conv": None, "pool": 2}, "b").conv is None


def test_every_key_is_kept() -> None:
    keys = {"conv": 8, "kernel": [3, 5], "stride": (2, 1), "padding": ["full", 2], "pool": 3, "pool_stride": 2}
    keys |= {"pool_type": "average", "dropout": 0.25, "batch_norm": True}
    assert set(keys) == {item.name for item in fields(Block)}
    assert parse_block(keys, "b") == Block(8, (3, 5), (2, 1), ("full", 2), (3, 3), (2, 2), "average", 0.25, True)


@pytest.mark.parametrize("padding", ["valid", "same", "full", 0, 4, [1, 2], ["valid", "full"], ["same", "same"]])
def test_paddings(padding: Any) -> None:
    pair = tuple(padding) if isinstance(padding, list) else (padding, padding)
    assert parse_block({"conv": 1, "padding": padding}, "b").padding == pair


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"conv": 64, "stride": 2, "padding": "same", "pool": 2}, ("conv 64 k3 s2 same", "max pool 2")),
        ({"conv": 32, "kernel": 5, "pool": 3, "pool_stride": 2}, ("conv 32 k5", "max pool 3 s2")),
        (
            {"conv": 1, "kernel": [3, 5], "stride": [1, 2], "padding": [1, 0], "pool": [1, 2], "pool_type": "average"},
            ("conv 1 k3x5 s1x2 1x0", "average pool 1x2"),
        ),
    ],
)
def test_names_as_the_notes_write_them(keys: dict[str, Any], names: tuple[str, str]) -> None:
    block = parse_block(keys, "b")
    assert (block.conv_name, block.pool_name) == names


BAD_RATES = [-0.1, 1, 1.5, True, "0.5", float("nan")]
BAD_VALUES = {
    "conv": [0, 2.0, True, [8, 8]],
    "kernel": [0, "3", [3, 3, 3]],
    "stride": [[1, 0], -1],
    "padding": ["sane", -1, True, 1.5, [1, 2, 3], ["same", 1]],
    "pool": [0],
    "pool_stride": [0],
    "pool_type": ["maximum"],
    "batch_norm": [1],
    "dropout": BAD_RATES,
    "kernal": [3],
}


@pytest.mark.parametrize("key", BAD_VALUES)
def test_a_bad_value_is_refused_by_its_key(key: str) -> None:
    for value in BAD_VALUES[key]:
        with pytest.raises(ConfigError, match=rf"^b\.{key}\b"):
            parse_block({"conv": 8, "pool": 2, key: value}, "b")


@pytest.mark.parametrize(
    ("keys", "unused"),
    [({"pool": 2}, ["kernel", "stride", "padding", "batch_norm"]), ({"conv": 8}, ["pool_stride", "pool_type"])],
)
def test_a_key_that_would_do_nothing_is_refused(keys: dict[str, int], unused: list[str]) -> None:
    for key in unused:
        with pytest.raises(ConfigError, match=rf"^b\.{key}\b"):
            parse_block({**keys, key: 1}, "b")


@pytest.mark.parametrize("keys", ["conv", {}, {"conv": None}])
def test_a_block_is_a_mapping_with_conv_or_pool(keys: Any) -> None:
    with pytest.raises(ConfigError, match=r"^b[:=]"):
        parse_block(keys, "b")


def test_rates() -> None:
    for rate in (0, 0.0, 0.5, 0.999):
        check_rate(rate, "here")
    for bad in (*BAD_RATES, None):
        with pytest.raises(ConfigError, match=r"^here="):
            check_rate(bad, "here")
