"""Generators as files of ONNX (float32, float16, int8) and torch.export, with a description of where they come from."""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_style.export.graph import ExportedGenerator, trace
from gan_style.stylize.onnx_model import ONNX_FORMAT

PRECISIONS = FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
RESULT = "result"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_IN_FLOAT32 = ("InstanceNormalization", "ReduceMean", "Resize")  # sums over all pixels would overflow in 16 bits

Feed = dict[str, np.ndarray]  # {an input's name: its value}


def check_installed() -> None:
    """Raise ValueError, with how to get them, where the libraries of the extra ``export`` are missing."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ValueError(f"format=onnx needs {', '.join(missing)}: pip install 'gan_style[export]'")


def to_onnx(
    network: ExportedGenerator,
    description: Mapping[str, Any],
    *,
    precision: str = FLOAT32,
    calibration: Iterable[Feed] = (),
) -> bytes:
    """Return the content of an ONNX file of the network; description: JSON types, which its metadata hold.

    calibration: inputs, of int8 alone, on which the ranges of activations are measured. Batch, height and width of the
    image are dynamic. Names of inputs are ``network.inputs``; the output's is "result".
    """
    with torch.no_grad():
        program = torch.onnx.export(
            trace(network), dynamo=True, verbose=False, input_names=list(network.inputs), output_names=[RESULT]
        )
    assert program is not None
    model = program.model_proto
    _clean(model)
    if precision == FLOAT16:
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        blocked = [*DEFAULT_OP_BLOCK_LIST, *_IN_FLOAT32]
        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    elif precision == INT8:
        model = _quantise(model, calibration)
    metadata = {"format": ONNX_FORMAT, "description": json.dumps(dict(description))}
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = model.SerializeToString()
    return content


def _clean(model: Any) -> None:
    """Name the dynamic dimensions, and drop what the exporter notes of each node: paths and lines of source code."""
    graph = model.graph
    for group in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in group:
            del item.metadata_props[:]
            item.doc_string = ""
    del graph.metadata_props[:], model.metadata_props[:]
    del graph.value_info[:]  # shapes in between, in the tracer's symbols
    for value in (*graph.input, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        dimensions[0].dim_param = "batch"
        if len(dimensions) == 4:
            first = 1 if dimensions[3].dim_value == 3 else 2
            of = "reference_" if value.name == "reference" else ""  # dimensions of one name are taken to be equal
            dimensions[first].dim_param, dimensions[first + 1].dim_param = f"{of}height", f"{of}width"


def _quantise(model: Any, calibration: Iterable[Feed]) -> Any:
    """Quantise convolutions to 8 bits, by onnxruntime's static quantisation; but not those at a picture's full size.

    These are the first ones, of colours, and those from full to half size and back; what they round off at fine detail
    costs the library 0.02 of SSIM, and in float32 they take little longer (docs/export.md).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter(calibration)

        def get_next(self) -> Feed | None:
            return next(self.feeds, None)

    # The quantisation works on files.
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, result = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        shapes = {weight.name: tuple(weight.dims[:2]) for weight in graph.initializer if len(weight.dims) == 4}
        widths = {outgoing for outgoing, incoming in shapes.values() if incoming == 3}
        at_full_size = {(w, 3) for w in widths} | {(2 * w, w) for w in widths} | {(w, 2 * w) for w in widths}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        in_float32 = [node.name for node in convolutions if shapes.get(node.input[1]) in at_full_size]
        quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=in_float32,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(result)


TORCH_SUFFIX = ".pt2"
_DESCRIPTION = "gan_style.json"


def to_torch(network: ExportedGenerator, description: Mapping[str, Any]) -> bytes:
    """Return the content of a .pt2 file, which torch.export.load reads: batch, height and width are dynamic."""
    file = io.BytesIO()
    torch.export.save(trace(network), file, extra_files={_DESCRIPTION: json.dumps(dict(description))})
    return file.getvalue()


def read_description(path: Path) -> dict[str, Any]:
    """Return what such a file says of itself, without running anything of it. ValueError for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(_DESCRIPTION))
            return dict(json.loads(archive.read(name)))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or was not written by gan-style export") from error
