"""The check `index` of `make gpu-check`: recall and throughput of a large gallery's index.

vectors ──> base on the CPU ──> the same on the device ──> recall, queries/s
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from tests.bench.gpu_models import in_turns
from tests.bench.gpu_verdict import Finding


def index(device: str, *, small: bool) -> list[Finding]:
    """Compares recall and speed of a large gallery's index on the device with those on the CPU.

    Smaller galleries have no index: they are searched exhaustively, on the CPU in any case.
    """
    import faiss
    import numpy as np

    from pagesight_server.index.gpu import Gpu
    from pagesight_server.index.ivf import IvfBase, build
    from pagesight_server.index.policy import IndexSettings

    rows, dimension = (2_000, 64) if small else (50_000, 1152)
    draw = np.random.default_rng(7)

    def around(centres: Any, noise: float) -> Any:
        drawn = draw.standard_normal(centres.shape, dtype=np.float32)
        drawn = centres + noise * drawn / dimension**0.5
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    centres = around(np.zeros((rows // 50, dimension), np.float32), 1.0)
    vectors = around(np.repeat(centres, 50, axis=0), 0.5)
    queries = around(vectors[draw.integers(0, rows, 512)], 0.1)
    start_s = time.perf_counter()
    on_cpu = build(vectors.astype(np.float16), IndexSettings(), kind="ivfpq")
    built_s = time.perf_counter() - start_s
    settings = IndexSettings()
    gpu = Gpu(settings.gpu_temporary_mb) if device == "cuda" else None
    on_device = IvfBase(on_cpu._host, on_cpu.measured, gpu) if gpu else on_cpu
    _, truth = faiss.knn(queries, vectors, 5, faiss.METRIC_INNER_PRODUCT)

    def recall(base: IvfBase) -> float:
        slots = base.candidates(queries, 5, None)
        return statistics.mean(
            len(set(true) & set(returned)) / 5
            for true, returned in zip(truth.tolist(), slots.tolist(), strict=True)
        )

    def per_s(base: IvfBase) -> float:
        batches = [queries[start : start + 32] for start in range(0, 512, 32)]
        taken = in_turns({str(i): lambda b=b: base.candidates(b, 5, None)  # type: ignore[misc]
                          for i, b in enumerate(batches)}, 5)  # fmt: skip
        return 32 / statistics.median(second for one in taken.values() for second in one)

    cpu_recall, device_recall = recall(on_cpu), recall(on_device)
    what = f"index, {rows} x {dimension}"
    return [
        Finding(what=f"{what}: recall@5 ÷ the CPU's", found=device_recall / cpu_recall,
                limit=0.995, note=f"{device_recall:.4f} and {cpu_recall:.4f}; built on the CPU in "
                f"{built_s:.0f} s"),
        Finding(what=f"{what}: batches of 32", found=per_s(on_device), unit="queries/s",
                note=f"the CPU's: {per_s(on_cpu):.0f}"),
    ]  # fmt: skip
