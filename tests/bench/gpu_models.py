"""Checks of the bundles by `make gpu-check`: results, placement of nodes, speed against torch.

    golden pairs ──> bound graphs ──> equal to the source framework's results?
          ├────────> profile ──> do the compute-heavy nodes run on the device?
          └──repeated──> one batch ──> ours as served | ours, inputs on the device | torch

The contenders of the last row are interleaved. What `gpu_carry` brought to a machine has the
graph of its bundle with weights drawn there: it is measured, and has no results to compare.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench import gpu_weights
from tests.bench.gpu_verdict import Finding, encoder_kind

HEAVY = ("Conv", "MatMul", "Gemm", "Attention")
"""Parts of the names of compute-heavy operators; all others may run anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A bundle as the check uses it."""

    folder: Path
    kind: str
    half: bool
    bundle: Any
    """The verified bundle; None where weights were drawn, so that nothing can be compared."""

    @property
    def name(self) -> str:
        """How it is called in the table."""
        if self.bundle is None:
            return f"{self.kind} with random weights"
        return f"{self.bundle.id} ({self.bundle.manifest['dtype']})"

    def file(self, graph: str) -> Path:
        """The ONNX file of a graph."""
        return self.folder / f"{graph}.onnx"

    def inputs(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The inputs of the first golden case of each graph, by its name."""
        tolerances = json.loads((self.folder / "manifest.json").read_text("utf-8"))["golden"]
        cases: dict[str, tuple[str, dict[str, NDArray[Any]]]] = {}
        with np.load(self.folder / tolerances["file"], allow_pickle=False) as pairs:
            for key in pairs.files:
                graph, case, tensor = key.split(".", 2)
                first, tensors = cases.setdefault(graph, (case, {}))
                if case == first and tensor not in tolerances["tolerance"]:
                    tensors[tensor] = pairs[key]
        return {graph: tensors for graph, (_case, tensors) in cases.items()}


def model(folder: Path, kind: str) -> Model:
    """Reads a bundle, or what `gpu_carry` made of one, whose weights are drawn when missing.

    Raises:
        SetupError: it is damaged.
    """
    if (folder / gpu_weights.RECIPE).is_file():
        gpu_weights.draw(folder)
        half = encoder_kind(folder)[0] == "float16"
        return Model(folder=folder, kind=kind, half=half, bundle=None)
    from pagesight_server.inference import bundle

    loaded = bundle.load(folder, "ocr" if kind == "ocr" else "encoder")
    return Model(folder=folder, kind=kind, half=loaded.half, bundle=loaded)


def encoder(options: argparse.Namespace) -> list[Finding]:
    """Checks results, placement and speed of the encoder."""
    of = model(options.bundles / "encoder", "encoder")
    return [*golden(of, options), *providers(of, options), *throughput(of, options)]


def ocr(options: argparse.Namespace) -> list[Finding]:
    """Checks results and placement of the two networks that read text."""
    of = model(options.bundles / "ocr", "ocr")
    return [*golden(of, options), *providers(of, options)]


def golden(of: Model, options: argparse.Namespace) -> list[Finding]:
    """Checks that every graph reproduces its source framework's results, with bound buffers."""
    from pagesight_server.common.errors import SetupError
    from pagesight_server.inference.onnx_session import Graph
    from pagesight_server.inference.settings import Compute

    if of.bundle is None:
        return []
    what = f"golden pairs of {of.name}"
    graphs: dict[str, Graph] = {}

    def run(name: str, inputs: Any) -> Any:
        if name not in graphs:
            graphs[name] = Graph(of.file(name), Compute(device=options.device), half=of.half)
        return graphs[name].run(inputs)

    try:
        of.bundle.check_golden(run)
    except SetupError as error:
        return [Finding(what=what, found=0, limit=1, note=str(error))]
    return [Finding(what=what, found=1, limit=1, note="within the bundle's tolerance")]


