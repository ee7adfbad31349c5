"""The base of a large gallery: inverted lists of product-quantised codes.

    sample ──train──> lists and codes ──add──> base ──held-out queries──> nprobe, k_factor
                                                        recall@5 < min_recall ──> refused

What it costs: m bytes of code and 8 of id for each vector, and the centres of the lists
(nlist x dimension x 4). It only chooses candidates; `layered.py` scores them exactly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.common.errors import SetupError
from pagesight_server.index.cosines import unit
from pagesight_server.index.owner import Owner
from pagesight_server.index.policy import IndexSettings, code_bytes, list_count
from pagesight_server.index.vectors import Allowed, Halves

TRAINING_PER_LIST = 48
"""Vectors that each list is trained on; faiss warns below 39."""

MAX_CODE_TRAINING = 32_768
"""Vectors that the codes are trained on: 128 for each of 256 values."""

HELD_OUT = 256
"""Queries that recall is measured with."""

NEAREST = 5
"""Pictures that recall is measured over."""

STEPS = ((4, 10), (8, 10), (8, 20), (16, 20), (32, 20), (32, 40), (64, 40), (128, 80))
"""nprobe and k_factor that are tried, cheapest first."""

BLOCK = 16_384
"""Vectors that are in memory as fp32 at once while a base is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a base was found to need."""

    nlist: int
    code_bytes: int
    nprobe: int
    k_factor: int
    recall: float
    """Share of the true five nearest found, over held-out queries, after rescoring."""

    def to_dict(self) -> dict[str, Any]:
        """For the manifest; keyword arguments of this class."""
        return asdict(self)


class RecallError(Exception):
    """The base finds too little to serve."""


class IvfPqBase:
    """Candidates from the lists nearest to a query.

    Args:
        index: Trained and filled.
        measured: What it needs.
        device: `cpu` or `cuda`, see `usable_device`.
    """

    kind = "ivfpq"
    exact = False

    def __init__(self, index: faiss.IndexIVFPQ, measured: Measured, device: str = "cpu") -> None:
        self.measured = measured
        self._host = index
        self._owner: Owner | None = None
        self._gpu: Any = None
        if device == "cuda":
            # Its GPU index is not safe to search from two threads, not even for reads.
            self._owner = Owner("index-gpu")
            self._gpu = self._owner.run(lambda: _to_gpu(index))

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best by code among the lists looked into; all lists where those hold too few."""
        total = self._host.ntotal
        some = total if allowed is None else allowed.slots
        # Where few are allowed, as many of them are looked at as where all are.
        nprobe = min(self._host.nlist, -(-self.measured.nprobe * total // max(1, some)))
        best = count * self.measured.k_factor
        scores, slots = self.look(queries, best, nprobe, allowed)
        short = np.count_nonzero(slots >= 0, axis=1) < min(count, some, slots.shape[1])
        if short.any():
            again = self.look(queries[short], slots.shape[1], self._host.nlist, allowed, host=True)
            scores[short], slots[short] = again
        return scores, slots

    def look(
        self,
        queries: Embeddings,
        count: int,
        nprobe: int,
        allowed: Allowed | None = None,
        *,
        host: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best by code among `nprobe` lists; by the processor where `host`."""
        count = min(count, self._host.ntotal)
        # The GPU index leaves nothing out: what is not allowed takes places of what is.
        mostly = allowed is None or 2 * allowed.slots > self._host.ntotal
        if self._owner is not None and mostly and not host:
            return self._owner.run(lambda: self._look_gpu(queries, count, nprobe, allowed))
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        if allowed is not None:
            chosen = faiss.IDSelectorBitmap(allowed.bits)
            parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=chosen)
        scores, slots = self._host.search(queries, count, params=parameters)
        return scores, slots

    def _look_gpu(
        self, queries: Embeddings, count: int, nprobe: int, allowed: Allowed | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What is not allowed is dropped afterwards."""
        # 2 048 is the most that its kernels select, and lists that they look into.
        parameters = faiss.SearchParametersIVF(nprobe=min(nprobe, 2_048))
        scores, slots = self._gpu.search(queries, min(count, 2_048), params=parameters)
        if allowed is not None:
            bits = np.unpackbits(allowed.bits, bitorder="little")
            slots = np.where((slots >= 0) & (bits[np.maximum(slots, 0)] == 1), slots, -1)
        return scores, slots

    def save(self, path: Path) -> None:
        """Writes the codes; `load` reads them."""
        faiss.write_index(self._host, str(path))

    @staticmethod
    def load(path: Path, measured: Measured, device: str = "cpu") -> IvfPqBase:
        """Reads what `save` wrote."""
        return IvfPqBase(faiss.read_index(str(path)), measured, device)

    @property
    def resident_bytes(self) -> int:
        """Bytes of codes, ids and centres."""
        measured, index = self.measured, self._host
        return int(index.ntotal * (measured.code_bytes + 8) + measured.nlist * index.d * 4)


def build(
    halves: Halves, settings: IndexSettings, *, device: str = "cpu", threads: int = 0
) -> IvfPqBase:
    """Trains, fills and measures a base.

    Args:
        halves: The vectors, in memory or mapped; their places become the slots.
        settings: What recall it must reach.
        device: Where it will be searched.
        threads: Threads of the build; 0: as many as faiss has. Counts for the calling thread.

    Raises:
        RecallError: it finds less than `min_recall` with the most that is tried.
    """
    if threads:
        faiss.omp_set_num_threads(threads)
    count, dimension = halves.shape
    random = np.random.Generator(np.random.PCG64(7))
    shuffled = random.permutation(count)
    held_out = np.sort(shuffled[: min(HELD_OUT, count // 8)])
    nlist, m = list_count(count), code_bytes(dimension)
    sample = np.sort(shuffled[len(held_out) :][: max(MAX_CODE_TRAINING, TRAINING_PER_LIST * nlist)])

    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dimension), dimension, nlist, m, 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid = TRAINING_PER_LIST
    index.cp.min_points_per_centroid = 1
    index.cp.niter = 8
    index.pq.cp.max_points_per_centroid = MAX_CODE_TRAINING // 256
    index.pq.cp.min_points_per_centroid = 1
    index.pq.cp.niter = 12
    index.train(unit(halves[sample].astype(np.float32)))

    queries = unit(halves[held_out].astype(np.float32))
    truth = faiss.ResultHeap(len(queries), NEAREST + 1, keep_max=True)
    for start in range(0, count, BLOCK):
        block = unit(halves[start : start + BLOCK].astype(np.float32))
        index.add(block)
        scores, places = faiss.knn(
            queries, block, min(NEAREST + 1, len(block)), faiss.METRIC_INNER_PRODUCT
        )
        truth.add_result(scores, places + start)
    truth.finalize()
    index = faiss.clone_index(index)  # Its lists grew by doubling; a copy takes what it needs.
    return _tuned(index, queries, held_out, truth.I, settings, device)


def _tuned(
    index: faiss.IndexIVFPQ,
    queries: Embeddings,
    held_out: NDArray[np.int64],
    truth: NDArray[np.int64],
    settings: IndexSettings,
    device: str,
) -> IvfPqBase:
    """Raises nprobe and k_factor until the held-out pictures' true neighbours are found."""
    best = 0.0
    for nprobe, k_factor in STEPS:
        tried = Measured(
            nlist=index.nlist,
            code_bytes=index.code_size,
            nprobe=min(nprobe, index.nlist),
            k_factor=k_factor,
            recall=0.0,
        )
        _, slots = IvfPqBase(index, tried).candidates(queries, NEAREST + 1, None)
        # Rescoring is exact: a true neighbour among the candidates is found, and no other is.
        recall = _share_found(slots, truth, held_out)
        best = max(best, recall)
        if recall >= settings.min_recall:
            return IvfPqBase(index, replace(tried, recall=recall), device)
    raise RecallError(
        f"IVF-PQ over {index.ntotal} pictures finds {best:.3f} of the nearest five, less than "
        f"index.min_recall = {settings.min_recall}"
    )


def _share_found(
    slots: NDArray[np.int64], truth: NDArray[np.int64], held_out: NDArray[np.int64]
) -> float:
    found = wanted = 0
    for candidates, true, itself in zip(slots, truth, held_out, strict=True):
        others = [slot for slot in true.tolist() if slot not in {itself, -1}][:NEAREST]
        found += len(set(others) & set(candidates.tolist()))
        wanted += len(others)
    return found / max(1, wanted)


def usable_device(device: str) -> str:
    """`cuda` or `cpu`, as asked and as faiss can.

    Raises:
        SetupError: CUDA was asked for and faiss has none.
    """
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    if device == "cuda" and not gpus:
        raise SetupError(
            "index.device = cuda, but this faiss finds no GPU: "
            "pip install 'pagesight[gpu]' or 'pagesight[gpu-cu13]', or set it to auto"
        )
    return "cuda" if gpus and device != "cpu" else "cpu"


def _to_gpu(index: faiss.IndexIVFPQ) -> Any:
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True  # lookup tables; 96 codes of 8 bits do not fit shared memory else
    options.indicesOptions = faiss.INDICES_64_BIT
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)
