"""ONNX Runtime sessions on the configured provider, or an error. The only importer of onnxruntime.

    CPU    inputs ─────────────────────────────────────> session ──> outputs
    CUDA   inputs ──> pinned host memory ──> GPU memory ──> session ──> GPU ──> outputs
                      └── made once for each shape and kept, bound to the session ──┘

The CUDA half follows ONNX Runtime's documentation and is tested on a CPU with the same bindings;
it has not run on a GPU yet. `make gpu-check` is what to run first on one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from pagesight_server.common.errors import SetupError
from pagesight_server.inference import cuda
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.settings import Compute, Device

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

MEGABYTE = 1024 * 1024

MAX_SHAPES = 64
"""Shapes that a bound session keeps buffers for, of some 3 MB each: batch sizes times widths of
lines, or detection canvases, of which real screenshots have a few dozen."""


def providers() -> tuple[str, ...]:
    """The execution providers of this ONNX Runtime, by its names."""
    return tuple(ort.get_available_providers())


def check_device(
    compute: Compute, sessions: int, *, load: Callable[[], cuda.Cuda] = cuda.load
) -> None:
    """Refuses a device that is missing, or has no memory for so many sessions.

    Args:
        compute: Where each session runs.
        sessions: How many will be made.
        load: Finds the CUDA runtime.

    Raises:
        SetupError: the message names what is missing.
    """
    provider = _PROVIDERS[compute.device]
    if provider not in ort.get_available_providers():
        raise SetupError(
            f"{provider} is not in this onnxruntime {ort.__version__}: "
            'install the extra `gpu` or `gpu-cu13` instead of `cpu`, or set device = "cpu"'
        )
    if compute.device == "cuda":
        # CUDA and cuDNN come as wheels beside onnxruntime-gpu, where no loader looks.
        ort.preload_dlls()
        check_gpu_memory(compute, sessions, load().free_bytes())


def check_gpu_memory(compute: Compute, sessions: int, free_bytes: int) -> None:
    """Refuses memory limits that together exceed what is free, before the first full batch does.

    Raises:
        SetupError: the message names both figures.
    """
    needed_mb, free_mb = sessions * compute.gpu_memory_mb, free_bytes // MEGABYTE
    if needed_mb > free_mb:
        raise SetupError(
            f"{sessions} sessions of compute.gpu_memory_mb = {compute.gpu_memory_mb} need "
            f"{needed_mb} MB, the GPU has {free_mb} MB free: lower it, or end what else uses it"
        )


class Graph:
    """One ONNX file, loaded; for one thread at a time.

    Raises:
        SetupError: the file cannot be loaded, or not on the configured device.
    """

    def __init__(self, path: Path, compute: Compute) -> None:
        check_device(compute, 0)
        provider = _PROVIDERS[compute.device]
        try:
            self._session = ort.InferenceSession(
                str(path), _options(compute), providers=[(provider, provider_options(compute))]
            )
        except Exception as error:
            raise SetupError(f"cannot load {path}: {' '.join(str(error).split())[:300]}") from error
        if self._session.get_providers()[0] != provider:
            raise SetupError(
                f"{path} runs on {self._session.get_providers()[0]}, not on {provider}: "
                "check the CUDA and cuDNN libraries with `pagesight-server doctor`"
            )
        self.outputs: Sequence[str] = [output.name for output in self._session.get_outputs()]
        self._bound = (
            Bound(self._session, "cuda", cuda.load().pinned) if compute.device == "cuda" else None
        )

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph; inputs and outputs by their names."""
        if self._bound is not None:
            return self._bound.run(inputs)
        values = self._session.run(self.outputs, dict(inputs))
        return dict(zip(self.outputs, values, strict=True))


def _options(compute: Compute) -> Any:
    """The `onnxruntime.SessionOptions` of a session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = compute.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Screenshots have any size, and ONNX Runtime keeps a plan per shape it has seen: 440
    # screenshots took a reader to 1.4 GB. Without plans the arena alone stays flat (docs/
    # benchmarks.md, Memory); without the arena, page faults are a ninth of detection's time.
    options.enable_mem_pattern = False
    # A spinning thread burns the core that the other model needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def provider_options(compute: Compute) -> dict[str, str]:
    """Options of the provider by ONNX Runtime's names (its page "CUDA Execution Provider")."""
    if compute.device == "cpu":
        return {}
    options = {
        "device_id": "0",
        # The default doubles the arena at every growth, and is soon twice what is needed.
        "arena_extend_strategy": "kSameAsRequested",
        # The default, EXHAUSTIVE, benchmarks every convolution again for each new canvas size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # FP32 bundles promise the golden pairs' digits; whoever wants speed exports FP16.
        "use_tf32": "0",
    }
    if compute.gpu_memory_mb:
        options["gpu_mem_limit"] = str(compute.gpu_memory_mb * MEGABYTE)
    return options


@dataclass(frozen=True, slots=True)
class _Buffers:
    """The buffers of one shape of the inputs."""

    host: dict[str, NDArray[Any]]
    """Pinned arrays that inputs are copied to, by name."""
    device: dict[str, Any]
    """`OrtValue`s on the device that the session reads, by name."""
    binding: Any
    """The `IOBinding` of those inputs and of the outputs."""


class Bound:
    """Runs a session with I/O binding over buffers that are reused; for one thread at a time.

    Args:
        session: An `onnxruntime.InferenceSession`.
        device: Where inputs and outputs lie while it runs.
        empty: Allocates host arrays, pinned ones for CUDA.
        max_shapes: Shapes that buffers are kept for; the least recently used are dropped first.
    """

    def __init__(
        self,
        session: Any,
        device: Device,
        empty: Callable[[Sequence[int], DTypeLike], NDArray[Any]] = np.empty,
        *,
        max_shapes: int = MAX_SHAPES,
    ) -> None:
        self._session = session
        self._device = device
        self._empty = empty
        self._max_shapes = max_shapes
        self._outputs = [output.name for output in session.get_outputs()]
        self._buffers: OrderedDict[Any, _Buffers] = OrderedDict()

    @property
    def shapes(self) -> int:
        """Shapes that buffers are kept for."""
        return len(self._buffers)

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph; the outputs are new arrays."""
        buffers = self._buffers_for(inputs)
        for name, value in inputs.items():
            np.copyto(buffers.host[name], value)
            buffers.device[name].update_inplace(buffers.host[name])
        self._session.run_with_iobinding(buffers.binding)
        values = buffers.binding.copy_outputs_to_cpu()
        return dict(zip(self._outputs, values, strict=True))

    def _buffers_for(self, inputs: Tensors) -> _Buffers:
        """The buffers for the shapes of these inputs, made when they are new."""
        key = tuple((name, value.shape, value.dtype.str) for name, value in inputs.items())
        if key not in self._buffers:
            self._buffers[key] = self._allocate(inputs)
            while len(self._buffers) > self._max_shapes:
                self._buffers.popitem(last=False)
        self._buffers.move_to_end(key)
        return self._buffers[key]

    def _allocate(self, inputs: Tensors) -> _Buffers:
        binding = self._session.io_binding()
        host, device = {}, {}
        for name, value in inputs.items():
            host[name] = self._empty(value.shape, value.dtype)
            device[name] = ort.OrtValue.ortvalue_from_shape_and_type(
                value.shape, value.dtype.type, self._device, 0
            )
            binding.bind_ortvalue_input(name, device[name])
        for name in self._outputs:
            # ONNX Runtime allocates: the width of a text line decides how many characters it has.
            binding.bind_output(name, self._device)
        return _Buffers(host, device, binding)
