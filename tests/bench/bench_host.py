"""What a screenshot costs outside the models, and how far it goes on many cores: `make bench-host`.

    drawn pages of 27 and 40 lines ──real OCR, once──> recorded outputs of the sessions
       └──streams──> the real service, 1, 2, 4 processes, sessions that sleep and answer from those
                        └── CPU time by thread, in all and under the GIL; lag of the event loop;
                            screenshots/s

The models take no core, so what the server spends is the host's part: decoding, preparation for a
NaFlex encoder of 1024 patches, canvas, boxes and crops, lines, evidence, gRPC. The threads of one
kind are a stage. How the time under the GIL is had, and how sure it is: `tests/bench/gil.py`.

The callers are one thread, on the cores of the server unless --caller-cores gives it others. What
it takes of them is not the server's: `alone_per_s` is the rate in what it leaves, and
`alone_to_first` compares that with the first row's. Where other processes share the machine, only
figures of CPU time can be compared.

What 16 cores can do follows from the CPU time of a screenshot, what one process can do from its
time under the GIL, and how many processes 16 cores need from the two. Lines are padded and batched
as on a CPU, in 20 small batches a screenshot where there is one; --lines-as-on-cuda has the few
large ones of a GPU, whose machine this is about.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table

from pagesight_server.common.cores import cores as cpu_count
from pagesight_server.inference import bundle
from pagesight_server.inference.decode import decode
from pagesight_server.inference.ocr import OcrSettings
from pagesight_server.inference.ocr import load as load_ocr
from pagesight_server.inference.settings import Compute, ImageLimits, ReadingMode
from tests.bench import gil
from tests.bench.gpu_path import pages
from tests.bench.host_caller import encoded, send
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
MANY_CORES = 16

STAGES = {
    "asyncio": "decode, prepare, evidence",
    "encoder": "batches of the encoder",
    "detector": "canvas, boxes, crops",
    "recogniser": "lines",
}
"""Stages by the beginning of a thread's name. The main thread is the event loop, all others are
gRPC's."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures everything, prints the table and writes the rows."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.caller_cores and not options.server_cores:
        parser.error("with --caller-cores the server needs cores of its own: --server-cores")
    before = machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(Path(folder), options)
        for lines, processes in itertools.product(options.lines, options.processes):
            rows.append(prepared.measure(lines, processes))
    for row in rows:
        first = next(one for one in rows if one["lines"] == row["lines"])
        row["rate_to_first"] = round(row["per_s"] / first["per_s"], 2)
        row["alone_to_first"] = round(row["alone_per_s"] / first["alone_per_s"], 2)
    conditions = before | {
        "load_1_min_after": machine()["load_1_min"],
        "screenshots": options.screenshots,
        "streams_a_process": options.streams,
        "in_flight": IN_FLIGHT,
        "lines_as_on_cuda": options.lines_as_on_cuda,
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
    parser.add_argument("--lines-as-on-cuda", action="store_true",
                        help="pad and batch lines by the settings for CUDA")  # fmt: skip
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
        self._messages = {
            lines: encoded(pages(range(count), lines, SIZE)) for lines in options.lines
        }
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
        library = gil.compiled(folder)
        if library is None:
            print("no C compiler: the time under the GIL is not measured", file=sys.stderr)
        self._settings = {
            "recording": str(folder / "recording.npz"),
            "sleeps": asdict(Sleeps()),
            "out": str(folder / "out"),
            "gil": str(library) if library else None,
            "lines_as_on_cuda": options.lines_as_on_cuda,
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
        options, messages = self._options, self._messages[lines]
        serve = self._command("serve", "--port", "0", "--json", "--processes", str(processes))
        cores = options.server_cores[: options.cores_a_process * processes or None]
        with started(serve, self._environment(cores)) as (listening, pid):
            if cores:
                _run_on(options.caller_cores or cores)
            of_workers = listening.get("processes", [{"pid": pid}])
            pids = [int(worker["pid"]) for worker in of_workers]  # type: ignore[attr-defined]
            address = f"{listening['host']}:{listening['port']}"
            call = partial(
                send,
                address,
                # The kernel spreads connections by chance: so many that no process is without.
                streams=options.streams * processes,
                in_flight=IN_FLIGHT,
            )
            call(messages[: options.warmup])
            before = [self._threads(pid) for pid in pids]
            own_s, start_s = own_cpu_s(), time.monotonic()
            answered = call(messages[options.warmup :])
            end_s, own_s = time.monotonic(), own_cpu_s() - own_s
            after = [self._threads(pid) for pid in pids]
        loops = (self._folder / "out" / f"{pid}.loop" for pid in pids)
        lag_ms = (between(json.loads(file.read_text("utf-8")), start_s, end_s) for file in loops)
        return {"server_cores": len(cores) or machine()["cores"]} | row_of(
            lines=lines,
            answered=answered,
            seconds=end_s - start_s,
            threads=[
                after_it.since(before_of.get(thread))
                for before_of, after_of in zip(before, after, strict=True)
                for thread, after_it in after_of.items()
            ],
            processes=processes,
            caller_cpu_s=own_s,
            shared_cores=0 if options.caller_cores else len(cores) or cpu_count(),
            lag_ms=[ms for each in lag_ms for ms in each],
        )

    def _threads(self, pid: int) -> dict[int, Thread]:
        """What the threads of a process took so far, by number."""
        file = self._folder / "out" / f"{pid}.gil"
        ticks = gil.read(file) if file.exists() else {}
        threads = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                name = (task / "comm").read_text("utf-8").strip()
                on_cpu_ns = int((task / "schedstat").read_text("utf-8").split()[0])
            except FileNotFoundError:
                continue  # The thread has ended; those that work do not.
            number = int(task.name)
            stage = next((of for start, of in STAGES.items() if name.startswith(start)), "gRPC")
            threads[number] = Thread(
                "event loop" if number == pid else stage,
                on_cpu_ns / 1e6,
                ticks.get(number % gil.SLOTS, gil.Ticks(0, 0)),
            )
        return threads


class Thread(NamedTuple):
    """What a thread took."""

    stage: str
    cpu_ms: float
    ticks: gil.Ticks

    def since(self, before: Thread | None) -> Thread:
        """What it took after a time; None: since it began."""
        if before is None:
            return self
        return Thread(self.stage, self.cpu_ms - before.cpu_ms, self.ticks.since(before.ticks))


def row_of(
    *,
    lines: int,
    answered: int,
    seconds: float,
    processes: int,
    threads: Sequence[Thread],
    caller_cpu_s: float,
    shared_cores: int,
    lag_ms: Sequence[float],
) -> Row:
    """The figures of one measurement.

    Args:
        lines: Lines of a page.
        answered: Screenshots.
        seconds: That they took.
        processes: Of the server.
        threads: What all of their threads took.
        caller_cpu_s: CPU time of the callers.
        shared_cores: Cores of the server on which the callers run, too; 0: they have others.
        lag_ms: How late the event loops were, by sample.
    """
    stages = ("event loop", "gRPC", *STAGES.values())
    cpu_ms, ticks, held = (dict.fromkeys(stages, 0.0) for _ in range(3))
    for thread in threads:
        cpu_ms[thread.stage] += thread.cpu_ms / answered
        ticks[thread.stage] += thread.ticks.taken
        held[thread.stage] += thread.ticks.held
    gil_ms = {stage: cpu_ms[stage] * held[stage] / max(1.0, ticks[stage]) for stage in stages}
    cpu_each_ms, gil_each_ms = sum(cpu_ms.values()), sum(gil_ms.values())
    by_cpu = 1000 * MANY_CORES / cpu_each_ms
    by_gil = 1000 / gil_each_ms if gil_each_ms else float("inf")
    called_share = caller_cpu_s / seconds / shared_cores if shared_cores else 0.0
    return {
        "lines": lines,
        "processes": processes,
        "per_s": round(answered / seconds, 2),
        "rate_to_first": 0.0,
        "alone_per_s": round(answered / seconds / (1 - called_share), 2),
        "alone_to_first": 0.0,
        "cpu_ms": round(cpu_each_ms, 1),
        "gil_ms": round(gil_each_ms, 1),
        "lag_p50_ms": round(quantile(lag_ms, 0.5), 2),
        "lag_p99_ms": round(quantile(lag_ms, 0.99), 2),
        "caller_cpu_ms": round(1000 * caller_cpu_s / answered, 1),
        "caller_busy_share": round(caller_cpu_s / seconds, 2),
        "one_process_at_most_per_s": round(min(by_cpu, by_gil), 1),
        "ceiling_of_16_cores_per_s": round(by_cpu, 1),
        "processes_for_16_cores": max(1, math.ceil(by_cpu / by_gil)),
        "stages_cpu_ms": {stage: round(ms, 2) for stage, ms in sorted(cpu_ms.items())},
        "stages_gil_ms": {stage: round(ms, 2) for stage, ms in sorted(gil_ms.items())},
    }


def _run_on(cores: Sequence[int]) -> None:
    """Has all threads of this process run on some cores."""
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


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
    figures = [key for key in rows[0] if not key.startswith("stages_")]
    rates = Table(*figures, title="host", title_justify="left")
    stages = list(rows[0]["stages_cpu_ms"])
    costs = Table("lines", "processes", "ms", *stages, title="by stage", title_justify="left")
    for row in rows:
        rates.add_row(*(str(row[key]) for key in figures))
        for kind, key in (("CPU", "stages_cpu_ms"), ("under the GIL", "stages_gil_ms")):
            of_stages = (str(row[key][stage]) for stage in stages)
            costs.add_row(str(row["lines"]), str(row["processes"]), kind, *of_stages)
    console.print(rates)
    console.print(costs)
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))


if __name__ == "__main__":
    main()
