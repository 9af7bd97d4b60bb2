"""Running a generator that was exported to ONNX, by onnxruntime, on numpy arrays: without PyTorch."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gan_style.runtime.machine import first_line

ONNX_FORMAT = "gan_style.onnx/1"
ONNX_SUFFIX = ".onnx"


class OnnxModel:
    """An ONNX file by ``gan-style export``.

    description: what the file says of itself; styles: names, in the order of the columns of the input ``styles``, none
    for a model of one style; pixels: "float", images (N, 3, H, W) in [-1, 1], or "uint8", bytes (N, H, W, 3).
    """

    def __init__(self, model: Path | bytes, threads: int | None = None) -> None:
        """Open a file. threads: of the CPU; None: all. ValueError for a damaged or a foreign file."""
        if find_spec("onnxruntime") is None:
            raise ValueError("ONNX models need onnxruntime: pip install 'gan_style[export]'")
        import onnxruntime

        name = model if isinstance(model, Path) else "the ONNX model"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors
        try:
            source = model if isinstance(model, bytes) else str(model)
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes, which have no common base
            raise ValueError(f"{name} is damaged or not an ONNX model ({first_line(error)})") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if metadata.get("format") != ONNX_FORMAT:
            raise ValueError(f"{name} was not written by gan-style export (its format is {metadata.get('format')!r})")
        try:
            self.description: dict[str, Any] = dict(json.loads(metadata["description"]))
            self.styles: tuple[str, ...] = tuple(self.description["styles"])
            self.pixels: str = self.description["input"]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{name} does not say what it needs (its description is damaged)") from error
        self.inputs = tuple(value.name for value in self._session.get_inputs())

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Run the model; inputs in the order of ``self.inputs``, the image first."""
        (result,) = self._session.run(None, dict(zip(self.inputs, inputs, strict=True)))
        return np.asarray(result)
