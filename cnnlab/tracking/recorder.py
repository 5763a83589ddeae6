"""What happens in a run goes out here: to metrics.jsonl, to TensorBoard and to the person watching."""

from collections.abc import Iterable, Sequence

import torch

from cnnlab.errors import note, short
from cnnlab.tracking import files
from cnnlab.tracking.console import Console
from cnnlab.tracking.records import Epoch, EpochProgress, LossPoint, Result, RunInfo, TestPredictions
from cnnlab.tracking.run import RunDirectory
from cnnlab.tracking.tensorboard import Events


class Recorder:
    """Takes the run's records, at most twice a second and at each epoch's end, and writes every view of them."""

    def __init__(self, info: RunInfo, run: RunDirectory) -> None:
        self.info, self.run = info, run
        self.console = Console(info, run)
        self.events = Events(run, info.cfg, info.metric, info.first_step)
        self.warned: set[str] = set()

    def begin_epoch(self, epoch: int, done: int, steps: int) -> None:
        """Epoch `epoch`, counted from 1, of which `done` of `steps` steps are done already."""
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
        """An epoch ended, after these last points of the loss curve; `best`: with the best validation score so far."""
        files.append_json_line(self.run.metrics, epoch.line())
        self.curve(points)
        for split, score in epoch.scores.items():
            if split != "train":  # whose loss the curve has
                self.events.scalar(f"score/loss/{split}", score.loss, epoch.step)
            self.events.scalar(f"score/{epoch.metric}/{split}", score.value, epoch.step)
        self.events.scalars({"training/learning_rate": epoch.lr, "training/images_per_s": epoch.images_per_s}, epoch.step)
        if (phase := self.info.phase(epoch.epoch)) is not None:
            self.events.scalar("training/phase", phase, epoch.step)
        self.events.flush()
        self.console.epoch(epoch, best)

    def warn(self, mistakes: Iterable[tuple[str, str]]) -> None:
        """Tell what is probably a mistake; each, by its name, once."""
        for name, line in mistakes:
            if name not in self.warned:
                self.warned.add(name)
                note(f"warning: {line}")

    def pictures(self, test: TestPredictions) -> None:
        """At the end: the confusion matrix, the augmented first batch, the worst mistakes."""
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
        """The run has its final scores."""
        self.events.finished(result)

    def finish(self, result: Result) -> None:
        """The run is over."""
        self.events.close()
        self.console.closing(result)

    def close(self, failed: bool) -> None:
        """The run stopped early; what is collected is written. `failed`: not only interrupted."""
        self.console.stop()
        if failed:
            self.events.failed()
        self.events.close()
