"""The outlet for everything that happens in a run: to metrics.jsonl, TensorBoard and the console."""

from collections.abc import Iterable, Sequence

import torch

from cnnlab.errors import note, short
from cnnlab.tracking import files
from cnnlab.tracking.console import Console
from cnnlab.tracking.records import Epoch, EpochProgress, LossPoint, Result, RunInfo, TestPredictions
from cnnlab.tracking.run import RunDirectory
from cnnlab.tracking.tensorboard import Events


class Recorder:
    """Receives a run's records, at most twice a second and at the end of each epoch, and writes every view of them."""

    def __init__(self, info: RunInfo, run: RunDirectory) -> None:
        self.info, self.run = info, run
        self.console = Console(info, run)
        self.events = Events(run, info.cfg, info.metric, info.first_step)
        self.warned: set[str] = set()

    def begin_epoch(self, epoch: int, done: int, steps: int) -> None:
        """Begin epoch `epoch`, counted from 1, of which `done` of `steps` steps are already done."""
        self.console.begin_epoch(epoch, done, steps)

    def progress(self, progress: EpochProgress) -> None:
        self.console.progress(progress)

    def curve(self, points: Sequence[LossPoint]) -> None:
        """Write points of the loss curve."""
        for point in points:
            self.events.scalar("score/loss/train", point.loss, point.step)
            self.events.scalars(
                {f"training/gradient_norm/{name}": norm for name, norm in point.gradient_norms.items()}, point.step
            )
        self.events.flush()

    def epoch(self, epoch: Epoch, points: Sequence[LossPoint], best: bool) -> None:
        """Record a finished epoch and the last points of its loss curve. best: it has the best validation score so far."""
        files.append_json_line(self.run.metrics, epoch.line())
        self.curve(points)
        for split, score in epoch.scores.items():
            if split != "train":  # whose loss is in the curve
                self.events.scalar(f"score/loss/{split}", score.loss, epoch.step)
            self.events.scalar(f"score/{epoch.metric}/{split}", score.value, epoch.step)
        self.events.scalars({"training/learning_rate": epoch.lr, "training/images_per_s": epoch.images_per_s}, epoch.step)
        if (phase := self.info.phase(epoch.epoch)) is not None:
            self.events.scalar("training/phase", phase, epoch.step)
        self.events.flush()
        self.console.epoch(epoch, best)

    def warn(self, mistakes: Iterable[tuple[str, str]]) -> None:
        """Warn about probable mistakes, about each (by its name) only once."""
        for name, line in mistakes:
            if name not in self.warned:
                self.warned.add(name)
                note(f"warning: {line}")

    def pictures(self, test: TestPredictions) -> None:
        """Write the final pictures: the confusion matrix, the augmented first batch, the worst mistakes."""
        from cnnlab.tracking import pictures

        at, are_images = self.info.steps, test.first_batch.ndim == 4
        names = [short(name, 20) for name in test.classes]
        if are_images:
            self.events.image("visuals/first_batch", pictures.sheet(test.first_batch), at)
        if test.probability is None:
            worst, captions = pictures.worst_errors(torch.tensor(test.numbers)[test.labels], test.predicted)
        else:
            self.events.image("visuals/confusion", pictures.confusion(test.labels, test.predicted, names), at)
            worst, captions = pictures.worst_mistakes(test.labels, test.predicted, test.probability, names)
        if len(worst) and are_images:
            self.events.image("visuals/worst_mistakes", pictures.sheet(test.images(worst), captions), at)

    def result(self, result: Result) -> None:
        """Record the final scores."""
        self.events.finished(result)

    def finish(self, result: Result) -> None:
        """Close the outputs of a run that is complete."""
        self.events.close()
        self.console.closing(result)

    def close(self, failed: bool) -> None:
        """Close the outputs of a run that stopped early, writing what was collected. failed: it was not just interrupted."""
        self.console.stop()
        if failed:
            self.events.failed()
        self.events.close()
