"""A run's event file for TensorBoard: a view of metrics.jsonl that is never read back.

The time series page opens the first two groups of tags, and the HPARAMS tab shows the first five scores. One sorts a slash
before a space, the other a space before a slash: so `score/` gives the first cards, and `score end/` the first columns.

The HPARAMS tab shows one row per configuration, averaged over seeds, because each run writes its hyperparameters under the name
of its configuration. TensorBoard keeps the first record of them and of how a run ended, so a continued run removes its earlier
ones. No run writes an "experiment" tag, because TensorBoard would show an arbitrary one.
"""

import io
import re
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnlab import config
from cnnlab.config.schema import Config
from cnnlab.errors import CnnlabError, note
from cnnlab.reading import MAX_EVENTS, read_bytes
from cnnlab.tracking import files
from cnnlab.tracking.hyperparameters import hyperparameters
from cnnlab.tracking.records import Result
from cnnlab.tracking.run import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.tensorboard import SummaryWriter

FINAL = "score end/"  # tags of the scores that rank a run; kept short, as below, or parallel coordinates overlap their names
SHORT = {"validation": "val", "accuracy": "acc"}
INSIDE = ("visuals/filters", "visuals/activation_maps")  # pictures that are written each epoch

OUTERMOST = re.compile(r"^Sequential/(?:[^/]*\[network\]/)?")  # names of preprocessing and network, see `OpenedRun.model`
MOST_VALUES = 100_000  # in a histogram, approximately


def _stops_no_run(write: Callable[..., None]) -> Callable[..., None]:
    """Make a method of `Events` warn once, and do nothing from then on, if the event file cannot be written."""

    @wraps(write)
    def tried(events: "Events", *given: Any) -> None:
        if events.broken:
            return
        try:
            write(events, *given)
        except (OSError, CnnlabError) as error:
            events.broken = True
            known = getattr(error, "strerror", None) or error
            note(f"warning: {events.run.name}: TensorBoard's event file cannot be written ({known}); continuing without it")

    return tried


def _quietly(args: threading.ExceptHookArgs) -> None:
    """Ignore what the thread that writes the events raises: it is raised again when the next event is added."""
    if type(args.thread).__name__ != "_AsyncWriterThread":
        sys.__excepthook__(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


class Events:
    """Writes a run's event file, created at the first event; a continued run hides what it will write again.

    broken: the event file cannot be written, and no more attempts are made; it only repeats what other files contain.
    """

    def __init__(self, run: RunDirectory, cfg: Config, metric: str, first_step: int) -> None:
        self.run, self.cfg, self.metric, self.first_step, self.broken = run, cfg, metric, first_step, False
        self.has_graph = False

    @cached_property
    def writer(self) -> "SummaryWriter":
        from tensorboard.plugins.hparams import summary_v2  # hparams.api would import tensorflow
        from torch.utils.tensorboard import SummaryWriter  # takes 1.8 s, and the first step does not need it

        threading.excepthook = _quietly
        keep_curves(self.run.path)
        writer = SummaryWriter(str(self.run.path), purge_step=self.first_step + 1)
        writer.add_text("config", "\n".join("    " + line for line in self.run.config.read_text().splitlines()), 0)
        writer.add_custom_scalars(layout(self.metric))
        shown = hyperparameters(self.cfg, self.run.recorded("choices"), self.run.varied())
        writer._get_file_writer().add_summary(summary_v2.hparams_pb(shown, trial_id=config.recipe_hash(self.cfg)))
        return writer

    @_stops_no_run
    def scalar(self, tag: str, value: float, step: int) -> None:
        self.writer.add_scalar(tag, value, step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.scalar(tag, value, step)

    @_stops_no_run
    def image(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Write a picture: H x W x 3."""
        self.writer.add_image(tag, picture, step, dataformats="HWC")

    @_stops_no_run
    def histogram(self, tag: str, values: "Tensor", step: int) -> None:
        """Write a histogram of values of any shape, on the CPU; those that are not finite are left out."""
        kept = values.detach().float().flatten()
        kept = kept[kept.isfinite()][:: max(1, len(kept) // MOST_VALUES)]
        if len(kept):
            self.writer.add_histogram(tag, kept, step)

    @_stops_no_run
    def graph(self, model: "nn.Module", images: "Tensor") -> None:
        """Write the page GRAPHS once: the network as traced on these images, or nothing if it cannot be traced."""
        if self.has_graph:
            return
        self.has_graph = True
        from torch.utils.tensorboard._pytorch_graph import graph

        with warnings.catch_warnings(), suppress(Exception), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # about what a trace leaves out
            traced, statistics = graph(model, (images,))
            for node in traced.node:  # show the network's parts, not one outermost box
                node.name = OUTERMOST.sub("", node.name)
                node.input[:] = [OUTERMOST.sub("", name) for name in node.input]
            self.writer._get_file_writer().add_graph((traced, statistics))

    @_stops_no_run
    def finished(self, result: Result) -> None:
        """Write the scores of result.json that rank the run, and that it succeeded; HPARAMS colors by the first tag."""
        scores = {SHORT.get(split, split): score for split, score in result.scores.items()}
        numbers = {f"{SHORT.get(self.metric, self.metric)} {split}": score.value for split, score in scores.items()}
        numbers |= {f"loss {split}": score.loss for split, score in scores.items()} | {"seconds": result.seconds}
        self.scalars({FINAL + name: value for name, value in numbers.items()}, result.steps)
        self._end("STATUS_SUCCESS")

    @_stops_no_run
    def failed(self) -> None:
        """Write that the run failed."""
        self._end("STATUS_FAILURE")

    def _end(self, status: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        info = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value(status), end_time_secs=time.time())
        data = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=data, tensor=metadata.NULL_TENSOR)
        self.writer._get_file_writer().add_summary(Summary(value=[value]))
        self.flush()

    @_stops_no_run
    def flush(self) -> None:
        if "writer" in self.__dict__:
            self.writer.flush()

    @_stops_no_run
    def close(self) -> None:
        if "writer" in self.__dict__:
            self.writer.close()


def layout(metric: str) -> dict[str, dict[str, list[Any]]]:
    """Return the layout of CUSTOM SCALARS: training, validation and, if scored every epoch, test in one chart.

    TensorBoard merges the layouts of all runs and shows equal charts once.
    """
    charts = {name: ["Multiline", [f"^score/{name}/(train|validation|test)$"]] for name in (metric, "loss")}
    return {"training against validation": charts}


def keep_curves(directory: Path) -> None:
    """Keep only what belongs to a step in the event files of a run's earlier processes; the rest is written again."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    for path in directory.glob("events.out.tfevents.*"):
        kept = []
        for record in _records(read_bytes(path, MAX_EVENTS)):
            try:
                event = Event.FromString(record[12:-4])
            except DecodeError:  # after a power failure; TensorBoard also reads up to here
                break
            said = event.summary.value[0] if event.summary.value else None
            if said is None:
                is_kept = not event.graph_def
            else:
                is_curve = said.HasField("simple_value") and not said.tag.startswith(FINAL)
                is_kept = is_curve or said.HasField("histo") or said.tag in INSIDE
            if is_kept:
                kept.append(record)
        files.write_atomic(path, b"".join(kept))


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the complete records of an event file: length in 8 bytes, its checksum in 4, the event, its checksum in 4."""
    at = 0
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        end = at + 8 + 4 + length + 4
        if end > len(content):  # the process was killed while writing it
            return
        yield content[at:end]
        at = end
