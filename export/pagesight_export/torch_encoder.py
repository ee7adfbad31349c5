"""Tracing a torch model to an encoder's ONNX graph: the interface for every checkpoint.

    TorchEncoder ── model(tensors of the bundle) ──┐
                 ── example tensors, dynamic axes ─┴─> optimum's exporter -> model.onnx(.data)
                 └─ embed(pictures), the source's own way ─> what the graph must answer

Optimum knows neither SigLIP 2 nor whatever encoder comes next. What it needs of a model is an
OnnxConfig (names, axes, example inputs) and a ModelPatcher (what changes while it is traced);
both are filled from a `TorchEncoder` here, so a new encoder writes no exporter code.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx import external_data_helper
from optimum.exporters.onnx import OnnxConfig, export
from optimum.exporters.onnx.model_patcher import ModelPatcher
from optimum.utils import NormalizedConfig
from transformers import PretrainedConfig

from pagesight_export.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pagesight_export.golden import Picture

OPSET = 18
"""The newest that torch's tracing exporter writes without a converter."""
INLINE_BYTES = 1024
"""Larger tensors go to the data file: one protobuf holds 2 GiB at most, whatever the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchEncoder:
    """A torch model and the metadata that its export needs."""

    name: str
    """The bundle's name; no `@`, `/` or space."""
    source: Mapping[str, Any]
    """The manifest's `source`."""
    input: Mapping[str, Any]
    """The manifest's `input`."""
    preprocessing: Mapping[str, Any]
    """The manifest's `preprocessing`."""
    dimension: int
    """Length of an embedding."""
    model: Any
    """A `torch.nn.Module` in FP32 and eval mode that takes the bundle format's tensors, bytes
    and all, and gives embeddings of unit length."""
    example: Mapping[str, Any]
    """Input tensors to trace with, named as the bundle format names them."""
    axes: Mapping[str, Mapping[int, str]]
    """The dynamic axes of each input."""
    embed: Callable[[Sequence[Picture]], NDArray[np.float32]]
    """The source framework's own preprocessing and model, `[pictures, dimension]`, unit length."""
    patcher: type[ModelPatcher] = ModelPatcher
    """Optimum's patcher, which changes the model while it is traced."""
    keep_fp32: Sequence[str] = ()
    """Substrings of the names of nodes that stay FP32 in an INT8 graph."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""
        return sum(int(tensor.numel()) for tensor in self.model.parameters())


def write_onnx(encoder: TorchEncoder, path: Path, *, half: bool) -> None:
    """Trace a model into `path`, with its weights in `<path>.data` beside it.

    Args:
        encoder: What to trace. With `half` its model is halved in place and of no use afterwards.
        path: The ONNX file to write.
        half: Compute in FP16. What the model itself casts to FP32 stays FP32.

    Raises:
        SourceError: the model cannot be traced.
    """
    model = encoder.model.half() if half else encoder.model
    if not isinstance(getattr(model, "config", None), PretrainedConfig):
        model.config = PretrainedConfig()  # optimum asks every model for one
    try:
        with quiet():
            export(model, _Config(encoder), path, opset=OPSET, disable_dynamic_axes_fix=True)
    except Exception as error:  # torch's exporter raises whatever its passes raise
        reason = " ".join(str(error).split())[:300]
        raise SourceError(f"{encoder.name} cannot be traced: {reason}") from error
    graph = onnx.load(path)
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = encoder.dimension
    save(graph, path)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph and, beside it, its weights: the same graph gives the same bytes.

    What an exporter left there under the same name is replaced.
    """
    for stale in path.parent.glob(f"{path.name}*"):
        stale.unlink()
    model.producer_name, model.producer_version = "pagesight-export", ""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > INLINE_BYTES:
            external_data_helper.set_external_data(tensor, location=f"{path.name}.data")
    external_data_helper.write_external_data_tensors(model, str(path.parent))
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Config(OnnxConfig):  # type: ignore[misc]  # optimum has no types
    """Names, axes and example inputs of one encoder, as optimum asks for them."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    def __init__(self, encoder: TorchEncoder) -> None:
        super().__init__(encoder.model.config, task="feature-extraction")
        self.encoder = encoder

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {name: dict(axes) for name, axes in self.encoder.axes.items()}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"embedding": {0: "N"}}

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Any]:
        if framework != "pt":
            raise ValueError(f"example inputs are torch tensors, not {framework}")
        return dict(self.encoder.example)

    def patch_model_for_export(
        self, model: Any, model_kwargs: dict[str, Any] | None = None
    ) -> ModelPatcher:
        return self.encoder.patcher(self, model, model_kwargs=model_kwargs)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' remarks from the terminal; errors are raised all the same.

    They remark on constants that are really constant, and that the tracing exporter will be
    replaced: optimum chooses it, and its successor would have to be proved here anew.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
