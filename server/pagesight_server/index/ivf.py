"""Base of a large gallery: inverted lists of codes.

    sample ──train──> centroids, quantizer ──add──> base ──held-out queries──> nprobe, k_factor
                                                           recall@5 < min_recall ──> refused

    ivfrabitq   one bit per value of the rotated vector and 8 bytes; nothing to train but centroids
    ivfpq       m bytes from trained codebooks; the only one that faiss searches on a GPU

Memory: the code and 8 bytes of id per vector, and the centroids of the lists
(nlist x dimension x 4 bytes). It only chooses candidates; `layered.py` scores them exactly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.index.cosines import unit
from pagesight_server.index.gpu import Gpu, GpuIndex
from pagesight_server.index.policy import IndexSettings, code_bytes, list_count
from pagesight_server.index.rotation import rotated
from pagesight_server.index.vectors import Allowed, Halves

TRAINING_PER_LIST = 48
"""Training vectors per list; faiss warns below 39."""

MAX_CODE_TRAINING = 32_768
"""Training vectors of the product quantizer: 128 for each of its 256 centroids."""

HELD_OUT = 256
"""Queries that recall is measured with: pictures held out of the training."""

NEAREST = 5
"""The k of recall@k: the seed method compares five pictures."""

STEPS = ((4, 10), (8, 10), (8, 20), (16, 20), (32, 20), (32, 40), (64, 40), (128, 80))
"""Pairs of nprobe and k_factor that are tried, cheapest first."""

QUERY_BITS = 4
"""Bits of a query's values against RaBitQ codes; after the rotation 8 find no more."""

Codes = Literal["ivfpq", "ivfrabitq"]
"""The kinds of base that are made of codes."""

TITLES = {"ivfpq": "IVF-PQ", "ivfrabitq": "IVF-RaBitQ"}
"""How a message names each kind."""

BLOCK = 16_384
"""Vectors converted to fp32 at a time while a base is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Parameters of a base, tuned on held-out queries, and the recall that they reach."""

    nlist: int
    code_bytes: int
    nprobe: int
    """Lists that a search looks into."""
    k_factor: int
    """Candidates that are rescored exactly, for each hit that is wanted."""
    recall: float
    """Recall@5 over held-out queries after exact rescoring, 0 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as the manifest keeps them."""
        return asdict(self)


class RecallError(Exception):
    """The recall of a base is below `index.min_recall`."""


