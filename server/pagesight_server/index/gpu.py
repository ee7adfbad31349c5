"""A GPU as faiss uses it: one thread and one pool of temporary memory for all indexes on it.

    IndexManager ──> Gpu ──> OwnerThread "index-gpu"
                      │        └── StandardGpuResources, temporary memory of a fixed size
                      └── put(index) ──> GpuIndex ──search──> in that thread, one after the other
                                           └── close(), or garbage ──> freed in that thread

Neither an index on the GPU nor the resources may be used by two threads at once, not even to search
(faiss, "Faiss on the GPU"). Written from its documentation and headers; it has not run on a GPU
yet.
"""

from __future__ import annotations

import weakref
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.common.errors import SetupError
from pagesight_server.index.owner import OwnerThread

MOST = 2_048
"""Candidates that faiss's GPU kernels select at most, and lists that they look into."""

MEGABYTE = 1024 * 1024


class Gpu:
    """The first GPU of this machine; safe to use from many threads.

    Its thread ends, and its memory is given back, with the last index that uses it.

    Args:
        temporary_mb: Temporary memory of searches in MB. Left alone, faiss takes 1.5 GB.
        library: The module `faiss`, with its GPU half.
    """

    def __init__(self, temporary_mb: int, library: Any = faiss) -> None:
        self._library = library
        self._thread = OwnerThread("index-gpu")
        self._resources = self._thread.run(lambda: _resources(library, temporary_mb))

    def put(self, index: Any) -> GpuIndex:
        """Copies a trained `faiss.IndexIVFPQ` to the GPU."""
        return GpuIndex(self, index)

    def close(self) -> None:
        """Ends the thread once it has done what was queued; no index is searched any more."""
        self._thread.close()


class GpuIndex:
    """A copy of an index on the GPU.

    Args:
        gpu: Where it lies.
        index: The index on the CPU, which stays as it is.
    """

    def __init__(self, gpu: Gpu, index: Any) -> None:
        library, resources = gpu._library, gpu._resources
        self._gpu = gpu
        self._size = index.ntotal
        self._held: list[Any] = [gpu._thread.run(lambda: _copied(library, resources, index))]
        # faiss gives memory back to the resources, which only their thread may touch.
        self._freed = weakref.finalize(self, _free, gpu._thread, self._held)
        self._freed.atexit = False

    def search(
        self, queries: Embeddings, count: int, nprobe: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best by code, each of shape (queries, c); slot -1 where there are fewer.

        Args:
            queries: Unit vectors, shape (queries, dimension).
            count: How many candidates for each; c is less where the GPU selects no more.
            nprobe: How many lists to look into, within what the GPU does.

        Raises:
            RuntimeError: the index was closed.
        """
        library, held = self._gpu._library, self._held

        def search() -> Any:
            if not held:
                raise RuntimeError("this index was closed")
            parameters = library.SearchParametersIVF(nprobe=min(nprobe, MOST))
            return held[0].search(queries, min(count, MOST), params=parameters)

        scores, slots = self._gpu._thread.run(search)
        # faiss's own kernels mark a missing neighbour with -1, cuVS's with 2^63 - 1.
        return scores, np.where((slots >= 0) & (slots < self._size), slots, -1)

    def close(self) -> None:
        """Frees the memory after the searches that were queued; harmless when repeated."""
        self._freed()


def _free(thread: OwnerThread, held: list[Any]) -> None:
    """Has the thread drop an index; after it was closed, nobody else uses the resources."""
    if thread.close.alive:
        thread.submit(held.clear)


def _resources(library: Any, temporary_mb: int) -> Any:
    resources = library.StandardGpuResources()
    resources.setTempMemory(temporary_mb * MEGABYTE)
    return resources


def _copied(library: Any, resources: Any, index: Any) -> Any:
    options = library.GpuClonerOptions()
    options.useFloat16 = True  # else lookup tables of 96-byte codes overflow shared memory
    options.indicesOptions = library.INDICES_64_BIT
    # Builds with cuVS would take its kernels or not, by how they were compiled.
    options.use_cuvs = False
    return library.index_cpu_to_gpu(resources, 0, index, options)


def usable_device(device: str) -> str:
    """The device to search on, `cuda` or `cpu`: the one configured where faiss has it.

    Raises:
        SetupError: CUDA is configured and faiss has no GPU.
    """
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    if device == "cuda" and not gpus:
        raise SetupError(
            "index.device = cuda, but this faiss finds no GPU: "
            "pip install 'pagesight[gpu]' or 'pagesight[gpu-cu13]', or set it to auto"
        )
    return "cuda" if gpus and device != "cpu" else "cpu"
