"""The GPU half of faiss without a GPU: indexes are copied to the memory of the CPU."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import faiss
import numpy as np


class _Resources:
    """Stands for StandardGpuResources."""

    def __init__(self, gpu: FakeFaiss) -> None:
        gpu.resources.add(self)
        gpu.used_in.add(threading.current_thread())
        self.temporary_bytes = 0

    def setTempMemory(self, size: int) -> None:  # noqa: N802
        self.temporary_bytes = size


class _Options:
    """Stands for GpuClonerOptions of a build with cuVS, which would use it."""

    use_cuvs = True


class _Index:
    """Stands for GpuIndexIVFPQ."""

    def __init__(self, gpu: FakeFaiss, index: Any) -> None:
        self._gpu = gpu
        self._index = index
        # As the destructor of the real one does, from whatever thread drops it last.
        weakref.finalize(self, lambda: gpu.freed_in.add(threading.current_thread()))
        gpu.indexes.add(self)

    def search(self, queries: Any, count: int, params: Any) -> Any:
        self._gpu.used_in.add(threading.current_thread())
        self._gpu.searched.append((count, params.nprobe))
        scores, slots = self._index.search(queries, count, params=params)
        return scores, np.where(slots < 0, self._gpu.missing, slots)


class FakeFaiss:
    """The functions of the module `faiss` that `index/gpu.py` calls.

    Args:
        missing: How its kernels mark a missing neighbour.
    """

    INDICES_64_BIT = 3
    GpuClonerOptions = _Options
    SearchParametersIVF = faiss.SearchParametersIVF

    def __init__(self, missing: int = -1) -> None:
        self.missing = missing
        self.resources: weakref.WeakSet[_Resources] = weakref.WeakSet()
        self.indexes: weakref.WeakSet[_Index] = weakref.WeakSet()
        self.options: list[Any] = []
        self.used_in: set[threading.Thread] = set()
        self.freed_in: set[threading.Thread] = set()
        self.searched: list[tuple[int, int]] = []

    def StandardGpuResources(self) -> _Resources:  # noqa: N802
        return _Resources(self)

    def index_cpu_to_gpu(self, resources: _Resources, device: int, index: Any, options: Any) -> Any:
        assert device == 0
        assert resources in self.resources
        self.used_in.add(threading.current_thread())
        self.options.append(options)
        return _Index(self, index)
