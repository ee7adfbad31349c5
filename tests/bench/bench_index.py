"""Recall, speed and memory of the index, against plain faiss and usearch, and during changes.

    vectors around centres ──> each engine (index_engines.py) ──> recall, speed, bytes
    one more picture ──> visible after
    50 000 pictures, searched without pause ──> a new generation is built and swapped ──> p99

The vectors are of 1152 values and length 1: centres drawn from N(0, I) and normalised, one for
every 50 vectors, noise of norm 0.5, seed 7. Half of the queries are stored vectors with noise of
norm 0.1, half fresh draws around the same centres. All sides get the same vectors, rounded to
fp16 as they are stored, and the same threads; ours reads the vectors that it rescores from a
mapped file, and the time of that is in its figures.

Run: make bench-index    (ARGS='--sizes 10000 100000 --threads 2')
A million, where usearch takes longer to build than all others together:
make bench-index ARGS='--sizes 1000000 --swap-size 0 --engines "pagesight IVF-RaBitQ"'
With real embeddings too: ARGS='--screens DIR --views 28', so many augmented views of every picture
below DIR (views.py); their embeddings are kept in bench/seen, as they take longer than the rest.
--mixed N adds N vectors that vary as those embeddings do.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pagesight_server.common.cores import cores
from pagesight_server.gallery.snapshot import Bundles, Changes, Picture, Snapshot
from pagesight_server.index.cosines import unit
from pagesight_server.index.layered import FlatBase, LayeredIndex, nearest
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.vectors import Generation, Vectors
from pagesight_server.text.reading import Reading
from tests.bench.index_engines import ENGINES, Engine, Floats, Halves, K, Search
from tests.bench.views import embeddings

DIMENSION = 1152
QUERIES = 512
EXHAUSTIVE = "faiss Flat"
"""The engine that is the ground truth of recall and always runs."""

LONGEST_S = 6.0
"""Longest time for the measurement of one latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The measurements of one engine on one set of vectors."""

    data: str
    vectors: int
    engine: str
    build_s: float
    build_cpu_s: float
    """CPU time of the build, which other work on the machine does not change much."""
    build_peak_mb: float
    """Peak of resident memory during the build, above that before; it includes pages of mapped
    files, which the system may reclaim."""
    grown_mb: float
    """Growth of anonymous (not mapped) memory by the build."""
    resident_bytes_per_vector: float
    """Size of codes, ids and graph, or of vectors; without the centroids of the lists."""
    centre_bytes: int
    """Size of the lists' centroids."""
    disk_bytes_per_vector: float
    recall_at_5: float
    """Mean share of the five true nearest neighbours that are returned, 0 to 1."""
    batch_1_ms: float
    """Median latency of a batch of one query."""
    batch_1_cpu_ms: float
    """Median CPU time of a batch of one query."""
    batch_32_ms: float
    """Median latency of a batch of 32 queries."""
    queries_per_s: float
    """Throughput in batches of 32."""
    times_flat: float
    """Throughput relative to the first engine's."""
    cpu_ms_per_query: float
    """CPU time of the process in batches of 32, which other work on the machine does not change."""
    times_flat_by_cpu: float
    """The first engine's CPU time relative to this one's."""
    settings: str


