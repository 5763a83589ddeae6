"""The claims about space: what convolutions, strides and pooling do with places and sizes."""

from scripts.lesson import figures
from scripts.lesson.claims import Claim, Measured, Table, cell, experiment, probed, scores, with_published
from scripts.lesson.networks import accepts, cost, maps_of, parameters, receptive_fields, smallest
from scripts.lesson.probes import APART, SHIFTS, SIZES
from scripts.lesson.rules import Finding, above, at_most, difference, near, signed

UNHURT, FOUND_AGAIN, CHANCE = 0.01, 0.02, 1 / 9
FAR = 8  # pixels


def _shuffled(measured: Measured) -> list[Finding]:
    def pair(net: str) -> tuple[list[float], list[float]]:
        return measured.values(f"{net}, in order"), measured.values(f"{net}, shuffled")

    return [
        above("the convnet is hurt: test accuracy in order minus shuffled", *pair("convnet")),
        near(f"the dense network is unhurt, within {UNHURT}: in order minus shuffled", *pair("dense"), UNHURT),
    ]


def lost(measured: Measured, arm: str) -> list[float]:
    """Return the accuracy lost by moving the images FAR pixels."""
    moved = measured.values(arm, probed("shift", FAR))
    return [at_home - away for at_home, away in zip(measured.values(arm, probed("shift", 0)), moved, strict=True)]


def _one_place(measured: Measured) -> list[Finding]:
    pooled, flat, _ = (lost(measured, arm.name) for arm in measured.arms)
    allowed = f"loses at most {FOUND_AGAIN} when the images move {FAR} pixels"
    return [
        at_most(f"global max pooling after the convolutions {allowed}", pooled, FOUND_AGAIN),
        at_most(f"flatten after the same convolutions {allowed}", flat, FOUND_AGAIN),
    ]


def _shift_table(measured: Measured) -> list[Table]:
    rows = [
        [arm.name, *(cell(measured.values(arm.name, probed("shift", n))) for n in SHIFTS)]
        for arm in measured.arms
    ]  # fmt: skip
    return [scores(measured), Table(["test accuracy, moved by pixels", *map(str, SHIFTS)], rows)]


def _where(measured: Measured) -> list[Finding]:
    what, where = measured.values("global max, what"), measured.values("global max, where")
    flat = measured.values("flatten, what")
    return [
        near("global max tells what as well as flatten, within 0.05: flatten minus global max", flat, what, 0.05),
        at_most(f"global max only guesses where, at most 0.02 above chance ({CHANCE:.4f})", where, CHANCE + 0.02),
        above("flatten does know where: flatten minus global max", measured.values("flatten, where"), where, 0.5),
    ]


def _fields(measured: Measured) -> list[Finding]:
    sides = [side for _, side, _ in receptive_fields()]
    grows, agree = sides == sorted(set(sides)), all(side == seen for _, side, seen in receptive_fields())
    path = " -> ".join(map(str, sides))
    name = measured.arms[0].name

    def gain(kind: str) -> list[float]:
        first, last = (measured.values(name, probed("readout", f"{kind} {depth}")) for depth in (1, 4))
        return [after - before for before, after in zip(first, last, strict=True)]

    return [
        Finding(f"the square that one output sees grows with every layer: {path} of 28 pixels a side", grows),
        Finding("the gradient of one output reaches exactly the pixels that the formula gives", agree),
        above("a linear readout tells the classes better from a deeper block, more so than in an untrained network: gain of "
              "the fourth block over the first, trained minus untrained", gain("trained"), gain("untrained")),
    ]  # fmt: skip


def _field_tables(measured: Measured) -> list[Table]:
    fields = [[name, f"{side} x {side}", f"{seen} x {seen}"] for name, side, seen in receptive_fields()]
    name = measured.arms[0].name
    readouts = [
        [kind, *(cell(measured.values(name, probed("readout", f"{kind} {depth}"))) for depth in range(1, 5))]
        for kind in ("trained", "untrained")
    ]
    header = ["test accuracy of a linear readout", "block 1", "block 2", "block 3", "block 4"]
    return [Table(["layer", "one output sees", "its gradient reaches"], fields), Table(header, readouts)]