class IvfBase:
    """Finds candidates in the inverted lists nearest to a query.

    Args:
        index: A trained index that holds every vector; its type says which codes it is made of.
        measured: Its search parameters.
        gpu: Where IVF-PQ is searched; None for the CPU.
    """

    exact = False

    def __init__(self, index: faiss.IndexIVF, measured: Measured, gpu: Gpu | None = None) -> None:
        self.kind = kind_of(index)
        self.measured = measured
        self._host = index
        self._on_gpu: GpuIndex | None = None
        if gpu is not None and self.kind == "ivfpq":
            self._on_gpu = gpu.put(index)

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> NDArray[np.int64]:
        """The best by code in the nearest lists; in all lists where those hold too few.

        Args and result as in `Base.candidates`.
        """
        total = self._host.ntotal
        eligible = total if allowed is None else allowed.slots
        # More lists where few slots are allowed, so that as many allowed ones are compared.
        nprobe = min(self._host.nlist, -(-self.measured.nprobe * total // max(1, eligible)))
        best = count * self.measured.k_factor
        _, slots = self.search_lists(queries, best, nprobe, allowed)
        short = np.count_nonzero(slots >= 0, axis=1) < min(count, eligible, slots.shape[1])
        if short.any():
            _, slots[short] = self.search_lists(
                queries[short], slots.shape[1], self._host.nlist, allowed, host=True
            )
        return slots

    def search_lists(
        self,
        queries: Embeddings,
        count: int,
        nprobe: int,
        allowed: Allowed | None = None,
        *,
        host: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best by code in `nprobe` lists.

        Args:
            queries: Unit vectors, shape (queries, dimension).
            count: How many candidates for each.
            nprobe: How many lists to look into.
            allowed: Which slots may be found; None allows all.
            host: Whether to search on the CPU even where there is a GPU.

        Returns:
            Scores and slots, best first, each of shape (queries, c); slot -1 where there is none.
        """
        count = min(count, self._host.ntotal)
        # The GPU index cannot filter: slots that are not allowed displace allowed ones.
        mostly_allowed = allowed is None or 2 * allowed.slots > self._host.ntotal
        if self._on_gpu is not None and mostly_allowed and not host:
            scores, slots = self._on_gpu.search(queries, count, nprobe)
            if allowed is not None:
                bits = np.unpackbits(allowed.bits, bitorder="little")
                slots = np.where((slots >= 0) & (bits[np.maximum(slots, 0)] == 1), slots, -1)
            return scores, slots
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(allowed.bits)
            parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        scores, slots = self._host.search(_as_coded(queries, self.kind), count, params=parameters)
        return scores, slots

    def save(self, path: Path) -> None:
        """Writes the index as faiss does; `load` reads it."""
        faiss.write_index(self._host, str(path))

    @staticmethod
    def load(path: Path, measured: Measured, gpu: Gpu | None = None) -> IvfBase:
        """Reads what `save` wrote."""
        return IvfBase(faiss.read_index(str(path)), measured, gpu)


def build(
    halves: Halves,
    settings: IndexSettings,
    *,
    kind: Codes,
    gpu: Gpu | None = None,
    threads: int = 0,
) -> IvfBase:
    """Trains, fills and measures a base.

    Args:
        halves: fp16 vectors, shape (pictures, dimension), in memory or mapped; row i becomes
            slot i.
        settings: Name the recall that it must reach.
        kind: Which codes it is made of.
        gpu: Where IVF-PQ will be searched; None for the CPU.
        threads: Threads of the build, set for the calling thread; 0: as many as faiss chooses.

    Raises:
        RecallError: no pair of `STEPS` reaches `min_recall`.
    """
    if threads:
        faiss.omp_set_num_threads(threads)
    count, dimension = halves.shape
    random = np.random.Generator(np.random.PCG64(7))
    shuffled = random.permutation(count)
    held_out = np.sort(shuffled[: min(HELD_OUT, count // 8)])
    index = untrained(count, dimension, kind)
    sample = np.sort(shuffled[len(held_out) :][: training_size(index.nlist, kind)])
    index.train(_as_coded(unit(halves[sample].astype(np.float32)), kind))

    queries = unit(halves[held_out].astype(np.float32))
    truth = faiss.ResultHeap(len(queries), NEAREST + 1, keep_max=True)
    for start in range(0, count, BLOCK):
        block = unit(halves[start : start + BLOCK].astype(np.float32))
        index.add(_as_coded(block, kind))
        scores, positions = faiss.knn(
            queries, block, min(NEAREST + 1, len(block)), faiss.METRIC_INNER_PRODUCT
        )
        truth.add_result(scores, positions + start)
    truth.finalize()
    index = faiss.clone_index(index)  # Its lists grew by doubling; a copy is no larger than needed.
    return _tune(index, queries, held_out, truth.I, settings, gpu)


def kind_of(index: faiss.IndexIVF) -> Codes:
    """Which codes an index is made of."""
    return "ivfrabitq" if isinstance(index, faiss.IndexIVFRaBitQ) else "ivfpq"


def untrained(count: int, dimension: int, kind: Codes) -> faiss.IndexIVF:
    """An empty index for so many vectors, to be trained on `training_size` of them."""
    metric, nlist = faiss.METRIC_INNER_PRODUCT, list_count(count)
    centroids = faiss.IndexFlatIP(dimension)
    if kind == "ivfrabitq":
        index = faiss.IndexIVFRaBitQ(centroids, dimension, nlist, metric)
        index.qb = QUERY_BITS
    else:
        index = faiss.IndexIVFPQ(centroids, dimension, nlist, code_bytes(dimension), 8, metric)
        index.pq.cp.max_points_per_centroid = MAX_CODE_TRAINING // 256
        index.pq.cp.min_points_per_centroid = 1
        index.pq.cp.niter = 12
    index.cp.max_points_per_centroid = TRAINING_PER_LIST
    index.cp.min_points_per_centroid = 1
    index.cp.niter = 8
    return index


def training_size(nlist: int, kind: Codes) -> int:
    """How many vectors an index of so many lists is trained on."""
    lists = TRAINING_PER_LIST * nlist
    return lists if kind == "ivfrabitq" else max(MAX_CODE_TRAINING, lists)


def _as_coded(vectors: Embeddings, kind: Codes) -> Embeddings:
    """Vectors as the codes of this kind are made of them, and queries as they are compared."""
    return rotated(vectors) if kind == "ivfrabitq" else vectors


def _tune(
    index: faiss.IndexIVF,
    queries: Embeddings,
    held_out: NDArray[np.int64],
    truth: NDArray[np.int64],
    settings: IndexSettings,
    gpu: Gpu | None,
) -> IvfBase:
    """Raises nprobe and k_factor until recall@5 over the held-out queries is high enough.

    Args:
        index: Holds every vector.
        queries: The held-out unit vectors.
        held_out: The slot of each query, which is not one of its own neighbours.
        truth: The true `NEAREST` + 1 slots of each query, -1 where there are fewer.
        settings: Name the recall that is enough.
        gpu: Where the base will be searched; None for the CPU.
    """
    best, kind = 0.0, kind_of(index)
    for nprobe, k_factor in STEPS:
        tried = Measured(
            nlist=index.nlist,
            code_bytes=index.code_size,
            nprobe=min(nprobe, index.nlist),
            k_factor=k_factor,
            recall=0.0,
        )
        slots = IvfBase(index, tried).candidates(queries, NEAREST + 1, None)
        # Rescoring is exact: a true neighbour among the candidates is found, and no other is.
        recall = _recall(slots, truth, held_out)
        best = max(best, recall)
        if recall >= settings.min_recall:
            return IvfBase(index, replace(tried, recall=recall), gpu)
    raise RecallError(
        f"{TITLES[kind]} over {index.ntotal} pictures finds {best:.3f} of the nearest five, less "
        f"than index.min_recall = {settings.min_recall}"
    )


def _recall(
    slots: NDArray[np.int64], truth: NDArray[np.int64], held_out: NDArray[np.int64]
) -> float:
    """Share of the true neighbours that are among the candidates, a query itself not counted."""
    hits = relevant = 0
    for candidates, true, query_slot in zip(slots, truth, held_out, strict=True):
        neighbours = [slot for slot in true.tolist() if slot not in {query_slot, -1}][:NEAREST]
        hits += len(set(neighbours) & set(candidates.tolist()))
        relevant += len(neighbours)
    return hits / max(1, relevant)
