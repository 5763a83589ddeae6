"""Static quantization of an ONNX file to 8-bit integers by onnxruntime, calibrated on training images."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor

from cnnlab.errors import ExportError
from cnnlab.exporting.formats import onnx_session, quiet

LAYERS = ("Conv", "Gemm", "MatMul")
QUANTIZED = ("QLinearConv", "QGemm", "QLinearMatMul")  # the layers that onnxruntime computes in integers


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[Tensor]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, object] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}


def quantize(content: bytes, calibration: Iterable[Tensor]) -> bytes:
    """Quantize weights to int8, with a scale for each filter, and activations to uint8, with ranges from `calibration`.

    content: of an ONNX file.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.onnx"), Path(folder, "made.onnx")
        given.write_bytes(content)
        with quiet():
            quantize_static(given, made, _Calibration(calibration), QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
        quantized = onnx.load(made)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(onnx.load_from_string(content).metadata_props)
    return bytes(quantized.SerializeToString())


def count_quantized(content: bytes, quantized: bytes) -> tuple[int, int]:
    """Count the layers that onnxruntime computes in integers, in the graph that it runs, and all layers in `content`.

    Raises:
        ExportError: none of the layers is computed in integers.
    """
    with tempfile.TemporaryDirectory() as folder:
        ran = Path(folder, "ran.onnx")
        onnx_session(quantized, str(ran))
        inside = Counter(node.op_type for node in onnx.load(ran).graph.node)
    layers = sum(node.op_type in LAYERS for node in onnx.load_from_string(content).graph.node)
    count = sum(inside[name] for name in QUANTIZED)
    if not count:
        raise ExportError(f"--int8: onnxruntime computes none of the {layers} layers in integers; nothing is written")
    return count, layers
