"""The arms of each claim's comparison, at a size that a laptop can train."""

from scripts.lesson import probes
from scripts.lesson.measure import Arm, arm

SOURCES = "data.source._target_=scripts.lesson.sources"
SHUFFLED = f"data=fashion {SOURCES}.shuffled"
CANVAS = f"data=mnist {SOURCES}.on_canvas data.source.size=60"
NINE = f"data=mnist {SOURCES}.nine_places"
WHERE = f"{NINE} data.source.label=where"
WHAT = f"{NINE} data.source.label=what"
MOVED = "model=lenet model.hidden=[64] model.blocks=[{conv:8,kernel:5,pool:2},{conv:16,kernel:5,pool:2},{conv:32,kernel:3}]"
SPOTTER = "model=lenet model.hidden=[64] model.blocks=[{conv:16,kernel:5,pool:2},{conv:32,kernel:3}]"
POOLED = "model.head=global_average model.hidden=[]"
NOTES = "model=mlp data=fashion trainer.batch_size=1024"
READOUT = "model=lenet model.hidden=[] model.blocks=[{conv:16},{conv:16,pool:2},{conv:16},{conv:16,pool:2}]"


def shrinking(first: int, second: int, third: int) -> str:
    """Three convolutions, each followed by pooling with its window; the head makes the parameters equal for all."""
    pools = [f",pool:{window}" if window > 1 else "" for window in (first, second, third)]
    blocks = ",".join(f"{{conv:{width},kernel:3,padding:same{pool}}}" for width, pool in zip((16, 32, 32), pools, strict=True))
    return f"model=lenet model.blocks=[{blocks}] model.head=global_average model.hidden=[] data=cifar10"


def six_deep(padding: str) -> str:
    """Six convolutions of 16 maps and 5 x 5 pixels: padded 32 pixels all the way, unpadded 32 -> 28 -> 24 ... -> 8."""
    return f"model=lenet model.blocks=[{','.join([f'{{conv:16,kernel:5,padding:{padding}}}'] * 6)}] {POOLED} data=cifar10"


def pooling(kind: str, data: str) -> str:
    """Three convolutions, each followed by pooling of this kind."""
    blocks = ",".join(f"{{conv:{width},kernel:3,padding:same,pool:2,pool_type:{kind}}}" for width in (16, 32, 32))
    return f"model=lenet model.blocks=[{blocks}] model.hidden=[64] data={data}"


def striding(strides: tuple[int, int, int], data: str) -> str:
    """Three convolutions of these strides, global average pooling: the same parameters, whatever the strides."""
    pairs = zip((16, 32, 32), strides, strict=True)
    blocks = ",".join(f"{{conv:{width},kernel:3,padding:same,stride:{stride}}}" for width, stride in pairs)
    return f"model=lenet model.blocks=[{blocks}] {POOLED} data={data}"


def widths(maps: tuple[int, int, int, int], kernel: int) -> str:
    """Four convolutions with these numbers of maps, pooling after the first three, global average pooling."""
    pools = [",pool:2"] * 3 + [""]
    blocks = ",".join(f"{{conv:{width},kernel:{kernel},padding:same{pool}}}" for width, pool in zip(maps, pools, strict=True))
    return f"model=lenet model.blocks=[{blocks}] model.head=global_average model.hidden=[] data=fashion"


def sizes(data: str) -> list[Arm]:
    """Convnets and dense networks of many sizes."""
    convnets = [arm(f"{data}, convnet {w}", f"model=chollet data={data} model.width_factor={w}") for w in (0.125, 0.25, 0.5)]
    dense = [arm(f"{data}, dense {w}", f"model=mlp data={data} model.hidden=[{w}]") for w in (8, 32, 128, 512, 1024)]
    return convnets + dense


DENSE = [  # the notes' size, batch and optimizers: Keras's constants
    arm(f"{activation}, {optimizer}", f"{NOTES} model.activation={activation} optimizer={optimizer}", 50, limit=None)
    for activation in ("sigmoid", "relu")
    for optimizer in ("sgd", "adam")
]

