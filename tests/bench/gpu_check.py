"""`make gpu-check`: whether pagesight does on a GPU what it promises, in one run.

    what is missing? ──yes──> said, exit 2
      └─no──> nodes on the GPU, golden pairs -> encoder against torch -> index against the CPU's
                -> whole path, 40 lines -> Poisson arrivals -> table, bench/gpu.json, exit 0 or 1

`--device cpu --small` goes the same way with small models and no limits, so that the way is known
to work; the figures of a GPU come from a GPU alone. It has not run on one yet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import gpu_verdict as verdict
from tests.bench.gpu_verdict import Finding


def main() -> int:
    """Checks, prints, writes."""
    asked = _parser().parse_args()
    encoder, ocr = asked.bundles / "encoder", asked.bundles / "ocr"
    lacks = verdict.missing(asked.device, encoder, ocr)
    if lacks:
        print("gpu-check cannot start; it needs:", *(f"  {what}" for what in lacks), sep="\n",
              file=sys.stderr)  # fmt: skip
        return verdict.CANNOT_START
    findings = [
        *providers(encoder, asked.device),
        *golden(encoder, asked.device),
        *throughput(encoder, asked),
        *index(asked.device, small=asked.small),
        *asyncio.run(whole_path(asked)),
    ]
    if asked.small:
        findings = verdict.without_limits(findings)
    conditions = _conditions(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    body = json.dumps(verdict.rows(findings, conditions), indent=2)
    (asked.out / "gpu.json").write_text(body, "utf-8")
    _show(findings, conditions)
    return verdict.MET if asked.small else verdict.exit_code(findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="few runs, no limits")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR",
                        help="holds encoder/, FP16 of 256 patches, and ocr/")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, metavar="DIR",
                        help="torch's weights; none: so400m, random")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--batch", type=int, default=32)
    return parser


def providers(encoder: Path, device: str) -> list[Finding]:
    """The share of the encoder's time that its nodes spend on the device.

    By ONNX Runtime's own profile: what falls back to the CPU shows here, whatever the session
    says of itself.
    """
    import numpy as np
    import onnxruntime as ort

    from pagesight_server import bundle, runtime
    from pagesight_server.encoder import _preprocessing

    loaded = bundle.load(encoder, "encoder")
    compute = runtime.Compute(device=device)  # type: ignore[arg-type]
    runtime.check_device(compute, 0)
    wanted = runtime._PROVIDERS[compute.device]
    with tempfile.TemporaryDirectory() as folder:
        options = runtime._options(compute)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(
            str(loaded.file("model.onnx")),
            options,
            providers=[(wanted, runtime.provider_options(compute))],
        )
        inputs = _preprocessing(loaded)([np.zeros((2400, 1080, 3), np.uint8)])
        for _ in range(3):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    spent = node_seconds(events)
    share = spent.get(wanted, 0.0) / sum(spent.values())
    note = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in sorted(spent.items()))
    return [Finding(what=f"node time on {wanted}", found=share, limit=0.95, note=note)]


def node_seconds(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of the nodes of an ONNX Runtime profile, by provider."""
    spent: dict[str, float] = {}
    for event in events:
        provider = event.get("args", {}).get("provider")
        if event.get("cat") == "Node" and provider and event["name"].endswith("_kernel_time"):
            spent[provider] = spent.get(provider, 0.0) + event["dur"] / 1e6
    return spent


def golden(encoder: Path, device: str) -> list[Finding]:
    """Whether the export computes here what the source framework computed."""
    from pagesight_server import bundle
    from pagesight_server.encoder import Encoder
    from pagesight_server.errors import SetupError
    from pagesight_server.runtime import Compute

    loaded = bundle.load(encoder, "encoder")
    what = f"golden pairs of {loaded.id} ({loaded.manifest['dtype']})"
    try:
        Encoder(loaded, Compute(device=device))  # type: ignore[arg-type]
    except SetupError as error:
        return [Finding(what=what, found=0, limit=1, note=str(error))]
    return [Finding(what=what, found=1, limit=1, note="within the bundle's tolerance")]