def providers(of: Model, options: argparse.Namespace) -> list[Finding]:
    """Checks that the compute-heavy nodes of each graph run on the device.

    The source is ONNX Runtime's profile, which shows nodes that fall back to the CPU, whatever the
    session reports. Its times have no target: for a GPU they cover only the launch of kernels.
    """
    from pagesight_server.inference import onnx_session
    from pagesight_server.inference.settings import Compute

    compute = Compute(device=options.device)
    onnx_session.check_device(compute, 0)
    provider = onnx_session._PROVIDERS[compute.device]
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        for name, inputs in of.inputs().items():
            profiled = onnx_session._options(compute)
            profiled.enable_profiling = True
            profiled.profile_file_prefix = str(Path(folder) / name)
            session = onnx_session.session(of.file(name), compute, profiled, half=of.half)
            try:
                session.run(None, dict(inputs))
            finally:
                profile = session.end_profiling()
            events = json.loads(Path(profile).read_text("utf-8"))
            on_provider, total = heavy_nodes(events, provider)
            seconds = node_seconds(events)
            note = ", ".join(f"{which} {s:.3f} s" for which, s in sorted(seconds.items()))
            what = f"{of.kind} {name}: compute-heavy nodes on {provider}"
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


def repeated(inputs: Mapping[str, NDArray[Any]], batch: int) -> dict[str, NDArray[Any]]:
    """Inputs of a batch of some size, made of those of another by repeating them."""
    return {
        name: np.concatenate([values] * -(-batch // len(values)))[:batch]
        for name, values in inputs.items()
    }


def throughput(of: Model, options: argparse.Namespace) -> list[Finding]:
    """Compares the throughput of our encoder with torch's, interleaved, without preprocessing.

    Both have their inputs on the GPU already and copy the embeddings to the host; "as served" also
    copies the inputs to the GPU first.
    """
    from pagesight_server.inference.onnx_session import Graph
    from pagesight_server.inference.settings import Compute

    batch, runs = (2, 3) if options.small else (options.batch, 50)
    (golden_inputs,) = of.inputs().values()
    inputs = repeated(golden_inputs, batch)
    fewer = repeated(golden_inputs, max(1, batch // 2))
    graph = Graph(of.file("model"), Compute(device=options.device), half=of.half)
    contenders: dict[str, Callable[[], Any]] = {
        "as served": lambda: graph.run(inputs),
        "ours": resident(graph, inputs),
    }
    _, patches = encoder_kind(of.folder)
    compared = not options.small and importlib.util.find_spec("torch") is not None
    if compared:
        from tests.bench.gpu_torch import tower

        contenders["torch"] = tower(options.device, patches or 256, batch)
    warm = 3 if options.small else 10
    seconds = in_turns(contenders, runs, warm=warm)
    # Twice as many pictures, then half of them: what a change of the batch size costs.
    halves = in_turns({"half": lambda: graph.run(fewer)}, runs, warm=warm)["half"]
    mixed = in_turns(
        {"whole": contenders["as served"], "half": lambda: graph.run(fewer)}, runs, warm=warm
    )
    change_ms = 500 * (
        statistics.median(mixed["whole"]) + statistics.median(mixed["half"])
        - statistics.median(seconds["as served"]) - statistics.median(halves)
    )  # fmt: skip
    served, ours = (batch / statistics.median(seconds[name]) for name in ("as served", "ours"))
    findings = [
        Finding(what=f"encoder as served, batch {batch}", found=served, unit="images/s"),
        Finding(what="encoder, inputs on the device", found=ours, unit="images/s",
                note="" if compared else "not compared with torch, which is not installed"),
        Finding(what="encoder, a change of the batch size costs", found=change_ms, unit="ms"),
    ]  # fmt: skip
    if compared:
        from tests.bench.gpu_torch import SO400M, matmul_flops

        theirs = batch / statistics.median(seconds["torch"])
        sizes = {name: SO400M[name] for name in ("hidden", "inner", "layers", "patch")}
        flops = ours * image_flops(patches=patches or 256, **sizes)
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
    binding = graph._bound._buffers_for(inputs).binding

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


def image_flops(*, patches: int, hidden: int, inner: int, layers: int, patch: int) -> int:
    """FLOPs of one picture's matrix products, without the pooling head.

    A layer multiplies each token by four hidden x hidden matrices and two hidden x inner ones, and
    attention multiplies each pair of tokens twice.
    """
    layer = patches * (4 * hidden**2 + 2 * hidden * inner) + 2 * patches**2 * hidden
    return 2 * (layers * layer + patches * 3 * patch**2 * hidden)
