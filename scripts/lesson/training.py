"""The claims about training: initialization, depth, data, sizes, dropout."""

from scripts.lesson import figures
from scripts.lesson.claims import Claim, Measured, experiment, gap, train, with_published
from scripts.lesson.rules import Finding, above

FAR_FEWER, POINT = 5, 0.01  # times the parameters; of accuracy


def _harder(measured: Measured) -> list[Finding]:
    mnist, fashion, cifar = (measured.values(arm.name) for arm in measured.arms)
    return [
        above("test accuracy on MNIST minus that on Fashion-MNIST", mnist, fashion),
        above("on Fashion-MNIST minus that on CIFAR-10", fashion, cifar),
    ]


def _xavier(measured: Measured) -> list[Finding]:
    return [
        above("test accuracy with Xavier minus that with N(0, 0.01)", measured.values("Xavier"), measured.values("N(0, 0.01)"))
    ]


def _deeper(measured: Measured) -> list[Finding]:
    two, three, five, seven = (measured.values(arm.name) for arm in measured.arms)
    return [
        above("a third layer gains: 3 layers minus 2", three, two),
        above("five lose: 3 layers minus 5", three, five),
        above("seven (250 epochs, the others 50, as in the notes) are worse: 5 layers minus 7", five, seven),
    ]


def _overfits(measured: Measured) -> list[Finding]:
    one, two, five = (measured.values(arm.name) for arm in measured.arms)
    one_train, two_train, five_train = (measured.values(arm.name, train) for arm in measured.arms)
    one_gap, _, five_gap = (measured.values(arm.name, gap) for arm in measured.arms)
    return [
        above("training accuracy rises: 2 layers minus 1", two_train, one_train),
        above("training accuracy rises further: 5 layers minus 2", five_train, two_train),
        above("test accuracy rises at first: 2 layers minus 1", two, one),
        above("and falls with more: 2 layers minus 5", two, five),
        above("the gap from training to test grows: with 5 layers minus with 1", five_gap, one_gap),
    ]


def _fewer(measured: Measured) -> list[Finding]:
    return [fewest(measured, data) for data in ("mnist", "fashion")]


def fewest(measured: Measured, data: str) -> Finding:
    """Compare the smallest convnet that is as good as the best dense network, within POINT, with that network's parameters."""
    names = [arm.name for arm in measured.arms if arm.name.startswith(f"{data},") and measured.values(arm.name)]
    dense, convnets = ([name for name in names if kind in name] for kind in ("dense", "convnet"))
    if len(names) < sum(arm.name.startswith(f"{data},") for arm in measured.arms):
        return Finding(f"{data}: not measured yet", None)
    best = max(dense, key=lambda name: sum(measured.values(name)) / measured.seeds(name))
    against = {name: above("", measured.values(name), measured.values(best), -POINT) for name in convnets}
    size = {name: int(measured.entries[name][0]["parameters"]) for name in (best, *convnets)}
    as_good = [name for name in convnets if against[name].holds]
    if not as_good:
        return Finding(f"{data}: no convnet is shown to be as good as the best dense network ({size[best]:,} parameters)",
                       False if all(found.holds is False for found in against.values()) else None)  # fmt: skip
    least = min(as_good, key=lambda name: size[name])
    times = size[best] / size[least]
    text = f"{data}: a convnet of {size[least]:,} parameters is as good as the best dense network, which has {size[best]:,}"
    return Finding(f"{text}, {times:.1f} times as many: test accuracy{against[least].text}", times >= FAR_FEWER)


def _grow(measured: Measured) -> list[Finding]:
    growing, constant, shrinking, *kernels = (measured.values(arm.name) for arm in measured.arms)
    findings = [
        above(f"constant maps are at most {POINT} better than growing: growing minus constant", growing, constant, -POINT),
        above("so are shrinking ones: growing minus shrinking", growing, shrinking, -POINT),
    ]  # fmt: skip
    small = zip((3, 5, 7), (growing, *kernels[:2]), strict=True)
    return findings + [above(f"kernels of {side} above kernels of 11", values, kernels[2]) for side, values in small]


