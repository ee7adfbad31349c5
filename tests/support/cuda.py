"""A CUDA runtime library without a GPU behind it."""

from __future__ import annotations

import ctypes
from typing import Any


class FakeLibrary:
    """Implements libcudart's host memory, and a GPU with 3 of 8 GB free."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.held: dict[int, Any] = {}

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = 3_000_000_000, 8_000_000_000
        return self.error

    def cudaHostAlloc(self, address: Any, size: Any, flags: int) -> int:  # noqa: N802
        assert flags == 1  # cudaHostAllocPortable
        memory = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(memory)
        self.held[ctypes.addressof(memory)] = memory
        return self.error

    def cudaFreeHost(self, address: Any) -> int:  # noqa: N802
        del self.held[address.value]
        return 0
