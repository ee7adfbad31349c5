"""What a screenshot costs outside the models, and how far it goes on many cores: `make bench-host`.

    drawn pages of 27 and 40 lines ──real OCR, once──> recorded outputs of the sessions
       └──streams──> the real service, 1, 2, 4 processes, sessions that sleep and answer from those
                        └── CPU by thread, waits for the GIL, lag of the event loop, screenshots/s

The models take no core, so what the server spends is the host's part: decoding, preparation for a
NaFlex encoder of 1024 patches, canvas, boxes and crops, lines, evidence, gRPC. The threads of one
kind are a stage. The callers are one process, which bounds the rate where `caller_busy_share` nears
1. They share the machine; --server-cores and --caller-cores keep them apart.

The share of time in which the GIL is held is that of samples in which a thread waited for it longer
than 0.1 ms, its waits for a core not counted. Whoever holds it may wait for a core as well: on a
machine that is busy otherwise the share is too high. What 16 cores can do follows from the CPU time
of a screenshot, what one process can do from its time under the GIL, and how many processes 16
cores need from the two. It is the CPU path: on CUDA lines are padded to fewer widths.

Writes `bench/host.json`: a row for each number of lines and of processes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table

from pagesight import Client
from pagesight_server.inference import bundle
from pagesight_server.inference.decode import decode
from pagesight_server.inference.ocr import OcrSettings
from pagesight_server.inference.ocr import load as load_ocr
from pagesight_server.inference.settings import Compute, ImageLimits, ReadingMode
from tests.bench.gpu_path import pages
from tests.bench.host_serve import VARIABLE
from tests.bench.host_sessions import Recorder, Sleeps
from tests.bench.measure import machine, own_cpu_s, quantile
from tests.bench.sides import started

Row: TypeAlias = dict[str, Any]

LINES = (27, 40)
"""Lines of a page: what screenshots of apps have, and many of them."""
SIZE = (1080, 2400)
"""Width and height of a page: of one canvas, whose outputs are recorded."""
IN_FLIGHT = 4
"""Screenshots in flight on each stream."""
PATCHES, PATCH, DIMENSION = 1024, 16, 1152
"""Geometry of the encoder that is stood in for: SigLIP2 so400m NaFlex."""
GIL_HELD_MS = 0.1
"""A sleeping thread is back within some 60 us where the GIL is free: Linux's timer slack is 50."""
MANY_CORES = 16