def main() -> None:
    """Measures and writes `bench/index.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--swap-size", type=int, default=50_000)
    parser.add_argument("--screens", type=Path, metavar="DIR")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--views", type=int, default=28, help="augmented views per screenshot")
    parser.add_argument("--mixed", type=int, default=0, metavar="N", help="vectors mixed of them")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    faiss.omp_set_num_threads(arguments.threads)
    rows: list[Row] = []
    changes: list[dict[str, float]] = []
    for size in arguments.sizes:
        stored, queries = draw(size)
        with tempfile.TemporaryDirectory() as folder:
            of_size, vectors = compare(
                "synthetic", stored, queries, Path(folder), arguments.engines
            )
            rows += of_size
            if vectors is not None:
                changes.append(change(vectors, queries))
    if arguments.screens is not None:
        stored, queries = real(arguments)
        with tempfile.TemporaryDirectory() as folder:
            rows += compare("real screenshots", stored, queries, Path(folder), arguments.engines)[0]
        if arguments.mixed:
            stored, queries = mixed(stored, queries, arguments.mixed)
            with tempfile.TemporaryDirectory() as folder:
                rows += compare("real, mixed", stored, queries, Path(folder), arguments.engines)[0]
    swaps = swap(arguments.swap_size) if arguments.swap_size else {}
    conditions = {
        "processor": _processor(),
        "load_average_at_the_start": load,
        "cores": cores(),
        "threads": arguments.threads,
        "load_average_at_the_end": os.getloadavg()[0],
        "faiss": faiss.__version__,
        "compiled_for": faiss.get_compile_options().strip(),
        "python": platform.python_version(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = {
        "conditions": conditions,
        "rows": [asdict(row) for row in rows],
        "changes": changes,
        "swap": swaps,
    }
    (arguments.out / "index.json").write_text(json.dumps(result, indent=1))
    _show(rows, changes, swaps, conditions)


def draw(count: int) -> tuple[NDArray[np.float16], Floats]:
    """Draws synthetic vectors to store and queries, as the module's docstring describes."""
    random = np.random.Generator(np.random.PCG64(7))
    centres = unit(random.standard_normal((max(1, count // 50), DIMENSION), np.float32))
    stored = np.empty((count, DIMENSION), np.float16)

    def noise(rows: int, norm: float) -> Floats:
        return norm * unit(random.standard_normal((rows, DIMENSION), np.float32))

    for start in range(0, count, 10_000):
        owner = np.arange(start, min(count, start + 10_000)) // 50 % len(centres)
        stored[start : start + len(owner)] = unit(centres[owner] + noise(len(owner), 0.5))
    half = QUERIES // 2
    near = stored[random.choice(count, half, replace=False)].astype(np.float32) + noise(half, 0.1)
    fresh = centres[random.integers(0, len(centres), half)] + noise(half, 0.5)
    queries = unit(np.concatenate([near, fresh]))
    return stored, queries[random.permutation(len(queries))]


def real(arguments: argparse.Namespace) -> tuple[NDArray[np.float16], Floats]:
    """Embeddings of real screenshots: views of every fourth one are queries, all others stored."""
    views = embeddings(
        arguments.screens, arguments.bundles, arguments.views, arguments.out / "seen"
    )
    dimension = views.shape[2]
    is_query = np.arange(len(views)) % 4 == 0
    queries = unit(views[is_query].reshape(-1, dimension))
    random = np.random.Generator(np.random.PCG64(7))
    chosen = random.permutation(len(queries))[:QUERIES]
    return views[~is_query].reshape(-1, dimension).astype(np.float16), queries[chosen]


def mixed(stored: Halves, queries: Floats, count: int) -> tuple[Halves, Floats]:
    """Draws vectors that vary as real embeddings do, as many as are wanted.

    Each is an embedding, moved by 0.05 to 0.35 times the difference of two that are stored, so that
    strong and weak directions stay as they are.
    """
    random = np.random.Generator(np.random.PCG64(7))

    def moved(source: Halves | Floats, rows: int) -> Floats:
        one, plus, minus = (
            of[random.integers(0, len(of), rows)].astype(np.float32)
            for of in (source, stored, stored)
        )
        return unit(one + random.uniform(0.05, 0.35, (rows, 1)).astype(np.float32) * (plus - minus))

    more = np.empty((count, stored.shape[1]), np.float16)
    for start in range(0, count, 10_000):
        more[start : start + 10_000] = moved(stored, min(10_000, count - start))
    return more, moved(queries, QUERIES)


def compare(
    data: str,
    stored: Halves,
    queries: Floats,
    folder: Path,
    chosen: Sequence[str],
) -> tuple[list[Row], Vectors | None]:
    """Measures the engines on the same vectors.

    Returns:
        The measurements, and the vectors of an index of ours if one was measured.
    """
    rows: list[Row] = []
    flat_rate = flat_cpu = 0.0
    truth: NDArray[np.int64] | None = None
    our_vectors: Vectors | None = None
    engine: Engine | None = None
    for name, make in ENGINES.items():
        if name not in {EXHAUSTIVE, *chosen}:
            continue
        engine = None  # frees the last index: two at once may exceed the memory
        before = _memory_mb(reset_peak=True)
        start, worked = time.perf_counter(), time.process_time()
        engine = make(stored, folder)
        build_s, build_cpu_s = time.perf_counter() - start, time.process_time() - worked
        after = _memory_mb()
        our_vectors = engine.vectors or our_vectors
        rows_found = np.concatenate(
            [engine.search(queries[i : i + 32]) for i in range(0, len(queries), 32)]
        )
        truth = rows_found if truth is None else truth
        one, one_cpu = _median_ms(engine.search, queries, 1)
        many, cpu = _median_ms(engine.search, queries, 32)
        rate, cpu = 32_000 / many, cpu / 32
        flat_rate, flat_cpu = flat_rate or rate, flat_cpu or cpu
        rows.append(
            Row(
                data=data,
                vectors=len(stored),
                engine=name,
                build_s=build_s,
                build_cpu_s=build_cpu_s,
                build_peak_mb=after["VmHWM"] - before["VmRSS"],
                grown_mb=after["RssAnon"] - before["RssAnon"],
                resident_bytes_per_vector=engine.resident,
                centre_bytes=engine.centre_bytes,
                disk_bytes_per_vector=engine.disk,
                recall_at_5=_recall(rows_found, truth),
                batch_1_ms=one,
                batch_1_cpu_ms=one_cpu,
                batch_32_ms=many,
                queries_per_s=rate,
                times_flat=rate / flat_rate,
                cpu_ms_per_query=cpu,
                times_flat_by_cpu=flat_cpu / cpu,
                settings=engine.settings,
            )
        )
        print(rows[-1], flush=True)
    return rows, our_vectors


def change(vectors: Vectors, queries: Floats, rounds: int = 20) -> dict[str, float]:
    """Measures the delay until a new picture can be found: snapshot, index and one search."""
    count = len(vectors)
    bundles = Bundles(encoder="bench", ocr="bench")
    snapshot = Snapshot(
        gallery="bench",
        revision=1,
        encoder_bundle=bundles.encoder,
        ocr_bundle=bundles.ocr,
        pictures=tuple(_picture(number) for number in range(count)),
        embeddings=vectors,
        facts={},
    )
    took = []
    for turn, query in enumerate(queries[:rounds]):
        changes = Changes(
            revision=2 + turn,
            bundles=bundles,
            left=(),
            joined=(_picture(count + turn),),
            halves=query[None].astype(np.float16),
            facts={},
        )
        start = time.perf_counter()
        snapshot = snapshot.after(changes)
        rows = np.arange(len(snapshot.pictures), dtype=np.int64)
        hits = nearest(snapshot.embeddings, rows).search(query, K)
        took.append(1000 * (time.perf_counter() - start))
        assert snapshot.pictures[hits.rows[0]] == changes.joined[0]
    return {
        "vectors": count,
        "enrolled_visible_ms_first": took[0],
        "enrolled_visible_ms_median": statistics.median(took),
        "enrolled_visible_ms_max": max(took),
    }


def _picture(number: int) -> Picture:
    return Picture(
        image_id=f"{number:064x}",
        label=f"label {number:09d}",
        source="",
        author="",
        added_at_ms=0,
        added_revision=1,
        reading=Reading(width_px=1, height_px=1, lines=()),
    )


def swap(count: int, seconds: float = 10.0) -> dict[str, float]:
    """Measures search latency while a new generation is built and swapped in, and before."""
    stored, queries = draw(count)
    halves = stored
    built = Generation(halves=halves, base=FlatBase(halves))
    everything = np.arange(count, dtype=np.int64)
    index = LayeredIndex(Vectors.of_generation(built), everything)
    index_manager = IndexManager()
    swapping, done = threading.Event(), threading.Event()
    before: list[float] = []
    during: list[float] = []

    def ask() -> None:
        turn = 0
        while not done.is_set():
            start = time.perf_counter()
            index.search(queries[turn % len(queries)], K)
            took = 1000 * (time.perf_counter() - start)
            (during if swapping.is_set() else before).append(took)
            turn += 1

    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(seconds)
    swapping.set()
    start = time.perf_counter()
    swaps = 0
    while time.perf_counter() - start < seconds:
        adopted = index_manager.rebuild("bench", "bench", [], index.vectors).result()
        assert adopted
        swaps += 1
    done.set()
    asker.join()
    p99_before, p99_during = (float(np.percentile(t, 99)) for t in (before, during))
    return {
        "vectors": count,
        "searches_before": len(before),
        "searches_during": len(during),
        "swaps": swaps,
        "p50_before_ms": statistics.median(before),
        "p99_before_ms": p99_before,
        "p50_during_ms": statistics.median(during),
        "p99_during_ms": p99_during,
        "ratio_of_p99": p99_during / p99_before,
    }


def _median_ms(search: Search, queries: Floats, batch: int) -> tuple[float, float]:
    """Median wall time and CPU time of one call, in ms."""
    took: list[float] = []
    cpu: list[float] = []
    begun = time.perf_counter()
    for turn in range(200):
        start = turn * batch % (len(queries) - batch + 1)
        began, worked = time.perf_counter(), time.process_time()
        search(queries[start : start + batch])
        took.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - worked))
        if turn >= 2 and time.perf_counter() - begun > LONGEST_S:
            break
    return statistics.median(took), statistics.median(cpu)


def _memory_mb(*, reset_peak: bool = False) -> dict[str, float]:
    """Memory of the process in MB, by the names of /proc/self/status; VmHWM is the peak."""
    ctypes.CDLL(None).malloc_trim(0)  # returns free memory, which would be counted otherwise
    if reset_peak:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    named = (line.split(":") for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) / 1024 for name, value in named}


def _recall(rows: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean share of the true neighbours that are among the returned ones."""
    hits = [len(set(r) & set(t)) / len(t) for r, t in zip(rows, truth, strict=True)]
    return float(np.mean(hits))


def _processor() -> str:
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def _show(
    rows: list[Row],
    changes: list[dict[str, float]],
    swaps: dict[str, float],
    conditions: dict[str, object],
) -> None:
    console = Console(width=180)
    table = Table(title=str(conditions))
    for name in Row.__dataclass_fields__:
        table.add_column(name.replace("_", " "))
    for row in rows:
        cells = asdict(row).values()
        table.add_row(*(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells))
    console.print(table)
    for figures in [*changes, swaps]:
        console.print({name: round(value, 3) for name, value in figures.items()})


if __name__ == "__main__":
    main()
