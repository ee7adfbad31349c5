"""Running a graph on ONNX Runtime's CPU provider; the only module that creates its sessions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeAlias

from pagesight_export.errors import BundleError, MissingPackageError
from pagesight_export.sources import INSTALL_BUILTIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Tensor: TypeAlias = NDArray[np.generic]
    Tensors: TypeAlias = dict[str, Tensor]

_ERRORS_ONLY = 3


class Graph:
    """One ONNX graph on the CPU, ready to run."""

    def __init__(self, model: bytes | Path) -> None:
        """Load a graph from its bytes or its file.

        Raises:
            MissingPackageError: ONNX Runtime is not installed.
            BundleError: ONNX Runtime refuses the graph.
        """
        try:
            ort = importlib.import_module("onnxruntime")
        except ImportError:
            raise MissingPackageError(f"onnxruntime is not installed: {INSTALL_BUILTIN}") from None
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session: Any = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BundleError(f"ONNX Runtime refuses the graph: {_one_line(error)}") from error
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Tensor]) -> Tensors:
        """Run the graph once; `feeds` holds exactly its inputs.

        Raises:
            BundleError: the inputs are not of the names, types or shapes that it takes.
        """
        try:
            results = self._session.run(self.outputs, dict(feeds))
        except Exception as error:  # as above
            raise BundleError(f"ONNX Runtime cannot run the graph: {_one_line(error)}") from error
        return dict(zip(self.outputs, results, strict=True))


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
