"""What a polite caller gets beside a greedy one, and what a server answers while it has too much.

    polite: so many screenshots a second, each a call ──┐
    greedy: 40 streams, as much as each may hold ───────┴──> the real server, models that only wait

Models wait 20 ms and take no core, and four screenshots are at work. What is measured is admission
and gRPC, on one event loop with the callers; goodput is what is answered beside the greedy caller,
as a share of what is answered with eight in flight.

    .venv/bin/python -m tests.bench.bench_fairness --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from pagesight.v1 import classifier_pb2 as pb
from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.config_sections import ServerConfig
from pagesight_server.service.auth import RequireRole, read_tokens
from tests.bench.measure import machine, quantile
from tests.support.parts import FakeModels
from tests.support.pictures import RED, solid
from tests.support.serving import Serving, request, serving, until
from tests.support.stores import enrol

WORK_S, ACTIVE = 0.02, 4
POLITE_PER_S = 20
STREAMS = 40
"""Of the greedy caller; with 32 in flight each five times what may wait."""

PICTURE = solid(RED)


class Waiting(FakeModels):
    """Models that take their time and no core."""

    async def encode(self, pixels: Pixels) -> Embedding:
        await asyncio.sleep(WORK_S)
        return await super().encode(pixels)


@dataclass(slots=True)
class Outcomes:
    """What became of one caller's screenshots."""

    counts: Counter[str] = field(default_factory=Counter)
    """By outcome: `answered`, or the name of the status."""
    took_ms: list[float] = field(default_factory=list)
    """Of those that were answered."""

    def row(self, seconds: float) -> dict[str, object]:
        """Shares and latencies."""
        total = self.counts.total()
        answered = self.counts["answered"]
        row: dict[str, object] = {
            "sent": total,
            "answered_percent": round(100 * answered / total, 1) if total else None,
            "answered_per_s": round(answered / seconds, 1),
        }
        if self.took_ms:
            row["p50_ms"] = round(quantile(self.took_ms, 0.5))
            row["p99_ms"] = round(quantile(self.took_ms, 0.99))
        return row


def metadata(name: str) -> Any:
    """The token of a caller."""
    return (("authorization", f"Bearer {name}"),)


@asynccontextmanager
async def served() -> AsyncIterator[Serving]:
    """A server that knows both callers by their tokens."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokens.toml"
        file.write_text(
            "".join(
                f"[[token]]\nname = '{name}'\nroles = ['admin']\n"
                f"sha256 = '{hashlib.sha256(name.encode()).hexdigest()}'\n"
                for name in ("greedy", "polite")
            ),
            "utf-8",
        )
        config = ServerConfig(port=0, max_active=ACTIVE)
        guards = [RequireRole(read_tokens(file))]
        async with serving(Path(folder), config=config, guards=guards, models=Waiting()) as server:
            enrol(server.store, {"a page": "a"})
            await server.registry.refresh()
            yield server


async def ask(server: Serving, outcomes: Outcomes, name: str, **query: Any) -> None:
    """One screenshot in a call of its own."""
    start_s = time.perf_counter()
    message = pb.ClassifyRequest(query=pb.Query(image=PICTURE, **query))
    try:
        await server.classifier.Classify(message, timeout=60, metadata=metadata(name))
    except grpc.aio.AioRpcError as error:
        outcomes.counts[error.code().name] += 1
    else:
        outcomes.counts["answered"] += 1
        outcomes.took_ms.append(1000 * (time.perf_counter() - start_s))


async def polite(server: Serving, seconds: float, **query: Any) -> Outcomes:
    """A steady caller, who sends on time whatever becomes of what it sent."""
    outcomes, start_s = Outcomes(), time.perf_counter()
    calls: list[asyncio.Task[None]] = []
    for number in range(round(seconds * POLITE_PER_S)):
        await asyncio.sleep(max(0.0, start_s + number / POLITE_PER_S - time.perf_counter()))
        calls.append(asyncio.create_task(ask(server, outcomes, "polite", **query)))
    await asyncio.gather(*calls)
    return outcomes


@asynccontextmanager
async def greedy(server: Serving, **query: Any) -> AsyncIterator[Outcomes]:
    """A caller who has as much in flight as it may, and sends anew whatever is refused."""
    outcomes = Outcomes()

    async def read(stream: Any) -> None:
        async for reply in stream:
            error = reply.WhichOneof("outcome") == "error"
            outcomes.counts["refused" if error else "answered"] += 1
            if error:
                # As RetryInfo says; refusals are cheap, but not so cheap that they are the load.
                await asyncio.sleep(0.1)
            await stream.write(request("again", PICTURE, **query))

    streams = [
        server.classifier.ClassifyStream(metadata=metadata("greedy")) for _ in range(STREAMS)
    ]
    reading = [asyncio.create_task(read(stream)) for stream in streams]
    for stream in streams:
        for _ in range(32):
            await stream.write(request("first", PICTURE, **query))
    try:
        yield outcomes
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def capacity(seconds: float) -> float:
    """Screenshots a second with just so many in flight that no place is ever empty."""
    async with served() as server:
        outcomes, start_s = Outcomes(), time.perf_counter()

        async def go_on() -> None:
            while time.perf_counter() < start_s + seconds:
                await ask(server, outcomes, "polite")

        await asyncio.gather(*(go_on() for _ in range(2 * ACTIVE)))
        return outcomes.counts["answered"] / (time.perf_counter() - start_s)


async def measure(seconds: float) -> list[dict[str, object]]:
    """One row for each situation."""
    capacity_per_s = await capacity(seconds)
    rows: list[dict[str, object]] = [{"answered_per_s_with_8_in_flight": round(capacity_per_s, 1)}]
    low, high = {"priority": pb.PRIORITY_LOW}, {"priority": pb.PRIORITY_HIGH}
    situations: list[tuple[str, dict[str, Any] | None, dict[str, Any]]] = [
        ("polite alone", None, {}),
        ("beside greedy, equal priority", {}, {}),
        ("beside greedy at LOW, polite at HIGH", low, high),
        ("beside greedy at HIGH, polite at NORMAL", high, {}),
    ]
    for name, of_greedy, of_polite in situations:
        async with served() as server:
            if of_greedy is None:
                row = (await polite(server, seconds, **of_polite)).row(seconds)
                rows.append({"situation": name, "polite": row})
                continue
            async with greedy(server, **of_greedy) as flood:
                await until(lambda: server.gate.waiting == server.gate.max_waiting)
                before = flood.counts["answered"]
                start_s = time.perf_counter()
                outcomes = await polite(server, seconds, **of_polite)
                took_s = time.perf_counter() - start_s
                answered = flood.counts["answered"] - before
            end_s = time.perf_counter()
            after = Outcomes()
            while not after.counts["answered"]:
                await ask(server, after, "polite")
            rows.append(
                {
                    "situation": name,
                    "polite": outcomes.row(took_s),
                    "greedy_answered_per_s": round(answered / took_s, 1),
                    "goodput_percent": round(
                        100 * (answered + outcomes.counts["answered"]) / took_s / capacity_per_s
                    ),
                    # From the last of the flood to an answer, its own 20 ms included.
                    "recovered_ms": round(1000 * (time.perf_counter() - end_s)),
                }
            )
    return rows


def main() -> None:
    """Measures, and prints a line of JSON for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    for row in asyncio.run(measure(arguments.seconds)):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
