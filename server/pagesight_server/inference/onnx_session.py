"""ONNX Runtime sessions on the configured provider, or an error. The only importer of onnxruntime.

    CPU    inputs ─────────────────────────────────────> session ──> outputs
                                                            └── one arena for all sessions
    CUDA   inputs ──> pinned host memory ──> GPU memory ──> session ──> GPU ──> outputs
                      └── made once for each shape and kept, bound to the session ──┘

The CUDA half follows ONNX Runtime's documentation and is tested on a CPU with the same bindings;
it has not run on a GPU yet. `make gpu-check` is what to run first on one.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from pagesight_server.common.errors import GpuLostError, SetupError
from pagesight_server.inference import cuda
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.settings import Compute, Device

log = logging.getLogger(__name__)

OutputShapes: TypeAlias = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and dtype of each output of a graph, by its name."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

MEGABYTE = 1024 * 1024

BUFFERS_MB = 192
"""Inputs on the GPU that a bound session keeps, of all shapes together: of 64 shapes of some 3 MB
each, batch sizes times widths of lines, or detection canvases. They lie outside the session's
arena, which `compute.gpu_memory_mb` limits."""

CONTEXT_MB = 1024
"""GPU memory of the process outside all arenas: kernels as they are first used, and handles and
workspaces of cuBLAS and cuDNN. An estimate; `make gpu-check ARGS='--only load'` measures it."""


def providers() -> tuple[str, ...]:
    """The execution providers of this ONNX Runtime, by its names."""
    return tuple(ort.get_available_providers())


def check_device(
    compute: Compute,
    sessions: int,
    *,
    index_mb: int = 0,
    processes: int = 1,
    load: Callable[[], cuda.Cuda] = cuda.load,
) -> None:
    """Refuses a device that is missing, or has no memory for so many sessions.

    Args:
        compute: Where each session runs.
        sessions: How many will be made.
        index_mb: GPU memory in MB that the index takes beside them.
        processes: That share the GPU, each with a context of its own.
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
        # CUDA and cuDNN come as wheels beside onnxruntime-gpu, where no loader looks. What cannot
        # be loaded it prints: not on standard output, whose first line `serve --json` promises.
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()
        if sessions:
            free_bytes = load().free_bytes()
            check_gpu_memory(compute, sessions, free_bytes, index_mb=index_mb, processes=processes)


def check_gpu_memory(
    compute: Compute, sessions: int, free_bytes: int, *, index_mb: int = 0, processes: int = 1
) -> None:
    """Refuses memory limits that together exceed what is free, before the first full batch does.

    Args:
        compute: Where each session runs; a limit of 0 counts as nothing.
        sessions: How many limits there will be; several sessions may share one.
        free_bytes: Free memory of the GPU.
        index_mb: GPU memory in MB of the index.
        processes: That share the GPU.

    Raises:
        SetupError: the message names what needs how much, and what is free.
    """
    outside_mb = processes * CONTEXT_MB + sessions * BUFFERS_MB
    needed_mb = sessions * compute.gpu_memory_mb + outside_mb + index_mb
    free_mb = free_bytes // MEGABYTE
    if needed_mb > free_mb:
        raise SetupError(
            f"the GPU has {free_mb} MB free, and {needed_mb} MB may be needed: {sessions} sessions "
            f"of compute.gpu_memory_mb = {compute.gpu_memory_mb}, {outside_mb} MB for CUDA and "
            f"inputs, {index_mb} MB for the index: lower it, or end what else uses the GPU"
        )


