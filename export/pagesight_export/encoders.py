"""The export of a checkpoint's encoder: trace, quantise, compare, refuse or return a draft.

    load ─> TorchEncoder ─ 72 pictures: the source's embeddings, the graph's inputs ─> Reference
                         └ model.onnx: FP32 | FP16 | FP32 -> INT8 ─ ONNX Runtime ────────┐
    Draft <─ golden pairs <─ within limits? <─ Parity <──────────────────────────────────┘

The torch model is let go before ONNX Runtime loads the graph, so that the two are never in
memory together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from pagesight_export import feeds, golden, memory, parity, pictures, sources
from pagesight_export.bundle import GOLDEN, Manifest
from pagesight_export.errors import ParityError
from pagesight_export.folder import Draft
from pagesight_export.quantise import quantise
from pagesight_export.runtime import Graph
from pagesight_export.torch_encoder import write_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from pagesight_export.progress import Progress
    from pagesight_export.runtime import Tensors
    from pagesight_export.torch_encoder import TorchEncoder

DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""The manifest's name of each dtype of the command line."""
BYTES_PER_PARAMETER = {"fp32": 4, "fp16": 2, "int8": 6}
"""Bytes on disk for each parameter while exporting; INT8 is made from an FP32 graph beside it."""
TOLERANCE = 5e-3
"""Absolute tolerance of one value of an embedding in a golden pair. Another processor's FP32
differs by about 1e-6, a GPU's TF32 and FP16 by less than this."""
BATCH = 4
"""Pictures to a run: enough that several shapes share a batch, and few enough that activations stay
small beside the weights."""
_MODEL = "model.onnx"
_TOOLS = (
    "torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "numpy", "pillow",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The source's embeddings of the parity pictures, and those pictures as inputs of the graph."""

    embeddings: NDArray[np.float32]
    """`[pictures, dimension]`, unit length."""
    batches: Sequence[Tensors]
    """Inputs of the graph, several shapes to a batch, as a server would feed them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traced:
    """The description of a `TorchEncoder`, without its model, after tracing."""

    name: str
    source: Mapping[str, Any]
    input: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    dimension: int
    reference: Reference
    seconds: float


def checkpoint_encoder(
    load: Callable[[], TorchEncoder],
    *,
    dtype: str,
    scratch: Path,
    progress: Progress,
    need_space: Callable[[int], None] = lambda _: None,
    reference: Reference | None = None,
) -> Draft:
    """Export one encoder in one dtype and verify it against its source.

    Args:
        load: Makes the encoder; called once, so that its memory can be given back.
        dtype: `fp32`, `fp16` or `int8`.
        scratch: An empty folder on the disk that the bundle will be on.
        progress: Receives each step, and how far the long ones are.
        need_space: Raises an `ExportError` where the disk has not so many bytes.
        reference: The result of `refer` for the same encoder; computed when None.

    Raises:
        ParityError: it is not within `parity.LIMITS` on every picture.
        ExportError: it cannot be loaded, traced or run.
    """
    memory.restart_peak()
    traced = _trace(load, dtype, scratch, progress, need_space, reference)
    embeddings = _run(Graph(scratch / _MODEL), traced.reference, progress)
    agreement = parity.measure(traced.reference.embeddings, embeddings)
    report = {
        "bytes": sum(path.stat().st_size for path in scratch.glob(f"{_MODEL}*")),
        "export_seconds": round(traced.seconds, 1),
        "peak_memory_bytes": memory.peak_bytes(),
        "parity": agreement.to_json(),
    }
    failures = agreement.failures(DTYPES[dtype])
    if failures:
        raise ParityError(
            f"the {dtype} export of {traced.name} is not its source: {'; '.join(failures)};"
            f" nothing was written{_advice(dtype)}",
            report,
        )
    contents: dict[str, bytes | Path] = {
        path.name: path for path in sorted(scratch.glob(f"{_MODEL}*"))
    }
    pairs, tolerance = _golden(traced, embeddings)
    contents[GOLDEN] = golden.pack(pairs)
    graph = onnx.load(scratch / _MODEL, load_external_data=False)
    manifest = Manifest(
        kind="encoder",
        name=traced.name,
        source=traced.source,
        dtype=DTYPES[dtype],
        opset=max(entry.version for entry in graph.opset_import if not entry.domain),
        input=traced.input,
        preprocessing=traced.preprocessing,
        embedding_dim=traced.dimension,
        files={},
        tolerance={"embedding": tolerance},
        versions=sources.versions(*_TOOLS),
        report=report,
    )
    return Draft(manifest=manifest, contents=contents)


def refer(encoder: TorchEncoder, progress: Progress) -> Reference:
    """Embed the parity pictures with the source framework and prepare the graph's inputs."""
    embeddings, batches = [], []
    for start in range(0, pictures.COUNT, BATCH):
        progress(f"embedding with the source, picture {start + 1} of {pictures.COUNT}")
        batch = [pictures.picture(n) for n in range(start, min(start + BATCH, pictures.COUNT))]
        embeddings.append(encoder.embed(batch))
        batches.append(feeds.prepare(encoder.input, encoder.preprocessing, batch))
    return Reference(embeddings=np.concatenate(embeddings), batches=batches)


def _trace(
    load: Callable[[], TorchEncoder],
    dtype: str,
    scratch: Path,
    progress: Progress,
    need_space: Callable[[int], None],
    reference: Reference | None,
) -> _Traced:
    progress("loading the checkpoint")
    encoder = load()
    need_space(encoder.parameters * BYTES_PER_PARAMETER[dtype])
    reference = reference or refer(encoder, progress)
    progress(f"tracing {encoder.parameters / 1e6:.0f} million parameters to ONNX")
    started = time.monotonic()
    write_onnx(encoder, scratch / _MODEL, half=dtype == "fp16")
    if dtype == "int8":
        progress("quantising to INT8")
        quantise(scratch / _MODEL, keep_fp32=encoder.keep_fp32)
    return _Traced(
        name=encoder.name,
        source=encoder.source,
        input=encoder.input,
        preprocessing=encoder.preprocessing,
        dimension=encoder.dimension,
        reference=reference,
        seconds=time.monotonic() - started,
    )


def _run(graph: Graph, reference: Reference, progress: Progress) -> NDArray[np.float32]:
    embeddings = []
    for number, batch in enumerate(reference.batches):
        done, count = number * BATCH, len(reference.embeddings)
        progress(f"embedding with the bundle, picture {done + 1} of {count}")
        embeddings.append(graph.run(batch)["embedding"].astype(np.float32))
    return np.concatenate(embeddings)


def _golden(
    traced: _Traced, embeddings: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.generic]], float]:
    """Make golden pairs of the source's embeddings, and the tolerance that the export needs.

    Quantisation error shows in the pairs too, so where the export itself is further from the
    source than `TOLERANCE`, twice that distance is allowed.
    """
    pairs: dict[str, NDArray[np.generic]] = {}
    off = 0.0
    for case, members in enumerate((list(pictures.MIXED), [0])):
        drawn = [pictures.picture(number) for number in members]
        inputs = feeds.prepare(traced.input, traced.preprocessing, drawn)
        wanted = traced.reference.embeddings[members]
        for name, value in {**inputs, "embedding": wanted}.items():
            pairs[f"model.{case}.{name}"] = value
        off = max(off, float(np.abs(wanted - embeddings[members]).max()))
    return pairs, round(max(TOLERANCE, 2 * off), 4)


def _advice(dtype: str) -> str:
    if dtype == "fp32":
        return "; this is a fault of the export, please report it"
    return "; export it with --dtype fp32" + (" or fp16" if dtype == "int8" else "")
