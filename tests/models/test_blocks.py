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
    keys = {
        "conv": 8,
        "kernel": [3, 5],
        "stride": (2, 1),
        "padding": ["full", 2],
        "pool": 3,
        "pool_stride": 2,
        "pool_type": "average",
        "dropout": 0.25,
        "batch_norm": True,
    }
    assert set(keys) == {item.name for item in fields(Block)}
    assert parse_block(keys, "b") == Block(8, (3, 5), (2, 1), ("full", 2), (3, 3), (2, 2), "average", 0.25, True)


@pytest.mark.parametrize("padding", ["valid", "same", "full", 0, 4, [1, 2], ["valid", "full"], ["same", "same"]])
def test_paddings(padding: Any) -> None:
    pair = tuple(padding) if isinstance(padding, list) else (padding, padding)
    assert parse_block({"conv": 1, "padding": padding}, "b").padding == pair


@pytest.mark.parametrize(
    ("keys", "conv_name", "pool_name"),
    [
        ({"conv": 64, "stride": 2, "padding": "same", "pool": 2}, "conv 64 k3 s2 same", "max pool 2"),
        ({"conv": 32, "kernel": 5, "pool": 3, "pool_stride": 2}, "conv 32 k5", "max pool 3 s2"),
        (
            {"conv": 1, "kernel": [3, 5], "stride": [1, 2], "padding": [1, 0], "pool": [1, 2], "pool_type": "average"},
            "conv 1 k3x5 s1x2 1x0",
            "average pool 1x2",
        ),
    ],
)
def test_names_as_the_notes_write_them(keys: dict[str, Any], conv_name: str, pool_name: str) -> None:
    block = parse_block(keys, "b")
    assert (block.conv_name, block.pool_name) == (conv_name, pool_name)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("conv", r"b=conv: expected a mapping"),
        ({}, r"b: expected conv .*, pool .*, or both"),
        ({"conv": None}, r"b: expected conv"),
        ({"conv": 8, "kernal": 3}, r"b\.kernal: no such key of a block\. Did you mean kernel\? Keys: conv, kernel, stride, "),
        ({"conv": 8, "xyz": 3}, r"b\.xyz: no such key of a block\. Keys: conv"),
        ({"conv": 0}, r"b\.conv=0: expected an integer of 1 or more"),
        ({"conv": 2.0}, r"b\.conv=2\.0: expected an integer"),
        ({"conv": True}, r"b\.conv=True: expected an integer"),
        ({"conv": [8, 8]}, r"b\.conv=\[8, 8\]: expected an integer"),
        ({"conv": 8, "kernel": 0}, r"b\.kernel=0: expected an integer of 1 or more"),
        ({"conv": 8, "kernel": "3"}, r"b\.kernel=3: expected an integer"),
        ({"conv": 8, "kernel": [3, 3, 3]}, r"b\.kernel=\[3, 3, 3\]: expected a number, or a pair"),
        ({"conv": 8, "stride": [1, 0]}, r"b\.stride=0: expected an integer of 1 or more"),
        ({"conv": 8, "stride": -1}, r"b\.stride=-1"),
        ({"conv": 8, "padding": "sane"}, r"b\.padding=sane: expected valid, same, full, a number"),
        ({"conv": 8, "padding": -1}, r"b\.padding=-1: expected valid"),
        ({"conv": 8, "padding": True}, r"b\.padding=True: expected valid"),
        ({"conv": 8, "padding": 1.5}, r"b\.padding=1\.5: expected valid"),
        ({"conv": 8, "padding": [1, 2, 3]}, r"b\.padding=\[1, 2, 3\]: expected valid"),
        ({"conv": 8, "padding": ["same", 1]}, r"same goes for both sides or for neither"),
        ({"conv": 8, "pool": 0}, r"b\.pool=0"),
        ({"conv": 8, "pool": 2, "pool_stride": 0}, r"b\.pool_stride=0"),
        ({"conv": 8, "pool": 2, "pool_type": "maximum"}, r"b\.pool_type=maximum: expected max or average"),
        ({"conv": 8, "pool_stride": 2}, r"b\.pool_stride: has no meaning without pool"),
        ({"conv": 8, "pool_type": "max"}, r"b\.pool_type: has no meaning without pool"),
        ({"conv": 8, "batch_norm": 1}, r"b\.batch_norm=1: expected true or false"),
        ({"conv": 8, "dropout": 1.0}, r"b\.dropout=1\.0: expected a rate"),
        *(
            ({"pool": 2, key: 1}, rf"b\.{key}: has no meaning without conv")
            for key in ("kernel", "stride", "padding", "batch_norm")
        ),
    ],
)
def test_refused(keys: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_block(keys, "b")


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, True, "0.5", None, float("nan")])
def test_a_rate_is_0_or_more_and_less_than_1(rate: Any) -> None:
    with pytest.raises(ConfigError, match=r"here=.*: expected a rate of 0 or more and less than 1"):
        check_rate(rate, "here")


@pytest.mark.parametrize("rate", [0, 0.0, 0.5, 0.999])
def test_a_rate_that_will_do(rate: float) -> None:
    check_rate(rate, "here")
