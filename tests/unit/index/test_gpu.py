"""Indexes on a GPU: one thread and one pool of memory for all, freed when they are replaced."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from pagesight_server.common.errors import SetupError
from pagesight_server.index.gpu import Gpu, usable_device
from pagesight_server.index.ivf import IvfBase, build
from pagesight_server.index.manager import gpu_mb
from pagesight_server.index.owner import OwnerThread
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import Allowed
from tests.support.faiss_gpu import FakeFaiss


@pytest.fixture(scope="module")
def halves() -> NDArray[np.float16]:
    return np.random.default_rng(7).normal(size=(600, 16)).astype(np.float16)


@pytest.fixture(scope="module")
def on_cpu(halves: NDArray[np.float16]) -> IvfBase:
    return build(halves, IndexSettings(min_recall=0.01), kind="ivfpq", threads=1)


@pytest.fixture(scope="module")
def queries(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    rows = halves[:3].astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_a_gpu_finds_what_the_cpu_finds(on_cpu: IvfBase, queries: NDArray[np.float32]) -> None:
    library = FakeFaiss()
    gpu = Gpu(64, library)
    on_gpu = IvfBase(on_cpu._host, on_cpu.measured, gpu)
    np.testing.assert_array_equal(
        on_gpu.candidates(queries, 5, None), on_cpu.candidates(queries, 5, None)
    )
    assert library.searched
    assert library.used_in == {gpu._thread.thread}
    assert [resources.temporary_bytes for resources in library.resources] == [64 * 1024 * 1024]


def test_cuvs_is_used_only_where_it_was_asked_for(on_cpu: IvfBase) -> None:
    library = FakeFaiss()
    Gpu(64, library).put(on_cpu._host)
    assert [options.use_cuvs for options in library.options] == [False]


@pytest.mark.parametrize("missing", [-1, 2**63 - 1])
def test_a_missing_neighbour_is_no_slot_however_it_is_marked(
    missing: int, on_cpu: IvfBase, queries: NDArray[np.float32]
) -> None:
    on_gpu = IvfBase(on_cpu._host, on_cpu.measured, Gpu(64, FakeFaiss(missing)))
    # One list of some holds fewer than 600 vectors.
    _, slots = on_gpu.search_lists(queries, 600, 1)
    assert slots.shape == (3, 600)
    assert slots.min() == -1
    assert slots.max() < 600
    allowed = np.zeros(600, bool)
    allowed[:400] = True
    bits = Allowed(np.packbits(allowed, bitorder="little"), 400)
    _, slots = on_gpu.search_lists(queries, 600, 1, bits)
    assert slots.max() < 400


def test_no_more_is_asked_of_the_kernels_than_they_do(
    on_cpu: IvfBase, queries: NDArray[np.float32]
) -> None:
    library = FakeFaiss()
    Gpu(64, library).put(on_cpu._host).search(queries, 5_000, 4_000)
    assert library.searched == [(2_048, 2_048)]


def test_indexes_that_were_replaced_leave_neither_memory_nor_threads(
    on_cpu: IvfBase, queries: NDArray[np.float32]
) -> None:
    library = FakeFaiss()
    gpu = Gpu(64, library)
    thread = gpu._thread.thread
    for _ in range(5):
        base = IvfBase(on_cpu._host, on_cpu.measured, gpu)
        base.candidates(queries, 5, None)
    gc.collect()
    gpu._thread.run(lambda: None)  # what was queued before is done
    assert (len(library.indexes), len(library.resources)) == (1, 1)
    assert library.used_in == {thread}
    del base, gpu
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    assert len(library.indexes) == 0
    # faiss's resources are not to be touched by two threads at once.
    assert library.freed_in == {thread}


def test_a_closed_index_is_freed_and_says_so(on_cpu: IvfBase, queries: NDArray[np.float32]) -> None:
    library = FakeFaiss()
    gpu = Gpu(64, library)
    index = gpu.put(on_cpu._host)
    index.close()
    index.close()
    with pytest.raises(RuntimeError, match="this index was closed"):
        index.search(queries, 5, 1)
    assert len(library.indexes) == 0


def test_a_closed_gpu_does_what_was_queued_and_then_says_so(on_cpu: IvfBase) -> None:
    gpu = Gpu(64, FakeFaiss())
    index = gpu.put(on_cpu._host)
    gpu.close()
    gpu._thread.thread.join(60)
    assert not gpu._thread.thread.is_alive()
    with pytest.raises(RuntimeError, match="the thread index-gpu is closed"):
        gpu.put(on_cpu._host)
    index.close()


def test_the_last_piece_of_work_is_not_kept() -> None:
    class Large:
        def work(self) -> None: ...

    owner, large = OwnerThread("owner"), Large()
    reference = weakref.ref(large)
    owner.run(large.work)
    done = threading.Event()
    weakref.finalize(large, done.set)
    del large
    assert done.wait(60)
    assert reference() is None
    owner.close()


def test_an_error_of_the_work_is_its_callers() -> None:
    owner = OwnerThread("owner")
    with pytest.raises(ZeroDivisionError):
        owner.run(lambda: 1 // 0)
    assert owner.run(lambda: 2) == 2
    owner.close()


def test_the_device_is_the_processor_where_faiss_has_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    assert usable_device("cpu") == usable_device("auto") == "cpu"
    assert gpu_mb(IndexSettings(), tmp_path) == 0
    with pytest.raises(SetupError, match="this faiss finds no GPU"):
        usable_device("cuda")


def test_an_index_on_the_gpu_counts_with_the_one_that_replaces_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    (tmp_path / "default.codes").write_bytes(bytes(3 * 1024 * 1024))
    (tmp_path / "default.vectors").write_bytes(b"on the disk alone")
    assert gpu_mb(IndexSettings(gpu_temporary_mb=100), tmp_path) == 100 + 2 * 3
    assert gpu_mb(IndexSettings(device="cpu"), tmp_path) == 0


def test_one_bit_codes_stay_on_the_processor(
    halves: NDArray[np.float16],
    queries: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    assert gpu_mb(IndexSettings(kind="ivfrabitq"), tmp_path) == 0
    library = FakeFaiss()
    base = build(
        halves, IndexSettings(min_recall=0.01), kind="ivfrabitq", gpu=Gpu(64, library), threads=1
    )
    slots = base.candidates(queries, 5, None)
    assert [row in found for row, found in enumerate(slots.tolist())] == [True] * 3
    assert not library.options