class Graph:
    """One ONNX file, loaded; on a CPU for many threads at once, on CUDA for one at a time.

    Args:
        path: The file.
        compute: Where it runs.
        half: Whether it computes in FP16, by the manifest of its bundle.
        recorded: On CUDA, the outputs of the one shape of inputs that it is run with, where its
            kernels are to be recorded once and played back (CUDA graphs); None: any shape.

    Raises:
        SetupError: the file cannot be loaded, or not on the configured device.
    """

    def __init__(
        self,
        path: Path,
        compute: Compute,
        *,
        half: bool = False,
        recorded: OutputShapes | None = None,
    ) -> None:
        check_device(compute, 0)
        provider = _PROVIDERS[compute.device]
        graphs = recorded is not None
        try:
            self._session = session(path, compute, _options(compute), half=half, graphs=graphs)
        except Exception as error:
            raise SetupError(f"cannot load {path}: {' '.join(str(error).split())[:300]}") from error
        if self._session.get_providers()[0] != provider:
            raise SetupError(
                f"{path} runs on {self._session.get_providers()[0]}, not on {provider}: "
                "check the CUDA and cuDNN libraries with `pagesight-server doctor`"
            )
        self.outputs: Sequence[str] = [output.name for output in self._session.get_outputs()]
        self._bound = (
            Bound(self._session, "cuda", cuda.load().pinned, outputs=recorded)
            if compute.device == "cuda"
            else None
        )

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph; inputs and outputs by their names.

        Raises:
            GpuLostError: CUDA failed, and does so from now on whatever is asked of it.
            Exception: ONNX Runtime's own, of one run.
        """
        if self._bound is not None:
            try:
                return self._bound.run(inputs)
            except Exception as error:
                _check_gpu(error)
                raise
        values = self._session.run(self.outputs, dict(inputs))
        return dict(zip(self.outputs, values, strict=True))


@functools.cache
def _tell_once(lost: str) -> None:
    """Logs why CUDA is lost, which each run finds until the process ends."""
    log.critical("a run failed, and CUDA with it: %s", lost)


@contextlib.contextmanager
def first_run(what: str) -> Iterator[None]:
    """Has what a first run raises say what to do, as a GPU's memory is taken then.

    Args:
        what: Is run, for the message.

    Raises:
        SetupError: the run in its block failed.
    """
    try:
        yield
    except Exception as error:
        raise SetupError(
            f"{what} cannot be run: {' '.join(str(error).split())[:300]}: on a GPU, see "
            "compute.gpu_memory_mb and compute.batch_sizes"
        ) from error


def _check_gpu(error: Exception) -> None:
    """Raises GpuLostError where CUDA refuses its simplest call too, after a run has failed."""
    try:
        cuda.load().free_bytes()
    except SetupError as lost:
        _tell_once(str(lost))
        raise GpuLostError("the server's GPU has failed: ask another replica") from error


def session(
    path: Path, compute: Compute, options: Any, *, half: bool = False, graphs: bool = False
) -> Any:
    """An `onnxruntime.InferenceSession` on the configured provider, or ONNX Runtime's own error.

    Args:
        path: The ONNX file.
        compute: Where it runs.
        options: Its `onnxruntime.SessionOptions`.
        half: Whether it computes in FP16.
        graphs: Whether its kernels are recorded and played back.
    """
    provider = _PROVIDERS[compute.device]
    return ort.InferenceSession(
        str(path),
        options,
        providers=[(provider, provider_options(compute, half=half, graphs=graphs))],
        # Else an error of the provider is printed on standard output and the CPU takes over.
        enable_fallback=0,
    )


def _options(compute: Compute) -> Any:
    """Sets the `onnxruntime.SessionOptions` of a session."""
    options = ort.SessionOptions()
    if compute.device == "cpu":
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
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


@functools.cache
def _share_arena() -> None:
    """Makes one arena in main memory for all sessions of this process that ask for it.

    An arena keeps what its largest run took. Sessions with an arena each keep that many times
    over, although few run at once (docs/decisions/0026).
    """
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({}))


def provider_options(
    compute: Compute, *, half: bool = False, graphs: bool = False
) -> dict[str, str]:
    """Options of the provider by ONNX Runtime's names (its page "CUDA Execution Provider").

    Args:
        compute: Where the session runs.
        half: Whether it computes in FP16.
        graphs: Whether its kernels are recorded and played back.
    """
    if compute.device == "cpu":
        return {}
    options = {
        "device_id": "0",
        # The default doubles the arena at every growth, and is soon twice what is needed.
        "arena_extend_strategy": "kSameAsRequested",
        # The default, EXHAUSTIVE, may try out every convolution again for each new canvas size; by
        # cuDNN's heuristics of before version 9, which the provider leaves it to there.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if not half:
        # FP32 bundles promise the golden pairs' digits; whoever wants speed exports FP16. There the
        # option stays on: off, it takes every plan with tensor cores from convolutions, whatever
        # their type (ONNX Runtime's `providers/cuda/nn/conv.cc`, NumericalNote_t::TENSOR_CORE).
        options["use_tf32"] = "0"
    if graphs:
        options["enable_cuda_graph"] = "1"
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

    @property
    def bytes(self) -> int:
        """Bytes of the inputs, on the host and as many on the device."""
        return sum(array.nbytes for array in self.host.values())


class Bound:
    """Runs a session with I/O binding over buffers that are reused; for one thread at a time.

    Args:
        session: An `onnxruntime.InferenceSession`.
        device: Where inputs and outputs lie while it runs.
        empty: Allocates host arrays, pinned ones for CUDA.
        max_bytes: Bytes of inputs that buffers are kept for; the least recently used are dropped
            first, and those of the present run stay.
        outputs: The outputs of the only shape that is run, at addresses that stay, as CUDA graphs
            need; None: ONNX Runtime allocates them.
    """

    def __init__(
        self,
        session: Any,
        device: Device,
        empty: Callable[[Sequence[int], DTypeLike], NDArray[Any]] = np.empty,
        *,
        max_bytes: int = BUFFERS_MB * MEGABYTE,
        outputs: OutputShapes | None = None,
    ) -> None:
        self._session = session
        self._device = device
        self._empty = empty
        self._max_bytes = max_bytes
        self._fixed_outputs = outputs or {}
        self._outputs = [output.name for output in session.get_outputs()]
        self._buffers: OrderedDict[Any, _Buffers] = OrderedDict()
        self._bytes = 0

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
            # Dropped before new ones are made, so that they never lie beside each other.
            added = sum(value.nbytes for value in inputs.values())
            while self._buffers and self._bytes + added > self._max_bytes:
                _, dropped = self._buffers.popitem(last=False)
                self._bytes -= dropped.bytes
            self._buffers[key] = self._allocate(inputs)
            self._bytes += added
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
            if name in self._fixed_outputs:
                shape, kind = self._fixed_outputs[name]
                value = ort.OrtValue.ortvalue_from_shape_and_type(shape, kind.type, self._device, 0)
                binding.bind_ortvalue_output(name, value)
                continue
            # ONNX Runtime allocates: the width of a text line decides how many characters it has.
            binding.bind_output(name, self._device)
        return _Buffers(host, device, binding)
