"""The engines that the index benchmark compares, each built over the same vectors.

    fp16 vectors ──> faiss Flat | IVF-Flat | IVF-PQ | IVF-RaBitQ | usearch | pagesight's three bases

faiss's own IVF indexes get the lists and codes of pagesight's bases and look into 16 lists without
rescoring, so that they show what the codes alone find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from usearch.index import Index as Usearch

from pagesight_server.index.cosines import unit
from pagesight_server.index.disk import GenerationStore
from pagesight_server.index.ivf import (
    TRAINING_PER_LIST,
    Codes,
    IvfBase,
    build,
    training_size,
    untrained,
)
from pagesight_server.index.layered import FlatBase, LayeredIndex
from pagesight_server.index.policy import IndexSettings, list_count
from pagesight_server.index.rotation import rotated
from pagesight_server.index.vectors import Generation, Vectors

K = 5
BLOCK = 16_384
NPROBE = 16

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Search = Callable[[Floats], NDArray[np.int64]]
"""Returns the rows of the five nearest neighbours of each query, shape (queries, 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An index over the vectors, and what it takes."""

    search: Search
    settings: str
    resident: float
    """Bytes a vector in memory: codes and ids, graph, or vectors; without the lists' centroids."""
    centre_bytes: int = 0
    """Size of the lists' centroids."""
    disk: float = 0.0
    """Bytes a vector on disk."""
    vectors: Vectors | None = None
    """The vectors of an index of ours."""


def flat(stored: Halves, folder: Path) -> Engine:
    """Exhaustive search over fp32."""
    index = faiss.IndexFlatIP(stored.shape[1])
    _fill(index, stored)
    return Engine(
        search=lambda q: index.search(q, K)[1], settings="fp32", resident=4 * stored.shape[1]
    )


def ivf_flat(stored: Halves, folder: Path) -> Engine:
    """Inverted lists of fp32 vectors."""
    count, dimension = stored.shape
    nlist = list_count(count)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dimension), dimension, nlist, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid, index.cp.niter, index.nprobe = TRAINING_PER_LIST, 8, NPROBE
    index.train(_sample(stored, TRAINING_PER_LIST * nlist))
    _fill(index, stored)
    return Engine(
        search=lambda q: index.search(q, K)[1],
        settings=f"nlist {nlist}, nprobe {NPROBE}",
        resident=4 * dimension + 8,
        centre_bytes=4 * dimension * nlist,
    )


def ivf_codes(stored: Halves, folder: Path, *, kind: Codes, rotate: bool = False) -> Engine:
    """The inverted lists of codes that ours have, without rescoring."""
    count, dimension = stored.shape
    index = untrained(count, dimension, kind)
    index.nprobe = NPROBE
    prepared = rotated if rotate else np.ascontiguousarray
    index.train(prepared(_sample(stored, training_size(index.nlist, kind))))
    for start in range(0, count, BLOCK):
        index.add(prepared(unit(stored[start : start + BLOCK].astype(np.float32))))
    return Engine(
        search=lambda q: index.search(prepared(q), K)[1],
        settings=f"nlist {index.nlist}, code {index.code_size}, nprobe {NPROBE}",
        resident=index.code_size + 8,
        centre_bytes=4 * dimension * index.nlist,
    )


def usearch(stored: Halves, folder: Path) -> Engine:
    """Usearch's graph over fp16 vectors."""
    count, dimension = stored.shape
    index = Usearch(ndim=dimension, metric="ip", dtype="f16")
    threads = faiss.omp_get_max_threads()
    for start in range(0, count, BLOCK):
        block = unit(stored[start : start + BLOCK].astype(np.float32))
        index.add(np.arange(start, start + len(block)), block, threads=threads)

    def search(q: Floats) -> NDArray[np.int64]:
        matches = index.search(q, K, threads=threads)
        return np.asarray(matches.keys, np.int64).reshape(len(q), -1)

    return Engine(search=search, settings="fp16, defaults", resident=index.memory_usage / count)


def pagesight_exact(stored: Halves, folder: Path) -> Engine:
    """The exact base of ours, and the exact cosines of what it finds."""
    count, dimension = stored.shape
    vectors = Vectors.of_generation(Generation(halves=stored, base=FlatBase(stored)))
    index = LayeredIndex(vectors, np.arange(count, dtype=np.int64))
    return Engine(
        search=lambda q: np.stack([hits.rows for hits in index.search_many(q, K)]),
        settings="fp32, and fp16 for the cosines",
        resident=6 * dimension,
    )


def pagesight(stored: Halves, folder: Path, *, kind: Codes) -> Engine:
    """A base of ours: codes choose, vectors in a mapped file are scored exactly."""
    count, dimension = stored.shape
    ids = np.zeros((count, 32), np.uint8)
    generations = GenerationStore(folder / kind)
    settings = IndexSettings(device="cpu")
    generation = generations.write(
        "bench", "bench", ids, stored, lambda halves: build(halves, settings, kind=kind)
    )
    vectors = Vectors.of_generation(generation)
    index = LayeredIndex(vectors, np.arange(count, dtype=np.int64))
    base = generation.base
    assert isinstance(base, IvfBase)
    tuned = base.measured
    return Engine(
        search=lambda q: np.stack([hits.rows for hits in index.search_many(q, K)]),
        settings=f"nlist {tuned.nlist}, code {tuned.code_bytes}, nprobe {tuned.nprobe}, "
        f"k_factor {tuned.k_factor}, held-out {tuned.recall:.3f}",
        # Ids of 8 bytes, as in faiss, and two permutations of 4 bytes, row by slot and back.
        resident=tuned.code_bytes + 8 + 4 + 4,
        centre_bytes=4 * dimension * tuned.nlist,
        disk=sum(f.stat().st_size for f in generations.folder.iterdir()) / count,
        vectors=vectors,
    )


ENGINES: Mapping[str, Callable[[Halves, Path], Engine]] = {
    "faiss Flat": flat,
    "faiss IVF-Flat": ivf_flat,
    "faiss IVF-PQ": partial(ivf_codes, kind="ivfpq"),
    "faiss IVF-RaBitQ": partial(ivf_codes, kind="ivfrabitq"),
    "faiss IVF-RaBitQ, rotated": partial(ivf_codes, kind="ivfrabitq", rotate=True),
    "usearch HNSW": usearch,
    "pagesight exact": pagesight_exact,
    "pagesight IVF-PQ": partial(pagesight, kind="ivfpq"),
    "pagesight IVF-RaBitQ": partial(pagesight, kind="ivfrabitq"),
}
"""Builds each engine, given the vectors and a folder for its files; the first, exhaustive search,
is the ground truth of recall."""


def _fill(index: faiss.Index, stored: Halves) -> None:
    for start in range(0, len(stored), BLOCK):
        index.add(unit(stored[start : start + BLOCK].astype(np.float32)))


def _sample(stored: Halves, count: int) -> Floats:
    random = np.random.Generator(np.random.PCG64(7))
    rows = np.sort(random.permutation(len(stored))[:count])
    return unit(stored[rows].astype(np.float32))
