"""The figures of a run: each method yields figures with file name and description, or raises NotApplicableError."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cnnlab.data import DataSet, Split
from cnnlab.data.pictures import Resize, Unreadable, decode_all
from cnnlab.data.sampling import spread
from cnnlab.data.splits import chunks
from cnnlab.errors import CnnlabError, ConfigError, DataError, short
from cnnlab.opening import OpenedRun, run_data
from cnnlab.tracking.confusion import confusion_counts
from cnnlab.tracking.console import counted
from cnnlab.tracking.pictures import worst_errors, worst_mistakes
from cnnlab.training.task import Regression
from cnnlab.visualization import drawing, embedding, explaining, maximal
from cnnlab.visualization.stages import Stage, Trace, chosen, spatial, trace, unit_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_TEST_IMAGES = 2  # shown if no file is given, each of another class
NUM_STAGES = 8  # whose maps are shown, evenly spread over a deep network
NUM_MAXIMAL = 2  # stages whose maps are maximized, the first and the last
NUM_MAPS, NUM_FOUND = 6, 4  # maps of such a stage, test images for each
NUM_SEARCHED = 500  # test images among which these are found
NUM_EXAMPLES, NUM_CLASSES = 10, 20
OCCLUDED = 7  # the image's side over that of the covering square


class NotApplicableError(CnnlabError):
    """The run has nothing of this kind to show."""


class Shown(NamedTuple):
    """A matplotlib figure. name: of its file, without suffix. said: a line about what it shows."""

    name: str
    said: str
    figure: "Figure"


class Given(NamedTuple):
    """An image to show. name: for titles. stem: for file names. pixels: float, C x H x W, from 0 to 1."""

    name: str
    stem: str
    pixels: Tensor


@dataclass
class Gallery:
    """The figures of an opened run. files: image files, resized as `resize` says; if none, test images. layer: a convolution,
    or a module with convolutions. root: where the run's images are, if moved. folder: for the projector's files."""

    opened: OpenedRun
    files: Sequence[Path]
    layer: str | None
    resize: Resize
    root: str | None
    folder: Path

    def show(self, what: str) -> Iterator[Shown]:
        """Return the figures of one kind, a key of `cnnlab.visualize.WHAT`.

        Raises:
            NotApplicableError: the run has none. CnnlabError: no such layer, or an image that cannot be read.
        """
        shape = self.opened.description.input_shape
        if len(shape) != 3 and what not in ("confusion", "curves", "embedding"):
            told = " x ".join(map(str, (*shape[1:], shape[0])))
            raise NotApplicableError(f"the network takes {told}, not images (height x width x channels)")
        found: Callable[[], Iterator[Shown]] = getattr(self, what)
        return found()

    def filters(self) -> Iterator[Shown]:
        for stage in self._chosen(self.stages, 1):
            figure = drawing.filters(stage, self.about)
            count, _, height, width = stage.convolution.weight.shape
            yield Shown(self._named("filters", stage), f"{count} filters of {height} x {width}, {stage.name}", figure)

    def activations(self) -> Iterator[Shown]:
        self._chosen(self.stages, NUM_STAGES)
        for image in self.images:
            with torch.no_grad():
                stages = self._chosen(self._trace(image).stages, NUM_STAGES)
            figure = drawing.activations(image.pixels, image.name, stages, len(self.stages), self.about)
            of = f"{len(stages)} of " if len(stages) < len(self.stages) else ""
            layers = of + counted(len(self.stages), "layer")
            yield Shown(f"activations-{image.stem}", f"maps of {image.name}, {layers}", figure)

    def maximal(self) -> Iterator[Shown]:
        model = self.opened.model
        for stage in self._chosen(self.stages, NUM_MAXIMAL):
            channels = explaining.strongest(stage.convolution.weight.detach(), NUM_MAPS)
            made = maximal.made_for(model, stage.name, channels, self.opened.description.input_shape)
            found = []
            if isinstance(self.data, DataSet):
                test = self.data.test
                images = maximal.found_in(model, stage.name, channels, test, NUM_FOUND, NUM_SEARCHED)
                found = [(one, _gathered(test, one.indices)) for one in images]
            figure = drawing.maximal(stage, channels, made, found, self.about)
            yield Shown(f"maximal-{stage.name}", f"what activates {len(channels)} maps of {stage.name} most", figure)

    def gradcam(self) -> Iterator[Shown]:
        self._require_classes()
        stage = self._chosen(spatial(self.stages), len(self.stages))[-1]
        for image in self.images:
            label, said = self._prediction(image)
            name, small = explaining.grad_cam(self.opened.model, image.pixels.to(self.device), label, stage.name)
            heat = explaining.enlarged(small, *image.pixels.shape[1:]).cpu()
            yield self._explained("gradcam", f"Grad-CAM of {name}", "score", image, label, said, heat, tuple(small.shape))

    def occlusion(self) -> Iterator[Shown]:
        self._require_classes()
        for image in self.images:
            label, said = self._prediction(image)
            height, width = image.pixels.shape[1:]
            size = max(1, min(height, width) // OCCLUDED)
            fill = explaining.mean_color(image.pixels)
            heat = explaining.occlusion(self._log_odds(label), image.pixels, size, max(1, size // 2), fill)
            method, grain = f"Occlusion by {size} x {size}", (-(-height // size), -(-width // size))
            yield self._explained("occlusion", method, "log-odds lost", image, label, said, heat, grain)

    def confusion(self) -> Iterator[Shown]:
        self._require_classes()
        labels, predicted, _ = self._answers
        counts = confusion_counts(labels.numpy(), predicted.numpy(), len(self.opened.classes))
        figure = drawing.confusion(counts, self.opened.classes, self.about)
        yield Shown("confusion", f"{int(counts.trace()):,} of {len(labels):,} test images right", figure)

    def mistakes(self) -> Iterator[Shown]:
        labels, predicted, probability = self._answers
        if probability is None:
            indices, captions = worst_errors(torch.tensor(self._data.numbers)[labels], predicted)
            title = "The largest errors on the test images"
        else:
            names = [short(name, 16) for name in self.opened.classes]
            indices, captions = worst_mistakes(labels, predicted, probability, names)
            title = f"The most confident of {int((labels != predicted).sum()):,} mistakes on {len(labels):,} test images"
        if not len(indices):
            raise NotApplicableError("no mistakes on the test images")
        figure = drawing.sheet(_gathered(self._data.test, indices), captions, title, self.about)
        yield Shown("mistakes", title[0].lower() + title[1:], figure)

    def classes(self) -> Iterator[Shown]:
        train, names = self._data.train, self.opened.classes[:NUM_CLASSES]
        own = [torch.nonzero(train.labels == label).flatten()[:NUM_EXAMPLES] for label in range(len(names))]
        figure = drawing.classes([_gathered(train, indices) for indices in own], names, self.about)
        which = f"the first {len(names)} of {len(self.opened.classes)}" if names != self.opened.classes else f"{len(names)}"
        yield Shown("classes", f"{which} classes with training images", figure)

    def curves(self) -> Iterator[Shown]:
        epochs = self.opened.directory.read_epochs()
        if not epochs:
            raise NotApplicableError("no epoch has ended yet")
        splits = [split for split in ("train", "validation", "test") if any(split in one.scores for one in epochs)]
        yield Shown("curves", f"{', '.join(splits)} over {counted(len(epochs), 'epoch')}", drawing.curves(epochs, self.about))

    def embedding(self) -> Iterator[Shown]:
        test = self._data.test
        indices = spread(len(test), embedding.NUM_POINTS)
        images, labels = _gathered(test, indices), test.labels[indices]
        points = embedding.features(self.opened.model, images)
        embedding.write_projector(self.folder, "embedding", points, [self.opened.classes[label] for label in labels], images)
        projected, shares = embedding.principal_components(points)
        figure = drawing.scatter(projected, shares, labels, self.opened.classes, points.shape[1], self.about)
        said = f"{len(points):,} test images as points; to turn them: tensorboard --logdir {self.folder}"
        yield Shown("embedding", said, figure)

    @cached_property
    def about(self) -> str:
        """The run that a figure shows: its name, weights, epochs and score."""
        opened = self.opened
        result = opened.directory.read_result()
        parts = [opened.directory.label, f"{opened.weights} weights", f"epoch {len(opened.metrics)}"]
        if result is not None and "test" in result.scores and result.weights == opened.weights:
            parts.append(f"test {result.metric} {result.scores['test'].value:.4f}")
        return ", ".join(parts)

    @cached_property
    def device(self) -> torch.device:
        return self.opened.preprocess.mean.device

    @cached_property
    def stages(self) -> list[Stage]:
        """The network's stages, run on a blank image."""
        blank = torch.zeros(1, *self.opened.description.input_shape, device=self.device)
        with torch.no_grad():
            return trace(self.opened.model, blank).stages

    @cached_property
    def data(self) -> DataSet | str:
        """The run's data set, or why it is not available."""
        return run_data(self.opened, self.root)

    @property
    def _data(self) -> DataSet:
        if isinstance(self.data, str):
            raise NotApplicableError(f"needs the run's images: {self.data}")
        return self.data

    @cached_property
    def images(self) -> list[Given]:
        """The given image files, or test images of different classes.

        Raises:
            DataError: a file that cannot be read. NotApplicableError: no file is given, and the data set is missing.
        """
        if not self.files:
            test = self._data.test
            firsts = [
                int(found[0]) for label in range(len(self.opened.classes)) if len(found := torch.nonzero(test.labels == label))
            ]
            names = [f"test image {index}, truth {self.opened.classes[test.labels[index]]}" for index in firsts]
            pixels = unit_images(_gathered(test, torch.tensor(firsts[:NUM_TEST_IMAGES])))
            return [Given(name, f"test-{index}", one) for name, index, one in zip(names, firsts, pixels, strict=False)]
        shape = self.opened.description.input_shape
        if shape[0] not in (1, 3):
            raise ConfigError(f"--image: the network takes {shape[0]} channels, a picture has 1 or 3")
        given: list[Given] = []
        for file, decoded in zip(self.files, decode_all(self.files, shape, self.resize), strict=True):
            if isinstance(decoded, Unreadable):
                raise DataError(f"--image {file}: {decoded.cause}")
            stem = file.stem
            while stem in [one.stem for one in given]:
                stem += "_"
            given.append(Given(file.name, stem, unit_images(torch.tensor(decoded))))
        return given

    @cached_property
    def _answers(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Labels, predictions and their probabilities for the test images."""
        test = self._data.test
        found = [self.opened.predict(images.cpu()) for images in chunks(test, 1000)]
        probability = [one.probability for one in found if one.probability is not None]
        return test.labels, torch.cat([one.predicted for one in found]), torch.cat(probability) if probability else None

    def _prediction(self, image: Given) -> tuple[int, str]:
        """Return the most probable class, and a text that names it with its probability."""
        found = self.opened.predict(image.pixels[None])
        assert found.probability is not None
        label = int(found.predicted)
        return label, f"predicted {self.opened.classes[label]}, {float(found.probability):.2f}"

    def _log_odds(self, label: int) -> explaining.Score:
        def of(images: Tensor) -> Tensor:
            with torch.no_grad():
                return explaining.log_odds(self.opened.model(images.to(self.device)), label).cpu()

        return of

    def _probability(self, label: int) -> explaining.Score:
        def of(images: Tensor) -> Tensor:
            with torch.no_grad():
                probabilities = self.opened.task.probabilities(self.opened.model(images.to(self.device)))
            assert probabilities is not None
            return probabilities[:, label].cpu()

        return of

    def _explained(
        self, kind: str, method: str, unit: str, image: Given, label: int, said: str, heat: Tensor, grain: tuple[int, ...]
    ) -> Shown:
        """Draw a map with its deletion check."""
        fill = explaining.mean_color(image.pixels)
        check = explaining.deletion(self._probability(label), image.pixels, heat, (grain[0], grain[1]), fill)
        figure = drawing.explanation(image.pixels, heat, image.name, said, method, unit, check, self.about)
        return Shown(f"{kind}-{image.stem}", f"{image.name}: {said}; {drawing.verdict(check)}", figure)

    def _trace(self, image: Given) -> Trace:
        return trace(self.opened.model, image.pixels[None].to(self.device))

    def _chosen(self, stages: list[Stage], at_most: int) -> list[Stage]:
        """Return the stages of `layer`, or without it at most `at_most` stages."""
        if not stages:
            raise NotApplicableError("the network has no convolution" if not self.stages else "its maps have one place each")
        return chosen(stages, self.layer, at_most)

    def _require_classes(self) -> None:
        if isinstance(self.opened.task, Regression):
            raise NotApplicableError("a regression predicts no classes")

    def _named(self, kind: str, stage: Stage) -> str:
        return f"{kind}-{stage.name}" if self.layer else kind


def _gathered(split: Split, indices: Tensor) -> Tensor:
    """Return images of a split, on the CPU."""
    return split.gather(indices.to(split.device)).cpu()
