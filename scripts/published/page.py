"""Published and measured results: docs/RESULTS.md, README's table, the header comments of the experiments."""

import re
from collections.abc import Iterable, Mapping, Sequence

from cnnlab.comparison.statistics import summarize
from scripts.published import comparison
from scripts.published.comparison import Comparison, Figure

REMARKS = """\
MNIST and Fashion-MNIST are the official files, bit for bit. The CIFAR-10 used here is a copy in which 93 of \
60,000 images (73 for training, 20 for testing) were re-encoded and are not exact; figures measured on it may differ in the \
fourth digit from those on the official files.

`mlp-cifar-1` varies widely between seeds. For seeds 0 to 4 the training accuracy is 0.5021, 0.5542, 0.4964, 0.5282 and \
0.5104, the test accuracy 0.4581, 0.4825, 0.4549, 0.4667 and 0.4517. Seeds 5 to 9 were added after these five had been seen \
and their means found below the tolerance: 0.5268, 0.5540, 0.5315, 0.4999 and 0.5425 in training, and 0.4648, 0.4814, 0.4746, \
0.4481 and 0.4703 on the test images. The training accuracy is lower the more hidden units die (correlation -0.98): \
`python -m scripts.dead_units RUN` finds that 113, 100, 114, 105, 111, 105, 98, 107, 112 and 103 of 128 respond to no training \
image at the end. Keras itself, with TensorFlow and the same data and recipe, varies as widely: five runs of `python \
scripts/peer.py keras --net mlp --data cifar10 --epochs 150 --batch-size 1024 --root DATA` reached 0.4691, 0.4649, 0.4698, \
0.4795 and 0.4468 on the test images; the last two reached 0.5524 and 0.4976 in training.

The optimizers are torch's with Keras's constants, and their updates are not exactly Keras 3's: RMSprop divides by \
sqrt(v) + eps in torch and by sqrt(v + eps) in Keras; Adam adds eps after the bias correction in torch and before it in Keras. \
Batch norm has torch's momentum 0.1 and eps 1e-5 here, 0.01 (Keras's 0.99) and 1e-3 in Keras. In the training accuracy of \
`chollet-mnist` after 5 epochs no difference shows: 0.9940 ± 0.0003 here, 0.9943 published, and 0.9940, 0.9943 and 0.9951 in \
three runs of Keras 3 (`python scripts/peer.py keras --net chollet --data mnist --epochs 5 --optimizer rmsprop --root DATA`).

Where no score is published, epochs and batch size are ours, limited by what two cores could manage.

Seconds are those of whole runs on a machine shared with other work, which affected the long runs most."""