def throughput(encoder: Path, asked: argparse.Namespace) -> list[Finding]:
    """Our encoder against torch's, in turns; pictures are prepared beforehand on both sides."""
    import numpy as np

    from pagesight_server import bundle
    from pagesight_server.encoder import _preprocessing
    from pagesight_server.runtime import Compute, Graph

    loaded = bundle.load(encoder, "encoder")
    batch, runs = (2, 3) if asked.small else (asked.batch, 50)
    pictures = [np.random.default_rng(i).integers(0, 256, (2400, 1080, 3), np.uint8)
                for i in range(batch)]  # fmt: skip
    inputs = _preprocessing(loaded)(pictures)
    graph = Graph(loaded.file("model.onnx"), Compute(device=asked.device))
    contenders: dict[str, Callable[[], Any]] = {"ours": lambda: graph.run(inputs)}
    patches = loaded.manifest["input"].get("max_num_patches")
    if not asked.small:
        if loaded.manifest["dtype"] != "float16" or patches != 256:
            raise SystemExit(
                f"bundle {loaded.id} is {loaded.manifest['dtype']} of {patches} patches; FP16 of "
                f"256 is what is compared: {verdict.EXPORT.format(folder=encoder)}"
            )
        from tests.bench.gpu_torch import tower

        contenders["torch"] = tower(asked.checkpoint, asked.device, patches, batch)
    seconds = in_turns(contenders, runs)
    ours = batch / statistics.median(seconds["ours"])
    found = [Finding(what=f"encoder, batch {batch}", found=ours, unit="images/s")]
    if "torch" in seconds:
        from tests.bench.gpu_torch import SO400M, matmul_flops

        theirs = batch / statistics.median(seconds["torch"])
        flops = ours * image_flops(patches=patches, **_sizes(SO400M))
        peak = matmul_flops(asked.device)
        found += [
            Finding(what="torch SDPA eager", found=theirs, unit="images/s"),
            Finding(what="ours ÷ torch", found=ours / theirs, limit=1.0),
            Finding(what="share of the measured FP16 matmul peak", found=flops / peak,
                    note=f"peak {peak / 1e12:.0f} TFLOP/s; 0.5 would be very good"),
        ]  # fmt: skip
    return found