def _dropout(measured: Measured) -> list[Finding]:
    findings = []
    for data in ("fashion", "cifar10", "cifar10 at full size"):
        with_it, without = f"{data}, 0.2", f"{data}, without"
        findings += [
            above(f"{data}: test accuracy with dropout minus without", measured.values(with_it), measured.values(without)),
            above(f"{data}: overfitting (training minus test accuracy), without dropout minus with it",
                  measured.values(without, gap), measured.values(with_it, gap)),
        ]  # fmt: skip
    return findings


def _adam(measured: Measured) -> list[Finding]:
    return [
        above(f"{activation}: test accuracy after 50 epochs with Adam minus that with SGD",
              measured.values(f"{activation}, adam"), measured.values(f"{activation}, sgd"))
        for activation in ("sigmoid", "relu")
    ]  # fmt: skip


def _relu(measured: Measured) -> list[Finding]:
    return [
        above(f"{optimizer}: test accuracy after 50 epochs with ReLU minus that with sigmoid",
              measured.values(f"relu, {optimizer}"), measured.values(f"sigmoid, {optimizer}"))
        for optimizer in ("sgd", "adam")
    ]  # fmt: skip


def _convnets(measured: Measured) -> list[Finding]:
    fashion, cifar = measured.values("MLP, Fashion-MNIST"), measured.values("MLP, CIFAR-10")
    return [
        above("Fashion-MNIST: LeNet minus the MLP of 128 units", measured.values("LeNet, Fashion-MNIST"), fashion),
        above("the slides' functional network minus that MLP", measured.values("functional, Fashion-MNIST"), fashion),
        above("CIFAR-10: LeNet minus the best MLP, of 2 x 128 units", measured.values("LeNet, CIFAR-10"), cifar),
        above("the slides' functional network minus that MLP", measured.values("functional, CIFAR-10"), cifar),
    ]


CLAIMS = [
    Claim("harder-data", _harder, draw=figures.harder),
    Claim("xavier", _xavier, [experiment("N(0, 0.01)", "mlp-sigmoid-normal"), experiment("Xavier", "mlp-sigmoid-xavier")]),
    Claim(
        "deeper-sigmoid",
        _deeper,
        [experiment(f"{depth} layers", f"mlp-sigmoid-{depth}") for depth in (2, 3, 5, 7)],
        draw=figures.deeper,
    ),
    Claim(
        "mlp-overfits",
        _overfits,
        [experiment(f"{depth} layer{'s' if depth > 1 else ''}", f"mlp-cifar-{depth}") for depth in (1, 2, 5)],
        draw=figures.overfits,
    ),
    Claim("fewer-parameters", _fewer, draw=figures.fewer),
    Claim("grow-maps", _grow, draw=figures.grow),
    Claim(
        "dropout",
        _dropout,
        [
            experiment("cifar10 at full size, without", "functional-cifar"),
            experiment("cifar10 at full size, 0.2", "functional-cifar-dropout"),
        ],
        with_published,
        figures.dropout,
    ),
    Claim("adam", _adam, draw=figures.dense),
    Claim("relu", _relu, draw=figures.dense),
    Claim(
        "convnets",
        _convnets,
        [
            experiment("MLP, Fashion-MNIST", "mlp-relu-1"),
            experiment("LeNet, Fashion-MNIST", "lenet-fashion"),
            experiment("functional, Fashion-MNIST", "functional-fashion"),
            experiment("MLP, CIFAR-10", "mlp-cifar-2"),
            experiment("LeNet, CIFAR-10", "lenet-cifar"),
            experiment("functional, CIFAR-10", "functional-cifar"),
        ],
        draw=figures.convnets,
    ),
]
