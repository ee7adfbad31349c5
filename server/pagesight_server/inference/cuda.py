"""Two functions of the CUDA runtime: how much GPU memory is free, and pinned host memory.

    libcudart ──> Cuda ──> free_bytes()          checked against the sessions' limits at start
                    └────> pinned(shape, dtype)  copied to the GPU without a staging copy

ONNX Runtime's Python interface gives neither (its `OrtDevice` knows `cuda` and no `cuda_pinned`),
and torch is no dependency of the server; four functions of the library that ONNX Runtime loads
anyway are enough (CUDA Runtime API, sections Memory Management and Error Handling).

Written from that documentation; it has not run on a GPU yet (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pagesight_server.common.errors import SetupError

_LIBRARIES = ("libcudart.so.12", "libcudart.so.13", "libcudart.so")
_PORTABLE = 1
"""cudaHostAllocPortable: pinned for every context of the process."""


class Library(Protocol):
    """The functions of libcudart that are used; each returns 0 or an error number."""

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802
        """Writes the free and total bytes of the present device."""

    def cudaHostAlloc(self, address: Any, size: Any, flags: int) -> int:  # noqa: N802
        """Writes the address of new pinned memory."""

    def cudaFreeHost(self, address: Any) -> int:  # noqa: N802
        """Frees it."""


class Cuda:
    """The CUDA runtime of this process."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def free_bytes(self) -> int:
        """Free memory of the GPU in bytes.

        Raises:
            SetupError: there is no GPU, or it cannot be used.
        """
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._check(self._library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)))
        return free.value

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """An uninitialised array in pinned host memory, freed with its last view.

        Raises:
            SetupError: so much memory cannot be pinned.
        """
        kind = np.dtype(dtype)
        size = max(kind.itemsize, math.prod(shape) * kind.itemsize)
        address = ctypes.c_void_p()
        self._check(
            self._library.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), _PORTABLE)
        )
        assert address.value is not None
        memory = (ctypes.c_ubyte * size).from_address(address.value)
        weakref.finalize(memory, self._library.cudaFreeHost, address)
        return np.ctypeslib.as_array(memory).view(kind)[: math.prod(shape)].reshape(shape)

    @staticmethod
    def _check(error: int) -> None:
        if error:
            raise SetupError(
                f"CUDA error {error}: check the GPU and its driver with `nvidia-smi` "
                '(CUDA Runtime API, cudaError), or set device = "cpu"'
            )


def load() -> Cuda:
    """Finds the CUDA runtime.

    Raises:
        SetupError: it is not installed.
    """
    for name in _LIBRARIES:
        try:
            return Cuda(ctypes.CDLL(name))
        except OSError:
            continue
    raise SetupError(
        f"none of {', '.join(_LIBRARIES)} can be loaded: install the extra `gpu` or `gpu-cu13`, "
        'which bring it, or set device = "cpu"'
    )