ARMS: dict[str, list[Arm]] = {
    "shuffled-pixels": [
        arm("convnet, in order", "model=lenet data=fashion"),
        arm("convnet, shuffled", f"model=lenet {SHUFFLED}"),
        arm("dense, in order", "model=mlp data=fashion"),
        arm("dense, shuffled", f"model=mlp {SHUFFLED}"),
    ],
    "one-place": [
        arm("convolutions, global max pooling", f"{MOVED} model.head=global_max {CANVAS}", 6, probe=probes.shift),
        arm("convolutions, flatten", f"{MOVED} {CANVAS}", 6, probe=probes.shift),
        arm("dense", f"model=mlp {CANVAS}", 6, probe=probes.shift),
    ],
    "pooling-where": [
        arm("flatten, what", f"{SPOTTER} {WHAT}", 8),
        arm("flatten, where", f"{SPOTTER} {WHERE}", 8),
        arm("global max, what", f"{SPOTTER} model.head=global_max {WHAT}", 8),
        arm("global max, where", f"{SPOTTER} model.head=global_max {WHERE}", 8),
    ],
    "receptive-field": [arm("four convolutions", f"{READOUT} data=fashion", probe=probes.readout)],
    "shrink-fast": [
        arm("in three steps", shrinking(2, 2, 2)),
        arm("in two steps", shrinking(4, 2, 1)),
        arm("at once", shrinking(8, 1, 1)),
        arm("5 x 5, padded", six_deep("same")),
        arm("5 x 5, unpadded", six_deep("valid")),
    ],
    "harder-data": [arm(data, f"model=lenet data={data}") for data in ("mnist", "fashion", "cifar10")],
    "pool-or-stride": [
        arm(name, f"model={name} model.width_factor=0.25 data=fashion", 6) for name in ("maxpool", "strided", "conv7")
    ],
    "global-max": [
        arm("flatten", "model=cifar-flatten model.width_factor=0.25 data=cifar10"),
        arm("global max pooling", "model=cifar-global-max model.width_factor=0.25 data=cifar10"),
    ],
    "any-size": [arm("allconv", "model=allconv model.width_factor=0.25 data=mnist", 5, probe=probes.mosaic, pictured=True)],
    "fewer-parameters": [*sizes("mnist"), *sizes("fashion")],
    "grow-maps": [
        arm("growing: 8, 16, 32, 32", widths((8, 16, 32, 32), 3)),
        arm("constant: 23, 23, 23, 23", widths((23, 23, 23, 23), 3)),
        arm("shrinking: 32, 32, 16, 8", widths((32, 32, 16, 8), 3)),
        arm("kernels of 5", widths((5, 10, 19, 19), 5)),
        arm("kernels of 7", widths((3, 7, 14, 14), 7)),
        arm("kernels of 11", widths((2, 4, 9, 9), 11)),
    ],
    "dropout": [
        arm(f"{data}, {name}", f"model=functional model.width_factor=0.5 data={data} model.dropout={rate}", 15)
        for data in ("fashion", "cifar10")
        for name, rate in (("without", 0.0), ("0.2", 0.2))
    ],
    "other-sizes": [
        arm("global max pooling", "model=cifar-global-max model.width_factor=0.25 data=cifar10", probe=probes.resized),
    ],
    "average-or-max": [
        arm(f"{data}, {kind}", pooling(kind, data)) for data in ("fashion", "cifar10") for kind in ("max", "average")
    ],
    "alike-pixels": [
        arm(f"{data}, {name}", striding(strides, data), probe=probe)
        for data in ("fashion", "cifar10")
        for name, strides, probe in (("no strides", (1, 1, 1), probes.alike), ("strides of 2", (2, 2, 1), None))
    ],
    "adam": DENSE,
    "relu": DENSE,
}
