"""The MLPs of the notes, epoch by epoch: training against test accuracy, a panel for each, with seed 0."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.lesson.drawing import BLUE, ORANGE

COLUMNS = 4


def draw(curves: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Write the picture of those of `curves` (see `views.CURVES`) whose names begin with "mlp-"; nothing without any."""
    chosen = {name: curve for name, curve in curves.items() if name.startswith("mlp-") and len(curve[0]) == 4}
    if not chosen:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(14, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axes, (name, curve) in zip(panels, sorted(chosen.items()), strict=False):
        epochs = range(1, len(curve) + 1)
        for index, color, label in ((1, ORANGE, "training"), (3, BLUE, "test")):
            axes.plot(epochs, [point[index] for point in curve], color=color, linewidth=2.5, label=label)
        axes.set_title(f"{name}\ntraining {curve[-1][1]:.3f}, test {curve[-1][3]:.3f} at the end", loc="left", fontsize=10.5)
        axes.set_ylim(0.1, 1)
        axes.grid(color="#e4e4e4")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    panels[0].legend(frameon=False, loc="lower right")
    figure.supxlabel("epochs")
    figure.supylabel("accuracy")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
