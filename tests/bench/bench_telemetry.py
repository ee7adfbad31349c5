"""Overhead of telemetry: the same screenshots to a server with and one without it, interleaved.

    collector (a process of its own) <──OTLP── server with telemetry <──┐
                                     server without <───────────────────┴── the same stream

`real` is `pagesight-server serve`. `no-op` has models that answer at once, so only gRPC, the event
loop and telemetry remain: an upper bound of the overhead's share. One message in ten has a sampled
`traceparent`, the others have one that is not; metrics are exported over OTLP every 15 s and by a
Prometheus endpoint. Each round sends the same screenshots to both sides, which alternate in being
first. CPU seconds are those of the server's process.

Run: make bench-telemetry SCREENS=DIR    (DIR/gallery/<label>/*, DIR/test/*/*)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import classifier_pb2_grpc
from pagesight_server import telemetry
from pagesight_server.common.cores import cores
from pagesight_server.config_sections import ServerConfig
from tests.support.collector import collecting
from tests.support.pictures import RED, shade, solid
from tests.support.serving import serving

IN_FLIGHT = 8
SAMPLED_OF_TEN = 1
"""Messages out of ten whose trace is sampled."""
SIDES = ("off", "on")


class Cost(NamedTuple):
    """Wall and CPU time of one side in one round."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Measures and writes `bench/telemetry.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, metavar="DIR", help="if not given, only no-op")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--out", type=Path, default=Path("bench/telemetry.json"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--each", type=int, default=8, help="screenshots of a real round")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        _collect()
        return
    if options.serve:
        asyncio.run(_serve_no_op())
        return
    load_before = os.getloadavg()[0]
    rows = []
    with _process("--collect") as (endpoint, _):
        tiny = [solid(shade(i)) for i in range(500)]
        no_op = {
            side: [sys.executable, "-m", "tests.bench.bench_telemetry", "--serve", side]
            for side in SIDES
        }
        rows.append(_compare("no-op", no_op, endpoint, [tiny] * options.rounds))
        if options.screens is not None:
            rows.append(_real(options, endpoint))
    conditions = {
        "machine": platform.machine(),
        "cores": cores(),
        "rounds": options.rounds,
        "in_flight": IN_FLIGHT,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps([row | {"conditions": conditions} for row in rows], indent=2))
    for row in rows:
        print(json.dumps(row))
    print(json.dumps(conditions))


def _real(options: argparse.Namespace, endpoint: str) -> dict[str, object]:
    count = options.rounds * options.each
    paths = sorted((options.screens / "test").glob("*/*"))
    if len(paths) < count:
        raise SystemExit(f"{count} distinct screenshots are needed, there are {len(paths)}")
    pictures = [paths[i * len(paths) // count].read_bytes() for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        common = ["--store", f"{folder}/gallery.db", "--bundles", str(options.bundles)]
        server = [sys.executable, "-m", "pagesight_server"]
        subprocess.run([*server, "index", str(options.screens / "gallery"), *common], check=True)
        command = [*server, "serve", *common, "--port", "0", "--json"]
        batches = [pictures[part :: options.rounds] for part in range(options.rounds)]
        return _compare("real", dict.fromkeys(SIDES, command), endpoint, batches)


def _compare(
    pipeline: str,
    commands: dict[str, list[str]],
    endpoint: str,
    batches: Sequence[Sequence[bytes]],
) -> dict[str, object]:
    costs: dict[str, list[Cost]] = {side: [] for side in SIDES}
    with ExitStack() as stack:
        sends: dict[str, Callable[[Sequence[bytes]], Cost]] = {}
        for side in SIDES:
            listening, pid = stack.enter_context(_server(commands[side], side, endpoint))
            channel = stack.enter_context(grpc.insecure_channel(listening))
            sends[side] = _sender(channel, pid)
            sends[side](batches[0][:4])  # warm-up
        for number, batch in enumerate(batches):
            for side in SIDES if number % 2 else reversed(SIDES):
                costs[side].append(sends[side](batch))
    count = len(batches[0])
    pairs = list(zip(costs["off"], costs["on"], strict=True))
    return {
        "pipeline": pipeline,
        "screenshots_per_round": count,
        "off_per_s": count / statistics.median(cost.wall_s for cost in costs["off"]),
        "on_per_s": count / statistics.median(cost.wall_s for cost in costs["on"]),
        "off_cpu_ms": 1000 * statistics.median(cost.cpu_s for cost in costs["off"]) / count,
        "on_cpu_ms": 1000 * statistics.median(cost.cpu_s for cost in costs["on"]) / count,
        "cpu_ratio_median": statistics.median(on.cpu_s / off.cpu_s for off, on in pairs),
        "cpu_ratio_total": sum(on.cpu_s for _, on in pairs) / sum(off.cpu_s for off, _ in pairs),
        "throughput_ratio_median": statistics.median(off.wall_s / on.wall_s for off, on in pairs),
    }


def _sender(channel: grpc.Channel, pid: int) -> Callable[[Sequence[bytes]], Cost]:
    stub: Any = classifier_pb2_grpc.ClassifierServiceStub(channel)

    sent = 0

    def send(batch: Sequence[bytes]) -> Cost:
        nonlocal sent
        sent += len(batch)
        cpu_s, wall_s = _cpu_s(pid), time.perf_counter()
        answered = 0
        for reply in stub.ClassifyStream(_messages(batch, sent), timeout=600):
            if reply.WhichOneof("outcome") != "classification":
                raise SystemExit(f"a screenshot failed: {reply.error}")
            answered += 1
        if answered != len(batch):
            raise SystemExit(f"{answered} of {len(batch)} screenshots were answered")
        return Cost(time.perf_counter() - wall_s, _cpu_s(pid) - cpu_s)

    return send


def _messages(batch: Sequence[bytes], first: int) -> Iterator[pb.ClassifyStreamRequest]:
    for number, image in enumerate(batch, first):
        flag = "01" if number % 10 < SAMPLED_OF_TEN else "00"
        trace = os.urandom(16).hex()
        query = pb.Query(image=image, traceparent=f"00-{trace}-00f067aa0ba902b7-{flag}")
        yield pb.ClassifyStreamRequest(request_id=str(number), query=query)


@contextmanager
def _server(command: list[str], side: str, endpoint: str) -> Iterator[tuple[str, int]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment["PAGESIGHT_SERVER__REMEMBER"] = "0"
    environment["PAGESIGHT_SERVER__MAX_IN_FLIGHT_PER_STREAM"] = str(IN_FLIGHT)
    if side == "on":
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_METRIC_EXPORT_INTERVAL": "15000",
        }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            listening = json.loads(server.stdout.readline())
            yield f"{listening['host']}:{listening['port']}", server.pid
        finally:
            server.terminate()


async def _serve_no_op() -> None:
    """Serves the real gRPC services and pipeline, with models that answer at once."""
    exporting = telemetry.setup(os.environ)
    config = ServerConfig(port=0, max_in_flight_per_stream=IN_FLIGHT)
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), config=config, telemetry=exporting.telemetry) as served:
            await served.enrol(("red", solid(RED)))
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            host, _, port = served.address.rpartition(":")
            print(json.dumps({"host": host, "port": int(port)}), flush=True)
            await stop.wait()
    exporting.close()


def _collect() -> None:
    with collecting() as (_, endpoint):
        print(endpoint, flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        signal.sigwait([signal.SIGTERM])


@contextmanager
def _process(*arguments: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "tests.bench.bench_telemetry", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def _cpu_s(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
