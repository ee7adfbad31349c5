"""Checks of the bundles by `make gpu-check`: results, placement of nodes, speed against torch.

    golden pairs ──> bound graphs ──> equal to the source framework's results?
          └────────> profile ──> do the compute-heavy nodes run on the device?
    one batch ──> ours as served | ours, inputs on the device | torch ──> images/s, share of peak

The contenders of the last row are interleaved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.gpu_verdict import Finding

HEAVY = ("Conv", "MatMul", "Gemm", "Attention")
"""Parts of the names of compute-heavy operators; all others may run anywhere."""


def golden(options: argparse.Namespace) -> list[Finding]:
    """Checks that every graph reproduces its source framework's results, with bound buffers."""
    from pagesight_server.common.errors import SetupError
    from pagesight_server.inference.bundle import Bundle
    from pagesight_server.inference.onnx_session import Graph
    from pagesight_server.inference.settings import Compute

    def check(loaded: Bundle) -> Finding:
        what = f"golden pairs of {loaded.id} ({loaded.manifest['dtype']})"
        graphs: dict[str, Graph] = {}

        def run(name: str, inputs: Any) -> Any:
            if name not in graphs:
                graphs[name] = Graph(_file(loaded, name), Compute(device=options.device))
            return graphs[name].run(inputs)

        try:
            loaded.check_golden(run)
        except SetupError as error:
            return Finding(what=what, found=0, limit=1, note=str(error))
        return Finding(what=what, found=1, limit=1, note="within the bundle's tolerance")

    return [check(loaded) for loaded in _bundles(options.bundles)]


def _bundles(folder: Path) -> Iterator[Any]:
    from pagesight_server.inference import bundle

    yield bundle.load(folder / "encoder", "encoder")
    yield bundle.load(folder / "ocr", "ocr")


def _file(loaded: Any, graph: str) -> Path:
    path: Path = loaded.file("model.onnx" if loaded.kind == "encoder" else f"{graph}.onnx")
    return path


def providers(options: argparse.Namespace) -> list[Finding]:
    """Checks that the compute-heavy nodes of each graph run on the device.

    The source is ONNX Runtime's profile, which shows nodes that fall back to the CPU, whatever the
    session reports. Its times have no target: for a GPU they cover only the launch of kernels.
    """
    import onnxruntime as ort

    from pagesight_server.inference import onnx_session
    from pagesight_server.inference.settings import Compute

    compute = Compute(device=options.device)
    onnx_session.check_device(compute, 0)
    provider = onnx_session._PROVIDERS[compute.device]
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        for loaded in _bundles(options.bundles):
            sessions: dict[str, ort.InferenceSession] = {}

            def run(name: str, inputs: Any, loaded: Any = loaded, sessions: Any = sessions) -> Any:
                if name not in sessions:
                    options = onnx_session._options(compute)
                    options.enable_profiling = True
                    options.profile_file_prefix = str(Path(folder) / name)
                    sessions[name] = ort.InferenceSession(
                        str(_file(loaded, name)),
                        options,
                        providers=[(provider, onnx_session.provider_options(compute))],
                    )
                values = sessions[name].run(None, dict(inputs))
                names = [output.name for output in sessions[name].get_outputs()]
                return dict(zip(names, values, strict=True))

            try:
                loaded.check_golden(run)
            finally:
                profiles = {name: one.end_profiling() for name, one in sessions.items()}
            for name, profile in profiles.items():
                events = json.loads(Path(profile).read_text("utf-8"))
                on_provider, total = heavy_nodes(events, provider)
                seconds = node_seconds(events)
                note = ", ".join(f"{which} {s:.3f} s" for which, s in sorted(seconds.items()))
                what = f"{loaded.kind} {name}: compute-heavy nodes on {provider}"
                share = on_provider / total if total else 0
                findings.append(Finding(what=what, found=share, limit=1, note=note))
    return findings


def heavy_nodes(events: Sequence[dict[str, Any]], provider: str) -> tuple[int, int]:
    """Runs of compute-heavy nodes in an ONNX Runtime profile: on a provider, and in all."""
    ran = Counter(
        event["args"]["provider"] == provider
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith("_kernel_time")
        and event["args"].get("provider")
        and any(part in event["args"].get("op_name", "") for part in HEAVY)
    )
    return ran[True], ran.total()