def _shrinking(measured: Measured) -> list[Finding]:
    three, two, once, padded, unpadded = (measured.values(arm.name) for arm in measured.arms)
    return [
        above("32 to 4 pixels in three steps against two", three, two),
        above("in two steps against one", two, once),
        above("in three steps against one", three, once),
        above("six convolutions of 5 x 5: padded (32 pixels throughout) against unpadded (32 to 8)", padded, unpadded),
    ]


FULL = {name: f"{name}, full size" for name in ("maxpool", "strided", "conv7")}


def _pool_or_stride(measured: Measured) -> list[Finding]:
    full = measured.seeds(*FULL.values()) > 1
    size = "at full size" if full else "at a quarter of the width on 10,000 images"
    pool, stride, large = (measured.values(FULL[name] if full else name) for name in FULL)
    return [
        above(f"max pooling above large kernels, {size}", pool, large),
        above(f"strides above large kernels, {size}", stride, large),
        near(f"strides nearly as good as max pooling, within 0.02, {size}: max pooling minus strides", pool, stride, 0.02),
        above("and max pooling above strides", pool, stride),
    ]


def _global_max(measured: Measured) -> list[Finding]:
    flat, pooled = parameters("cifar-flatten"), parameters("cifar-global-max")
    return [Finding(f"{flat:,} parameters with flatten, {pooled:,} with global max pooling: a share of {pooled / flat:.3f}",
                    (flat, pooled) == (703_594, 179_306))]  # fmt: skip


def _any_size(measured: Measured) -> list[Finding]:
    small, large = maps_of(28), maps_of(64)
    shapes = " and ".join(" x ".join(map(str, shape)) for shape, _ in (small, large))
    return [
        Finding(f"28 x 28 and 64 x 64 images give maps of {shapes}", (small[0], large[0]) == ((1, 1, 10), (10, 10, 10))),
        Finding("LeNet, with flatten and dense layers, takes 28 x 28 and refuses 64 x 64", small[1] and not large[1]),
        at_most("and the map is useful: error rate at the nine places of a mosaic of nine test digits (0.9 when guessing)",
                [1 - value for value in measured.values("allconv", probed("mosaic", "mosaic"))], 0.2),
    ]  # fmt: skip


def _mosaic_table(measured: Measured) -> list[Table]:
    single, mosaic = (measured.values("allconv", probed("mosaic", key)) for key in ("single", "mosaic"))
    return [scores(measured), Table(["", "accuracy"], [["one digit at a time, 28 x 28", cell(single)],
                                                       ["at its place among nine, 84 x 84", cell(mosaic)]])]  # fmt: skip


def _global_max_tables(measured: Measured) -> list[Table]:
    sizes = [("a quarter of the width", "flatten", "global max pooling")]
    sizes += [("full size", "flatten, full size", "global max pooling, full size")]
    costs = []
    for size, *names in sizes:
        flat, pooled = (measured.values(name) for name in names)
        costs.append([size, signed(difference(flat, pooled)) if flat and pooled else "not measured yet"])
    return [*with_published(measured), Table(["", "test accuracy with flatten minus that with global max pooling"], costs)]


OTHER = 0.05  # of accuracy, for images a quarter larger or smaller
POOLED, BARE = ("model=chollet", "model.blocks=[{conv:32,pool:2},{conv:64,pool:2},{conv:64}]"), (
    "model=chollet", "model.blocks=[{conv:32},{conv:64},{conv:64}]")  # fmt: skip


