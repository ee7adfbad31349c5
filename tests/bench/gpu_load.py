"""The check `load` of `make gpu-check`: CUDA is found, and what a change of shape costs.

    one network, shapes A A A ... and B B B ...   ms a run
    the same network, A B A B ...                 ms a run ──> ms for each change of shape
    a session for A and one for B, A B A B ...    ms a run ──> are fixed shapes worth it?
    FP16 with and without `use_tf32=0`            does that take the tensor cores away?

ONNX Runtime keeps one cuDNN plan per convolution, made for the last shape, and is said to make it
anew at each change (onnxruntime issue 23006: 30 ms became 500 for five shapes in turns).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import gpu_nets
from tests.bench.gpu_verdict import Finding

SHAPES = ((1, 3, 960, 448), (1, 3, 736, 512))
"""Two canvases of text detection: pages of 1080 x 2400 and of 750 x 1080."""
SMALL = ((1, 3, 64, 32), (1, 3, 48, 64))


def load(options: argparse.Namespace) -> list[Finding]:
    """Checks that CUDA loads, and measures what alternating shapes cost."""
    from pagesight_server.inference import cuda
    from pagesight_server.inference.onnx_session import CONTEXT_MB, MEGABYTE, Graph, check_device
    from pagesight_server.inference.settings import Compute

    compute = Compute(device=options.device)
    check_device(compute, 0)
    shapes, runs = (SMALL, 3) if options.small else (SHAPES, 30)
    free_mb = _free_mb(options.device, cuda, MEGABYTE)
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        nets = options.nets or Path(folder)
        if options.nets is None:
            gpu_nets.write(nets)

        def runner(shape: Sequence[int], graph: Graph) -> Callable[[], Any]:
            pixels = np.random.default_rng(7).random(shape, dtype=np.float32)
            return lambda: graph.run({"pixels": pixels})

        for half in (False, True):
            name = "FP16" if half else "FP32"
            path = nets / gpu_nets.file_name(half=half)
            graph, other = (Graph(path, compute, half=half) for _ in range(2))
            alone = [in_order([runner(shape, graph)] * runs) for shape in shapes]
            mixed = in_order([runner(shape, graph) for shape in shapes] * runs)
            each = [runner(shape, one) for shape, one in zip(shapes, (graph, other), strict=True)]
            apart = in_order(each * runs)
            findings += change_findings(name, alone, mixed, apart)
            if half:
                slow = Graph(path, compute, half=False)
                without = in_order([runner(shapes[0], slow)] * runs)
                findings.append(
                    Finding(what="FP16: time with use_tf32=0 ÷ as served",
                            found=statistics.median(without) / statistics.median(alone[0]),
                            limit=0.95, note="above 1: it takes the tensor cores away; "
                            "1: there was no plan without them")
                )  # fmt: skip
        taken_mb = free_mb - _free_mb(options.device, cuda, MEGABYTE)
    if options.device == "cuda":
        findings.append(
            Finding(what="GPU memory of three small sessions, after the context", found=taken_mb,
                    unit="MB", limit=CONTEXT_MB, side="at most",
                    note="kernels, cuBLAS, cuDNN and their arenas; the plan has CONTEXT_MB")
        )  # fmt: skip
    return findings


def _free_mb(device: str, cuda: Any, megabyte: int) -> float:
    """Free memory of the GPU in MB; NaN without one."""
    return cuda.load().free_bytes() / megabyte if device == "cuda" else float("nan")


def in_order(runs: Sequence[Callable[[], Any]]) -> list[float]:
    """The ms of each run; each that comes for the first time has run once before, as warm-up."""
    for run in dict.fromkeys(runs):
        run()
    taken_ms = []
    for run in runs:
        start_s = time.perf_counter()
        run()
        taken_ms.append(1000 * (time.perf_counter() - start_s))
    return taken_ms


def change_findings(
    name: str,
    alone: Sequence[Sequence[float]],
    mixed: Sequence[float],
    apart: Sequence[float],
) -> list[Finding]:
    """What alternating shapes cost, from the ms of runs.

    Args:
        name: What the network computes in.
        alone: For each shape, runs of it alone.
        mixed: Runs of all shapes in turns, in one session.
        apart: The same with a session for each shape.
    """
    one_ms = statistics.mean(statistics.median(runs) for runs in alone)
    mixed_ms, apart_ms = statistics.median(mixed), statistics.median(apart)
    change_ms = mixed_ms - one_ms
    rebuilt = mixed_ms > 2 * one_ms
    return [
        Finding(what=f"{name}: one shape", found=one_ms, unit="ms"),
        Finding(what=f"{name}: a change of shape costs", found=change_ms, unit="ms",
                note=f"{change_ms / gpu_nets.LAYERS:.3g} ms a convolution; a plan is "
                     f"{'made anew' if rebuilt else 'not made anew'} at each change"),
        Finding(what=f"{name}: a session each, time ÷ one shape's", found=apart_ms / one_ms,
                limit=1.5, side="at most"),
    ]  # fmt: skip