def node_seconds(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of the nodes of an ONNX Runtime profile, by provider."""
    spent: dict[str, float] = {}
    for event in events:
        provider = event.get("args", {}).get("provider")
        if event.get("cat") == "Node" and provider and event["name"].endswith("_kernel_time"):
            spent[provider] = spent.get(provider, 0.0) + event["dur"] / 1e6
    return spent


def throughput(encoder: Path, options: argparse.Namespace) -> list[Finding]:
    """Compares the throughput of our encoder with torch's, interleaved, without preprocessing.

    Both have their inputs on the GPU already and copy the embeddings to the host; "as served" also
    copies 6 MB of patches to the GPU first.
    """
    import numpy as np

    from pagesight_server.inference import bundle
    from pagesight_server.inference.encoder import _preprocessing
    from pagesight_server.inference.onnx_session import Graph
    from pagesight_server.inference.settings import Compute

    loaded = bundle.load(encoder, "encoder")
    batch, runs = (2, 3) if options.small else (options.batch, 50)
    pictures = [np.random.default_rng(i).integers(0, 256, (2400, 1080, 3), np.uint8)
                for i in range(batch)]  # fmt: skip
    inputs = _preprocessing(loaded)(pictures)
    graph = Graph(loaded.file("model.onnx"), Compute(device=options.device))
    contenders: dict[str, Callable[[], Any]] = {
        "as served": lambda: graph.run(inputs),
        "ours": resident(graph, inputs),
    }
    patches = loaded.manifest["input"].get("max_num_patches")
    if not options.small:
        from tests.bench.gpu_torch import tower

        contenders["torch"] = tower(options.checkpoint, options.device, patches, batch)
    seconds = in_turns(contenders, runs, warm=3 if options.small else 10)
    served, ours = (batch / statistics.median(seconds[name]) for name in ("as served", "ours"))
    findings = [
        Finding(what=f"encoder as served, batch {batch}", found=served, unit="images/s"),
        Finding(what="encoder, inputs on the device", found=ours, unit="images/s"),
    ]
    if "torch" in seconds:
        from tests.bench.gpu_torch import SO400M, matmul_flops

        theirs = batch / statistics.median(seconds["torch"])
        flops = ours * image_flops(patches=patches, **_sizes(SO400M))
        peak = matmul_flops(options.device)
        findings += [
            Finding(what="torch SDPA eager", found=theirs, unit="images/s"),
            Finding(what="ours ÷ torch", found=ours / theirs, limit=1.0),
            Finding(what="share of the measured FP16 matmul peak", found=flops / peak,
                    note=f"peak {peak / 1e12:.0f} TFLOP/s; 0.5 would be very good"),
        ]  # fmt: skip
    return findings


def resident(graph: Any, inputs: Any) -> Callable[[], Any]:
    """Returns a function that runs a graph on inputs that are already on the device.

    On a CPU it is an ordinary run.
    """
    if graph._bound is None:
        return lambda: graph.run(inputs)
    graph.run(inputs)
    binding = graph._bound._of(inputs).binding

    def run() -> Any:
        graph._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    return run


def in_turns(
    contenders: dict[str, Callable[[], Any]], runs: int, *, warm: int = 3
) -> dict[str, list[float]]:
    """Measures the seconds of each run; every round runs each contender once.

    Args:
        contenders: The functions to run, by name.
        runs: Rounds that are measured.
        warm: Rounds before those, as warm-up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(runs + warm):
        for name, run in contenders.items():
            start_s = time.perf_counter()
            run()
            if number >= warm:
                seconds[name].append(time.perf_counter() - start_s)
    return seconds


def _sizes(config: dict[str, int]) -> dict[str, int]:
    names = {"hidden": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers"}
    return {name: config[key] for name, key in names.items()} | {"patch": config["patch_size"]}


def image_flops(*, patches: int, hidden: int, inner: int, layers: int, patch: int) -> int:
    """FLOPs of one picture's matrix products, without the pooling head.

    A layer multiplies each token by four hidden x hidden matrices and two hidden x inner ones, and
    attention multiplies each pair of tokens twice.
    """
    layer = patches * (4 * hidden**2 + 2 * hidden * inner) + 2 * patches**2 * hidden
    return 2 * (layers * layer + patches * 3 * patch**2 * hidden)