def _other_sizes(measured: Measured) -> list[Finding]:
    name = measured.arms[0].name

    def lost_at(size: int) -> list[float]:
        own, other = (measured.values(name, probed("resized", side)) for side in (32, size))
        return [at_home - away for at_home, away in zip(own, other, strict=True)]

    return [
        Finding("built for 32 x 32 pixels, it takes 24 x 24 and 64 x 64", accepts("cifar-global-max", 24)
                and accepts("cifar-global-max", 64)),
        Finding("with flatten instead, it refuses both", not accepts("cifar-flatten", 24) and not accepts("cifar-flatten", 64)),
        Finding(f"any size at all: its unpadded convolutions need at least {smallest('cifar-global-max')} pixels", smallest(
            "cifar-global-max") == 1),
        *(at_most(f"and usefully: it loses at most {OTHER} on images resized to {size} x {size}", lost_at(size), OTHER)
          for size in (24, 40)),
    ]  # fmt: skip


def _size_table(measured: Measured) -> list[Table]:
    name = measured.arms[0].name
    row = [cell(measured.values(name, probed("resized", size))) for size in SIZES]
    return [scores(measured), Table(["test accuracy at pixels a side", *map(str, SIZES)], [["", *row]])]


def _average(measured: Measured) -> list[Finding]:
    def pair(data: str) -> tuple[list[float], list[float]]:
        return measured.values(f"{data}, max"), measured.values(f"{data}, average")

    return [near(f"{data}: within 0.01, max minus average", *pair(data), 0.01) for data in ("fashion", "cifar10")]


def _alike(measured: Measured) -> list[Finding]:
    findings = []
    for data in ("fashion", "cifar10"):
        beside = measured.values(f"{data}, no strides", probed("alike", 1))
        findings += [
            at_most(f"{data}: 1 minus the correlation of adjacent pixels", [1 - value for value in beside], 0.2),
            above(f"{data}: strides of 2, twice, lose at most 0.02: with strides minus without",
                  measured.values(f"{data}, strides of 2"), measured.values(f"{data}, no strides"), -0.02),
        ]  # fmt: skip
    return findings


def _alike_tables(measured: Measured) -> list[Table]:
    rows = [
        [data, *(cell(measured.values(f"{data}, no strides", probed("alike", n))[:1]).split()[0] for n in APART)]
        for data in ("fashion", "cifar10")
    ]
    return [scores(measured), Table(["correlation of pixels apart by", *map(str, APART)], rows)]


def _cheaper(measured: Measured) -> list[Finding]:
    names = ("multiplications per image", "bytes that training keeps per image", "parameters")
    pairs = zip(names, cost(*POOLED), cost(*BARE), strict=True)
    return [
        Finding(f"{name}: {pooled:,} with the two poolings of `chollet`, {bare:,} without, {bare / pooled:.1f} times as many",
                pooled < bare)
        for name, pooled, bare in pairs
    ]  # fmt: skip


CLAIMS = [
    Claim("shuffled-pixels", _shuffled, draw=figures.shuffled),
    Claim("one-place", _one_place, tables=_shift_table, draw=figures.moved),
    Claim("pooling-where", _where, draw=figures.where),
    Claim("receptive-field", _fields, tables=_field_tables, draw=figures.fields),
    Claim("shrink-fast", _shrinking, draw=figures.shrinking),
    Claim(
        "pool-or-stride",
        _pool_or_stride,
        [experiment(text, f"{name}-fashion") for name, text in FULL.items()],
        with_published,
        figures.pool_or_stride,
    ),
    Claim(
        "global-max",
        _global_max,
        [experiment("flatten, full size", "cifar-pooled"), experiment("global max pooling, full size", "cifar-global-max")],
        _global_max_tables,
    ),
    Claim("any-size", _any_size, tables=_mosaic_table, draw=figures.mosaic),
    Claim("other-sizes", _other_sizes, tables=_size_table, draw=figures.other_sizes),
    Claim("average-or-max", _average, draw=figures.average_or_max),
    Claim("alike-pixels", _alike, tables=_alike_tables, draw=figures.alike),
    Claim("pooling-cheaper", _cheaper, tables=lambda _: []),
]
