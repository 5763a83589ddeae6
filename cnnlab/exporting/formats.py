"""Writing a network in each format, and reading such a file back without the run."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from cnnlab import __version__
from cnnlab.config import targets
from cnnlab.errors import ConfigError, ExportError, GeometryError, as_known
from cnnlab.models import build_model
from cnnlab.opening import OpenedRun
from cnnlab.training.task import Binary, Multiclass, Regression

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Runner = Callable[[Tensor], Tensor]  # from images as the file takes them to outputs, N x num_outputs
NEEDS = ("onnx", "onnxscript", "onnxruntime")  # installed by the extra `export`
SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
OUTPUTS = {
    Multiclass: ("logits", "N x classes; softmax over the classes gives their probabilities"),
    Binary: ("logit", "N x 1; above 0 it is the second class, whose probability is its sigmoid"),
    Regression: ("value", "N x 1; the value itself"),
}


@dataclass(frozen=True)
class Format:
    """An export format. serialize: makes a file's content from a run, example images, the file's metadata, and whether it
    takes images of any size. read: reads that content back."""

    serialize: Callable[[OpenedRun, Tensor, Mapping[str, str], bool], bytes]
    read: Callable[[OpenedRun, bytes], Runner]


def any_size(opened: OpenedRun) -> bool:
    """Whether the network takes images of sizes other than its own, tried with two."""
    try:
        for sides in other_sizes(opened):
            opened.require_size(*sides)
    except GeometryError:
        return False
    return True


def other_sizes(opened: OpenedRun) -> list[tuple[int, ...]]:
    """Return two sizes other than the run's own to try: one with odd sides that all differ, and one twice as large."""
    sides = opened.description.input_shape[1:]
    odd = tuple(side // 2 * 2 + 13 + 6 * number for number, side in enumerate(sides))
    return [odd, tuple(2 * side for side in sides)]


@dataclass(frozen=True)
class Made:
    """An exported file. content: its bytes. facts: its metadata. any_size: whether it takes images of any size."""

    content: bytes
    facts: dict[str, str]
    any_size: bool


def serialize(opened: OpenedRun, to: str, dtype: torch.dtype) -> Made:
    """Make a file of the format `to`, for images of any size if network and exporter allow it, else of the run's size.

    dtype: of the images, uint8 or float32.

    Raises:
        ExportError: the exporter cannot follow the network. ConfigError: the format needs packages that are not installed.
    """
    example = torch.zeros(2, *opened.description.input_shape).to(dtype)

    def made(sizes: bool) -> Made:
        told = facts(opened, dtype, sizes)
        return Made(FORMATS[to].serialize(opened, example, told, sizes), told, sizes)

    if any_size(opened):
        with suppress(ExportError):
            return made(True)
    return made(False)


def read(opened: OpenedRun, to: str, content: bytes) -> Runner:
    """Read the network in a file of the format `to`; bare weights are loaded into the network described in `opened`.

    Raises:
        ExportError: the format's own library cannot read it.
    """
    try:
        return FORMATS[to].read(opened, content)
    except Exception as error:
        if as_known(error) is not None:
            raise
        raise ExportError(f"--to {to}: the exported file cannot be read back: {targets.failure(error)}") from error


def facts(opened: OpenedRun, dtype: torch.dtype, sizes: bool) -> dict[str, str]:
    """Return a file's metadata: its input, its output, the classes and the preprocessing."""
    told, (channels, *sides) = opened.description, opened.description.input_shape
    place = f"{' x '.join(SIDES[len(sides)])}, any" if sizes else " x ".join(map(str, sides))
    pixels = "pixels from 0 to 255" if dtype == torch.uint8 else "as trained, pixels from 0 to 1"
    name, meaning = output_of(opened)
    return {
        "cnnlab": __version__,
        "input": f"images: {str(dtype).removeprefix('torch.')}, N x {channels} x {place}, {pixels}",
        "output": f"{name}: float32, {meaning}",
        "classes": json.dumps(told.classes, ensure_ascii=False),
        "trained_on": json.dumps(sides),  # the best size, if the network takes any
        "mean": json.dumps(told.mean),
        "std": json.dumps(told.std),
        "model": json.dumps(told.model),
    }


def output_of(opened: OpenedRun) -> tuple[str, str]:
    """Return the name of the output and its meaning."""
    return OUTPUTS.get(type(opened.task), ("outputs", "N x outputs, of a custom task"))


def require_onnx() -> None:
    """Raise ConfigError if a package for ONNX is not installed."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs what is not installed ({', '.join(missing)}): pip install 'cnnlab[export]'")


def onnx_session(content: bytes, optimized: str = "") -> "InferenceSession":
    """Open a session of onnxruntime on the CPU. optimized: the file to which it writes the graph that it really runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.optimized_model_filepath = optimized
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_onnx(session: "InferenceSession") -> Runner:
    """Wrap a session as a function of tensors."""
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _to_onnx(opened: OpenedRun, example: Tensor, told: Mapping[str, str], sizes: bool) -> bytes:
    require_onnx()
    axes = {0: "batch"} | (dict(enumerate(SIDES[example.ndim - 2], 2)) if sizes else {})
    program = _traced(
        opened.model,
        lambda model: torch.onnx.export(
            model, (example,), dynamo=True, external_data=False, dynamic_shapes=(axes,), verbose=False,
            input_names=["images"], output_names=[output_of(opened)[0]],
        ),
    )  # fmt: skip
    assert program is not None
    made = program.model_proto
    for node in (*made.graph.node, *made.graph.input, *made.graph.output, *made.graph.value_info):
        del node.metadata_props[:]  # the paths of this machine's source files
    for key, value in told.items():
        made.metadata_props.add(key=key, value=value)
    return bytes(made.SerializeToString())


def _read_onnx(opened: OpenedRun, content: bytes) -> Runner:
    return run_onnx(onnx_session(content))


def _to_torch(opened: OpenedRun, example: Tensor, told: Mapping[str, str], sizes: bool) -> bytes:
    axes = dict.fromkeys((0, *range(2, example.ndim)) if sizes else (0,), torch.export.Dim.DYNAMIC)
    program = _traced(
        opened.model,
        lambda model: torch.export.export(
            model, (example,), dynamic_shapes=(axes,), prefer_deferred_runtime_asserts_over_guards=True
        ),
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine's source files
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file, extra_files={"cnnlab.json": json.dumps(dict(told), ensure_ascii=False)})
    return file.getvalue()


def _read_torch(opened: OpenedRun, content: bytes) -> Runner:
    runner: Runner = torch.export.load(io.BytesIO(content)).module()
    return runner


def _to_safetensors(opened: OpenedRun, example: Tensor, told: Mapping[str, str], sizes: bool) -> bytes:
    tensors = {name: tensor.cpu().contiguous() for name, tensor in opened.network.state_dict().items()}
    return safetensors.torch.save(tensors, dict(told))


def _read_safetensors(opened: OpenedRun, content: bytes) -> Runner:
    told = opened.description
    network, _ = build_model(told.model, told.input_shape, opened.task.num_outputs, 0)
    network.load_state_dict(safetensors.torch.load(content))
    return nn.Sequential(told.preprocess(), network).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what exporters log, warn about and print on stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _traced(model: nn.Module, export: Callable[[nn.Module], Any]) -> Any:
    try:
        with quiet():
            return export(model)
    except Exception as error:  # a custom network may raise anything
        if as_known(error) is not None:
            raise
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error  # torch.onnx wraps it in long advice
        name = type(model[1] if isinstance(model, nn.Sequential) else model).__name__
        raise ExportError(f"{name} cannot be exported: {targets.failure(cause).splitlines()[0]}") from error


FORMATS = {
    "onnx": Format(_to_onnx, _read_onnx),
    "torch": Format(_to_torch, _read_torch),
    "safetensors": Format(_to_safetensors, _read_safetensors),
}