def text(rows: Sequence[Comparison], curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return the text of docs/RESULTS.md."""
    results = comparison.read_published("results")
    tolerance = "{train:.2f}, {test:.3f}".format(**comparison.TOLERANCE)
    lines = [
        "# Published and measured",
        "",
        "Written by `python -m scripts.reproduce` from `docs/results.json`; each row is measured by "
        "`python -m cnnlab.train experiment=ID`.",
        "Accuracies, first on the training images, then on the test images, are means over n seeds ± their standard deviation. "
        "The training accuracy is the mean over the last epoch's batches while training, as Keras prints it. "
        "Sources are listed in `configs/published.yaml`.",
        "",
        "A published figure is one draw. The 95 % prediction interval says where one more seed of ours would fall: mean ± "
        "t(n - 1) s sqrt(1 + 1/n). With three seeds it is wide, so its width is given beside it. With "
        f"{comparison.ENOUGH} or more seeds a figure is reproduced if it lies in the interval; with fewer, our mean must be "
        f"within the tolerance ({tolerance}), above or below. One in twenty figures falls outside such an interval by chance, "
        "so `reproduce --check` fails only for a figure that is outside its tolerance and outside an interval corrected for "
        f"all {comparison.num_intervals(rows)} that have one (Bonferroni); with three seeds, only gross errors lie outside "
        "that interval.",
        "",
        REMARKS,
        "",
        "| id | source | published | measured | n | difference | tolerance | 95 % prediction interval (width) | verdict "
        "| seconds | device |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.id + _precision(row), results.get(row.id, {}).get("source", "ours")]
        cells += [_pair(row.published_train, row.published_test), f"{row.train}, {row.test}", str(row.n)]
        differences = _joined(f"{figure.difference:+.4f}" for figure in row.figures)
        intervals = _joined(_interval(figure) for figure in row.figures)
        cells += [differences, tolerance if row.figures else "", intervals, _verdict(row)]
        lines.append(f"| {' | '.join([*cells, f'{row.seconds:.0f}', row.device])} |")
    return "\n".join([*lines, *_losses(curves), *_mlps(curves), *_bfloat16(rows), *_epochs(curves)]) + "\n"


def _losses(curves: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """List the test losses after the last epoch, of which the notes print three without saying whose."""
    last = {name: curve[-1] for name, curve in curves.items() if len(curve[-1]) == 4}
    if not last:
        return []
    lines = [
        "",
        "## Test losses",
        "",
        "The notes print three test losses, 1.2228, 0.4003 and 0.3381, without saying of which network. Ours, with seed 0:",
        "",
    ]
    lines += ["| id | test loss | test accuracy |", "|---|---|---|"]
    return lines + [f"| {name} | {point[2]:.4f} | {point[3]:.4f} |" for name, point in sorted(last.items())]


def _mlps(curves: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    if not any(name.startswith("mlp-") for name in curves):
        return []
    return ["", "## The MLPs, epoch by epoch", "", "![Training and test accuracy of the MLPs](pictures/mlp-curves.png)"]


def _bfloat16(rows: Sequence[Comparison]) -> list[str]:
    """List the experiments that were measured in both precisions, side by side."""
    fp32, bf16 = ({row.id: row.test for row in rows if row.precision == precision} for precision in ("fp32", "bf16"))
    both = [name for name in bf16 if name in fp32]
    if not both:
        return []
    differences = summarize([bf16[name].mean - fp32[name].mean for name in both])
    interval = differences.interval and f", 95 % interval {differences.interval[0]:+.4f} to {differences.interval[1]:+.4f}"
    lines = [
        "",
        "## In bfloat16",
        "",
        f"Test accuracy with `trainer.precision=bf16` (the weights stay float32) minus that in float32: "
        f"{differences.mean:+.4f} on average over these {len(both)} experiments{interval or ''}.",
        "",
        "| id | fp32 | bf16 | difference |",
        "|---|---|---|---|",
    ]
    return lines + [f"| {name} | {fp32[name]} | {bf16[name]} | {bf16[name].mean - fp32[name].mean:+.4f} |" for name in both]


def _epochs(curves: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """List the curves that the notes print beside the measured ones, a line for each epoch."""
    printed = {name: curve for name, curve in comparison.read_published("curves").items() if name in curves}
    if not printed:
        return []
    heads = [f"{name}, {whose}" for name in printed for whose in ("published", "measured")]
    lines = [
        "",
        "## Epoch by epoch",
        "",
        "Training loss and accuracy of each epoch, as published and as measured with seed 0.",
        "",
    ]
    lines += [f"| epoch | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for epoch in range(max(map(len, printed.values()))):
        both = [curve[epoch : epoch + 1] for name in printed for curve in (printed[name], curves[name])]
        lines.append(
            f"| {epoch + 1} | {' | '.join(_pair(*point[:2]) for points in both for point in points or [(None, None)])} |"
        )
    return lines


def with_table(text: str, rows: Sequence[Comparison]) -> str:
    """Return README's text with its table of the published results brought up to date: for each experiment the precision with
    the most seeds, float32 if equal."""
    most: dict[str, Comparison] = {}
    for row in sorted(rows, key=lambda row: (row.n, row.precision == "fp32")):
        most[row.id] = row
    head = "| experiment | published | measured | n | verdict |\n|---|---|---|---|---|\n"
    lines = [
        f"| `{row.id}`{_precision(row)} | {row.published_test:.4f} | {row.test} | {row.n} | {_verdict(row)} |\n"
        for row in rows
        if row is most[row.id] and row.published_test is not None
    ]
    return re.sub(rf"{re.escape(head)}(\|.*\n)*", lambda _: head + "".join(lines), text)


def with_header(text: str, rows: Sequence[Comparison]) -> str:
    """Return an experiment's file with the measured accuracies at the end of its header comment, replacing earlier ones."""
    header, blank, rest = text.partition("\n\n")
    lines = [line for line in header.splitlines() if not line.startswith("# Measured")]
    for row in rows:
        scores = f"{row.train} (training, last epoch), {row.test} (test), n = {row.n}"
        lines.append(f"# Measured accuracy, {row.precision}: {scores}; {row.device}; {row.date}.")
    return "\n".join(lines) + blank + rest


def _precision(row: Comparison) -> str:
    return "" if row.precision == "fp32" else f" ({row.precision})"


def _verdict(row: Comparison) -> str:
    good = (comparison.REPRODUCED, comparison.WITHIN_TOLERANCE, comparison.NONE_PUBLISHED)
    return row.verdict if row.verdict in good else f"**{row.verdict}**"


def _interval(figure: Figure) -> str:
    interval = figure.interval()
    if interval is None:
        return ""
    low, high = max(0.0, interval[0]), min(1.0, interval[1])  # of an accuracy
    return f"{low:.4f} – {high:.4f} ({high - low:.4f})"


def _pair(train: float | None, test: float | None) -> str:
    return _joined(f"{value:.4f}" for value in (train, test) if value is not None)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(filter(None, texts))