def in_turns(contenders: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run; everyone runs once in every round, and three rounds warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(runs + 3):
        for name, run in contenders.items():
            start_s = time.perf_counter()
            run()
            if number >= 3:
                seconds[name].append(time.perf_counter() - start_s)
    return seconds


def _sizes(config: dict[str, int]) -> dict[str, int]:
    names = {"hidden": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers"}
    return {name: config[key] for name, key in names.items()} | {"patch": config["patch_size"]}


def image_flops(*, patches: int, hidden: int, inner: int, layers: int, patch: int) -> int:
    """Multiplications and additions of one picture's matrix products, the pooling left out.

    A layer multiplies each token with four hidden x hidden matrices and two hidden x inner ones,
    and each with each other token twice.
    """
    layer = patches * (4 * hidden**2 + 2 * hidden * inner) + 2 * patches**2 * hidden
    return 2 * (layers * layer + patches * 3 * patch**2 * hidden)


def index(device: str, *, small: bool) -> list[Finding]:
    """The flat index on the device against the CPU's: the same neighbours, the same cosines."""
    import faiss
    import numpy as np

    rows, dimension = (2_000, 64) if small else (50_000, 1152)
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((rows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:200] + 0.02 * draw.standard_normal((200, dimension), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    exact = faiss.IndexFlatIP(dimension)
    exact.add(vectors)
    here: Any = exact
    if device == "cuda":
        resources = faiss.StandardGpuResources()
        here = faiss.index_cpu_to_gpu(resources, 0, exact)
    cosines, found = exact.search(queries, 5)
    their_cosines, their_found = here.search(queries, 5)
    same = [len(set(a) & set(b)) / 5 for a, b in zip(found, their_found, strict=True)]
    return [
        Finding(what=f"index, {rows} x {dimension}: recall@5 of the CPU's",
                found=statistics.mean(same), limit=0.999),
        Finding(what="index: largest difference of a cosine",
                found=float(np.abs(cosines - their_cosines).max()), limit=1e-3, side="at most"),
    ]  # fmt: skip


def page(number: int, lines: int) -> bytes:
    """A screenshot of 1080 x 2400 with so many lines of its own text, as JPEG."""
    import cv2
    import numpy as np

    draw = np.random.default_rng(number)
    pixels = np.full((2400, 1080, 3), 255, np.uint8)
    pixels[:50] = draw.integers(0, 256, 3)
    letters = list("ABCDEFGHKLMNPRSTUVWXYZ23456789")
    for line in range(lines):
        text = "".join(draw.choice(letters, 14))
        at = (40, 100 + line * (2250 // lines))
        cv2.putText(pixels, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 3)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


async def whole_path(asked: argparse.Namespace) -> list[Finding]:
    """All stages with OCR at 40 lines: most per second in this process, latency of the service."""
    from pagesight_server import wiring
    from pagesight_server.config import read_config
    from tests.bench import sides
    from tests.bench.arrivals import at_random
    from tests.bench.measure import quantile

    count, lines, per_s, arrivals = (4, 5, 2.0, 4) if asked.small else (600, 40, 50.0, 1500)
    pages = [page(number, lines) for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        config = read_config(
            None,
            {
                "store": Path(folder) / "gallery.db",
                "bundles": asked.bundles,
                "compute": {"device": asked.device},
                "server": {"remember": 0},
            },
        )
        async with wiring.models(config) as models:
            with wiring.opened(config.store) as store:
                await _enrol(models, store, [page(10**6 + i, lines) for i in range(2)])
                live = models.live(store)
                await live.refresh()
                line = models.pipeline(live.get)
                places = asyncio.Semaphore(64)
                read: list[int] = []

                async def one(data: bytes) -> None:
                    async with places:
                        reading = (await line.classify(data)).query.reading
                        read.append(len(reading.lines) if reading else 0)

                start_s = time.perf_counter()
                await asyncio.gather(*(one(data) for data in pages))
                rate = count / (time.perf_counter() - start_s)
        settings = {
            "COMPUTE__DEVICE": asked.device,
            "SERVER__REMEMBER": 0,
            "SERVER__MAX_ACTIVE": 64,
        }
        with sides.service(config, settings) as (address, _pid):
            drawn = [page(count + number, lines) for number in range(arrivals)]
            waits_ms = await at_random(address, drawn, per_s)
    note = f"median {statistics.median(read):g} lines read"
    from_send = "from the intended send time"
    return [
        Finding(what="whole path with OCR", found=rate, unit="screenshots/s", limit=100, note=note),
        Finding(what=f"p50 at {per_s:g}/s, Poisson", found=quantile(waits_ms, 0.5), unit="ms",
                limit=60, side="at most", note=from_send),
        Finding(what=f"p99 at {per_s:g}/s, Poisson", found=quantile(waits_ms, 0.99), unit="ms",
                limit=150, side="at most", note=from_send),
    ]  # fmt: skip


async def _enrol(models: Any, store: Any, pages: Sequence[bytes]) -> None:
    from pagesight_server.enrolment import Item
    from pagesight_server.gallery import Change

    enroller = models.enroller(store, models.pipeline(lambda _name: None))
    items = [Item(data=data, label=f"page_{i}") for i, data in enumerate(pages)]
    await enroller.enrol(Change(author="gpu-check"), items)


def _conditions(asked: argparse.Namespace) -> dict[str, Any]:
    from tests.bench.measure import machine

    gpu = "none"
    if asked.device == "cuda":
        import torch

        gpu = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    import onnxruntime

    return machine() | {
        "device": asked.device,
        "gpu": gpu,
        "onnxruntime": onnxruntime.__version__,
        "small": asked.small,
        "bundles": str(asked.bundles),
        "variables": {k: v for k, v in os.environ.items() if k.startswith("PAGESIGHT_")},
    }


def _show(findings: Sequence[Finding], conditions: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"gpu-check on {conditions['device']}", title_justify="left")
    for column in ("what", "found", "asked for", "met", "note"):
        table.add_column(column)
    for finding in findings:
        table.add_row(*verdict.columns(finding))
    console = Console()
    console.print(table)
    if conditions["small"]:
        console.print("A small run: the way works. No limit was asked of it.")


if __name__ == "__main__":
    sys.exit(main())