STAGES = {
    "asyncio": "decode, prepare, evidence",
    "encoder": "batches of the encoder",
    "detector": "canvas, boxes, crops",
    "recogniser": "lines",
    "bench": "bench",
}
"""Stages by the beginning of a thread's name. The main thread is the event loop, all others are
gRPC's."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures everything, prints the table and writes the rows."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.caller_cores and not options.server_cores:
        parser.error("with --caller-cores the server needs cores of its own: --server-cores")
    if options.caller_cores:
        os.sched_setaffinity(0, options.caller_cores)
    before = machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(Path(folder), options)
        for lines, processes in itertools.product(options.lines, options.processes):
            rows.append(prepared.measure(lines, processes))
    for row in rows:
        first = next(one for one in rows if one["lines"] == row["lines"])
        row["rate_to_first"] = round(row["per_s"] / first["per_s"], 2)
    conditions = before | {
        "load_1_min_after": machine()["load_1_min"],
        "screenshots": options.screenshots,
        "streams_a_process": options.streams,
        "in_flight": IN_FLIGHT,
        "caller_cores": options.caller_cores,
        "sleeps": asdict(Sleeps()),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    body = [row | {"conditions": conditions} for row in rows]
    (options.out / "host.json").write_text(json.dumps(body, indent=2), "utf-8")
    show(rows, conditions)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-host")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), help="of the OCR")
    parser.add_argument("--screenshots", type=int, default=400, help="measured, of each row")
    parser.add_argument("--warmup", type=int, default=40, help="screenshots before those")
    parser.add_argument("--streams", type=int, default=8,
                        help="for each process, over connections of their own")  # fmt: skip
    parser.add_argument("--lines", nargs="+", type=int, default=list(LINES))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--ocr-threads", type=int, default=4, help="of each kind and process")
    parser.add_argument("--server-cores", nargs="+", type=int, default=[], metavar="CORE")
    parser.add_argument("--cores-a-process", type=int, default=0, metavar="N",
                        help="a server has N of --server-cores a process; 0: all")  # fmt: skip
    parser.add_argument("--caller-cores", nargs="+", type=int, default=[], metavar="CORE")
    return parser


class Prepared:
    """Bundles, recording, gallery and pages for the servers that are measured.

    Args:
        folder: Where they are put.
        options: The command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        count = options.warmup + options.screenshots
        self._pages = {lines: pages(range(count), lines, SIZE) for lines in options.lines}
        for kind in ("out", "bundles", "gallery"):
            (folder / kind).mkdir()
        (folder / "bundles" / "ocr").symlink_to((options.bundles / "ocr").resolve())
        _write_encoder(folder / "bundles" / "encoder")
        known = [
            page for lines in options.lines for page in pages(range(10**6, 10**6 + 2), lines, SIZE)
        ]
        asyncio.run(_record(known, folder / "bundles" / "ocr", folder / "recording.npz"))
        for number, page in enumerate(known):
            label = folder / "gallery" / f"page_{number}"
            label.mkdir()
            (label / "1.jpg").write_bytes(page)
        self._settings = {
            "recording": str(folder / "recording.npz"),
            "sleeps": asdict(Sleeps()),
            "out": str(folder / "out"),
        }
        self._variables = {
            "PAGESIGHT_COMPUTE__OCR_THREADS": str(options.ocr_threads),
            "PAGESIGHT_COMPUTE__MAX_BATCH": "16",
            "PAGESIGHT_SERVER__REMEMBER": "0",
            "PAGESIGHT_SERVER__MAX_ACTIVE": "32",
        }
        subprocess.run(
            [sys.executable, *self._command("index"), str(folder / "gallery")],
            env=os.environ | self._environment([]),
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _environment(self, cores: Sequence[int]) -> dict[str, str]:
        """The variables of a server that runs on some cores; none: on all."""
        return self._variables | {VARIABLE: json.dumps(self._settings | {"cores": list(cores)})}

    def _command(self, name: str, *more: str) -> list[str]:
        store, bundles = self._folder / "gallery.db", self._folder / "bundles"
        options = ["--store", str(store), "--bundles", str(bundles)]
        return ["-m", "tests.bench.host_serve", name, *options, *more]

    def measure(self, lines: int, processes: int) -> Row:
        """Measures a server of so many processes with pages of so many lines."""
        options, drawn = self._options, self._pages[lines]
        serve = self._command("serve", "--port", "0", "--json", "--processes", str(processes))
        cores = options.server_cores[: options.cores_a_process * processes or None]
        with started(serve, self._environment(cores)) as (listening, pid):
            of_workers = listening.get("processes", [{"pid": pid}])
            pids = [int(worker["pid"]) for worker in of_workers]  # type: ignore[attr-defined]
            address = f"{listening['host']}:{listening['port']}"
            # The kernel spreads connections by chance: so many that no process is without.
            streams = options.streams * processes
            with Client(address, connections=streams) as client:
                send(client, drawn[: options.warmup], streams)
                before, own_s, start_s = cpu_ms(pids), own_cpu_s(), time.monotonic()
                answered = send(client, drawn[options.warmup :], streams)
                end_s = time.monotonic()
                after, own_s = cpu_ms(pids), own_cpu_s() - own_s
        files = [self._folder / "out" / f"{pid}.json" for pid in pids]
        samples = [json.loads(file.read_text("utf-8")) for file in files]
        spent = {stage: after[stage] - before[stage] for stage in after if stage != "bench"}
        return {"server_cores": len(cores) or machine()["cores"]} | row_of(
            lines=lines,
            answered=answered,
            seconds=end_s - start_s,
            cpu_ms_by_stage=spent,
            caller_cpu_s=own_s,
            gil_ms=[between(each["gil"], start_s, end_s) for each in samples],
            lag_ms=[ms for each in samples for ms in between(each["loop"], start_s, end_s)],
        )


def row_of(
    *,
    lines: int,
    answered: int,
    seconds: float,
    cpu_ms_by_stage: dict[str, float],
    caller_cpu_s: float,
    gil_ms: Sequence[Sequence[float]],
    lag_ms: Sequence[float],
) -> Row:
    """The figures of one measurement.

    Args:
        lines: Lines of a page.
        answered: Screenshots.
        seconds: That they took.
        cpu_ms_by_stage: CPU time of all processes.
        caller_cpu_s: CPU time of the callers.
        gil_ms: Of each process, how long a thread waited for the GIL, by sample.
        lag_ms: How late the event loops were, by sample.
    """
    held = [statistics.mean(ms > GIL_HELD_MS for ms in of_process) for of_process in gil_ms]
    cpu_each_ms = sum(cpu_ms_by_stage.values()) / answered
    gil_each_ms = 1000 * sum(held) * seconds / answered
    by_cpu = 1000 * MANY_CORES / cpu_each_ms
    by_gil = 1000 / gil_each_ms if gil_each_ms else float("inf")
    return {
        "lines": lines,
        "processes": len(gil_ms),
        "per_s": round(answered / seconds, 2),
        "rate_to_first": 0.0,
        "cpu_ms": round(cpu_each_ms, 1),
        "gil_ms": round(gil_each_ms, 1),
        "gil_held_share": [round(share, 2) for share in held],
        "lag_p50_ms": round(quantile(lag_ms, 0.5), 2),
        "lag_p99_ms": round(quantile(lag_ms, 0.99), 2),
        "caller_cpu_ms": round(1000 * caller_cpu_s / answered, 1),
        "caller_busy_share": round(caller_cpu_s / seconds, 2),
        "one_process_at_most_per_s": round(min(by_cpu, by_gil), 1),
        "ceiling_of_16_cores_per_s": round(by_cpu, 1),
        "processes_for_16_cores": max(1, math.ceil(by_cpu / by_gil)),
        "stages_cpu_ms": {
            stage: round(ms / answered, 2) for stage, ms in sorted(cpu_ms_by_stage.items())
        },
    }


def send(client: Client, drawn: Sequence[bytes], streams: int) -> int:
    """Classifies all pages over so many streams; returns how many were answered.

    Raises:
        PagesightError: of the first page that was not.
    """
    rest, lock = iter(drawn), threading.Lock()
    failed: list[BaseException] = []
    answered: Counter[int] = Counter()

    def shared() -> Iterator[bytes]:
        while True:
            with lock:
                page = next(rest, None)
            if page is None:
                return
            yield page

    def stream(number: int) -> None:
        try:
            for result in client.classify_stream(shared(), max_in_flight=IN_FLIGHT):
                result.unwrap()
                answered[number] += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return answered.total()


def cpu_ms(pids: Iterable[int]) -> dict[str, float]:
    """CPU time of the threads of some processes, by stage, in milliseconds."""
    spent = dict.fromkeys(("event loop", "gRPC", *STAGES.values()), 0.0)
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                name = (task / "comm").read_text("utf-8").strip()
                on_cpu_ns = int((task / "schedstat").read_text("utf-8").split()[0])
            except FileNotFoundError:
                continue  # The thread has ended; those that work do not.
            stage = next((of for start, of in STAGES.items() if name.startswith(start)), "gRPC")
            spent["event loop" if int(task.name) == pid else stage] += on_cpu_ns / 1e6
    return spent


def between(samples: Sequence[Sequence[float]], start_s: float, end_s: float) -> list[float]:
    """The values of those samples that were taken within a time."""
    return [value for at_s, value in samples if start_s <= at_s <= end_s]


async def _record(known: Sequence[bytes], ocr: Path, file: Path) -> None:
    """Reads pages by the real models, and writes what the sessions answered.

    Of the encoder, which is too large to be here, embeddings are drawn at random.
    """
    with Recorder() as recorder:
        settings = OcrSettings(detectors=1, recognisers=1)
        # With a draft the recognition network may read none of these lines again.
        readings: tuple[ReadingMode | None, ...] = (None, "full")
        for reading in readings:
            before = len(recorder.runs)
            engine = load_ocr(
                bundle.load(ocr, "ocr"), Compute(threads=1), settings, reading=reading
            )
            del recorder.runs[before:]  # the golden pairs
            for page in known:
                await engine.read(decode(page, ImageLimits()))
            await engine.close()
    drawn = np.random.default_rng(0).standard_normal((64, DIMENSION)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    recorder.runs.append(("model", {}, {"embedding": drawn}))
    recorder.save(file)


def _write_encoder(folder: Path) -> None:
    """Writes a NaFlex encoder bundle whose model is not there: its session is replayed."""
    folder.mkdir()
    files = {"model.onnx": b"replayed", "golden.npz": b"replayed"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest: dict[str, Any] = {
        "format": bundle.FORMAT,
        "kind": "encoder",
        "name": "replayed",
        "source": {"checkpoint": "none", "revision": "0"},
        "dtype": "float16",
        "opset": 11,
        "input": {"geometry": "naflex", "patch_size": PATCH, "max_num_patches": PATCHES},
        "preprocessing": {"resize": {"library": "pillow", "interpolation": "bilinear"}},
        "embedding_dim": DIMENSION,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "golden": {"file": "golden.npz", "tolerance": {}},
        "versions": {},
    }
    manifest["id"] = bundle._identity(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def show(rows: Sequence[Row], conditions: Row) -> None:
    """Prints the rates, and the CPU time by stage."""
    console = Console(width=200)
    figures = [key for key in rows[0] if key != "stages_cpu_ms"]
    rates = Table(*figures, title="host", title_justify="left")
    stages = list(rows[0]["stages_cpu_ms"])
    costs = Table("lines", "processes", *stages, title="CPU ms by stage", title_justify="left")
    for row in rows:
        rates.add_row(*(str(row[key]) for key in figures))
        spent = (str(row["stages_cpu_ms"][stage]) for stage in stages)
        costs.add_row(str(row["lines"]), str(row["processes"]), *spent)
    console.print(rates)
    console.print(costs)
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))


if __name__ == "__main__":
    main()
