"""What happens in a run goes out here: to metrics.jsonl, to TensorBoard and to the person watching."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cnnlab.tracking import files
from cnnlab.tracking.console import Console
from cnnlab.tracking.run import RunDirectory
from cnnlab.tracking.tensorboard import Events

if TYPE_CHECKING:
    from cnnlab.training.session import Session


class Recorder:
    """Takes the run's numbers, at most twice a second and at each epoch's end, and writes every view of them."""

    def __init__(self, session: "Session", run: RunDirectory, first_step: int) -> None:
        self.run, self.session = run, session
        self.console = Console(session, run, first_step)
        self.events = Events(run, session.cfg, session.task.metric, first_step)
        self._loss_point = (first_step, float(session.step.sums[0]))  # where the last point of the loss curve ended

    def begin_epoch(self, epoch: int, done: int, steps: int) -> None:
        """Epoch `epoch`, counted from 0, of which `done` of `steps` steps are done already."""
        self.console.begin_epoch(epoch, done, steps)

    def progress(self, done: int, train_s: float) -> None:
        """`done` steps of the epoch took `train_s` seconds."""
        loss, score = (self.session.step.sums / self._images(done)).tolist()
        self.console.progress(done, self._images(done) / train_s, loss, score, train_s)

    def curve(self) -> None:
        """Write the collected points of the loss curve: each the mean loss since the point before in its epoch."""
        step, per_epoch = self.session.step, self.session.steps_per_epoch
        if not step.snapshots:
            return
        numbers = torch.stack([sums[0] for _, sums, _ in step.snapshots]).tolist()
        for (at, _, norms), total in zip(step.snapshots, numbers, strict=True):
            first = (at - 1) // per_epoch * per_epoch
            before, earlier = self._loss_point if self._loss_point[0] > first else (first, 0.0)
            images = self._images(at - first) - self._images(before - first)
            self._loss_point = (at, total)
            self.events.scalar("train/loss", (total - earlier) / images, at)
            if self.session.cfg.trainer.log_gradients:
                squares: dict[str, float] = {}
                for name, norm in zip(self.session.step.gradient_names(), norms.tolist(), strict=False):
                    layer = name.rpartition(".")[0] or name
                    squares[layer] = squares.get(layer, 0.0) + norm**2
                self.events.scalars({f"gradient_norm/{layer}": square**0.5 for layer, square in squares.items()}, at)
        step.snapshots.clear()
        self.events.flush()

    def epoch(self, line: dict[str, Any], best: bool) -> None:
        """An epoch ended with this line of metrics; `best`: with the best validation score so far."""
        files.append_json_line(self.run.metrics, line)
        self.curve()
        metric, step = self.session.task.metric, line["step"]
        scalars = {
            f"{part}/{name}": line[f"{part}_{name}"]
            for part in ("train", "validation", "test")
            for name in ("loss", metric)
            if f"{part}_{name}" in line and (part, name) != ("train", "loss")  # the curve has it
        }
        self.events.scalars(scalars | {"train/learning_rate": line["lr"], "train/images_per_s": line["images_per_s"]}, step)
        self.events.flush()
        self.console.epoch(line, best)

    def pictures(self, predicted: Tensor, probability: Tensor | None) -> None:
        """At the end: the confusion matrix, the augmented first batch, the worst mistakes.

        predicted: of each test image, N. probability: of the predicted class, N, or None in regression.
        """
        from cnnlab.tracking import pictures

        session, at = self.session, self.session.total_steps
        data = session.data
        batch = pictures.first_batch(session)
        self.events.image("first_batch", pictures.sheet(batch, [""] * len(batch)), at)
        if probability is None:
            numbers = torch.tensor(data.numbers)[data.test.labels]
            worst, captions = pictures.worst_errors(numbers, predicted)
        else:
            self.events.image("confusion", pictures.confusion(data.test.labels, predicted, data.classes), at)
            worst, captions = pictures.worst_mistakes(data.test.labels, predicted, probability, data.classes)
        if len(worst):
            self.events.image("worst_mistakes", pictures.sheet(data.test.images[worst], captions), at)

    def result(self, result: dict[str, Any]) -> None:
        """The run has its final scores."""
        self.events.finished(result)

    def finish(self, result: dict[str, Any]) -> None:
        """The run is over."""
        self.events.close()
        self.console.closing(result)

    def close(self, failed: bool) -> None:
        """The run stopped early; what is collected is written. `failed`: not only interrupted."""
        self.console.stop()
        if failed:
            self.events.failed()
        self.events.close()

    def _images(self, steps: int) -> int:
        """Images in the first `steps` steps of an epoch."""
        return min(steps * self.session.cfg.trainer.batch_size, len(self.session.parts["train"]))
