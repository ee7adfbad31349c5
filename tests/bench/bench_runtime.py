"""What a screenshot costs: a plain script, the pipeline in this process, and the service.

    rounds of distinct screenshots ──> script | pipeline | service, interleaved ──> medians

The script is what one would write first: Pillow, the encoder alone, `rapidocr` with its
defaults, faiss, one after the other. All sides use the same bundles, every screenshot is new
to every side, and no side remembers any. CPU seconds are user + system of the processes that
do the work, so the service's include gRPC on both ends.

Run: make bench SCREENS=DIR    (DIR/gallery/<label>/*, DIR/test/*/*)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rapidocr import RapidOCR
from rich.console import Console
from rich.table import Table

from pagesight import Client
from pagesight_server import image, wiring
from pagesight_server.config import Config, cores, read_config
from pagesight_server.encoder import Encoder
from pagesight_server.index import FlatIndex
from pagesight_server.live import know
from pagesight_server.runtime import Compute

CONCURRENCY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One side over one round."""

    side: str
    screenshots: int
    cpu_s: float
    wall_s: float


def main() -> None:
    """Measures and writes `bench/runtime.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, required=True, metavar="DIR")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--store", type=Path, default=Path("bench/gallery.db"))
    parser.add_argument("--out", type=Path, default=Path("bench/runtime.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=16, help="screenshots of one round")
    asked = parser.parse_args()
    asked.store.parent.mkdir(parents=True, exist_ok=True)
    pictures = [
        path.read_bytes()
        for path in _spread(sorted((asked.screens / "test").glob("*/*")), asked.rounds * asked.each)
    ]
    common = ["--store", str(asked.store), "--bundles", str(asked.bundles)]
    _server("index", str(asked.screens / "gallery"), *common)
    config = read_config(None, {"store": asked.store, "bundles": asked.bundles})
    costs = asyncio.run(_measure(config, pictures, asked.rounds, common))
    rows = _rows(costs)
    conditions = {
        "machine": platform.machine(),
        "cores": cores(),
        "screenshots": len(pictures),
        "rounds": asked.rounds,
        "concurrency": CONCURRENCY,
        "load_before": os.getloadavg()[0],
    }
    body = [row | {"conditions": conditions} for row in rows]
    asked.out.write_text(json.dumps(body, indent=2), "utf-8")
    _print(rows)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    if len(paths) < count:
        raise SystemExit(f"{count} distinct screenshots are needed, there are {len(paths)}")
    return [paths[i * len(paths) // count] for i in range(count)]


def _server(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pagesight_server", *arguments], check=True)


async def _measure(
    config: Config, pictures: Sequence[bytes], rounds: int, common: Sequence[str]
) -> list[Cost]:
    script = _script(config)
    costs: list[Cost] = []
    with wiring.opened(config.store) as store:
        known = know(store, "default", "pagesight", 0.05)
        async with wiring.models(config) as models:
            pipeline = models.pipeline(lambda _name: known)

            async def in_process(batch: Sequence[bytes]) -> None:
                places = asyncio.Semaphore(CONCURRENCY)

                async def one(data: bytes) -> None:
                    async with places:
                        await pipeline.classify(data)

                await asyncio.gather(*(one(data) for data in batch))

            with _served(common) as (address, pid):
                for part in range(rounds):
                    batch = pictures[part::rounds]
                    with _timed(costs, "script", len(batch)):
                        for data in batch:
                            script(data)
                    with _timed(costs, "pipeline", len(batch)):
                        await in_process(batch)
                    with _timed(costs, "service", len(batch), pid):
                        await asyncio.to_thread(_stream, address, batch)
    return costs


def _script(config: Config) -> Callable[[bytes], None]:
    """What one would write first, with every library's defaults."""
    bundle, _ = wiring.load_bundles(config.bundles)
    encoder = Encoder(bundle, Compute(threads=cores()))
    reader = RapidOCR(params={"Global.log_level": "error"})
    index = FlatIndex(np.eye(1, bundle.embedding_dim, dtype=np.float32), np.zeros(1, np.int64))

    def classify(data: bytes) -> None:
        pixels = image.decode(data, config.image)
        embedding = encoder.encode([pixels])[0]
        reader(np.ascontiguousarray(pixels[:, :, ::-1]))
        index.search(embedding, 5)

    return classify


def _stream(address: str, batch: Sequence[bytes]) -> None:
    with Client(address) as client:
        for result in client.classify_stream(batch, max_in_flight=CONCURRENCY):
            result.unwrap()


@contextmanager
def _served(common: Sequence[str]) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "pagesight_server", "serve", *common, "--port", "0", "--json"]
    environment = os.environ | {"PAGESIGHT_SERVER__REMEMBER": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            listening = json.loads(server.stdout.readline())
            yield f"{listening['host']}:{listening['port']}", server.pid
        finally:
            server.terminate()


@contextmanager
def _timed(
    costs: list[Cost], side: str, screenshots: int, pid: int | None = None
) -> Iterator[None]:
    wall, cpu = time.perf_counter(), _cpu_s(pid)
    yield  # What fails is not measured: the bench ends with its error.
    costs.append(
        Cost(
            side=side,
            screenshots=screenshots,
            cpu_s=_cpu_s(pid) - cpu,
            wall_s=time.perf_counter() - wall,
        )
    )


def _cpu_s(pid: int | None) -> float:
    """User and system seconds of this process, and of another one when it is given."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    if pid is not None:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _rows(costs: Sequence[Cost]) -> list[dict[str, object]]:
    """Medians over the rounds, and the ratios that the targets speak of."""

    def median(side: str, value: Callable[[Cost], float]) -> float:
        return statistics.median(value(cost) for cost in costs if cost.side == side)

    rows: list[dict[str, object]] = []
    for side in ("script", "pipeline", "service"):
        cpu = median(side, lambda c: c.cpu_s / c.screenshots)
        rate = median(side, lambda c: c.screenshots / c.wall_s)
        rows.append(
            {
                "side": side,
                "cpu_s_per_screenshot": round(cpu, 3),
                "screenshots_per_s": round(rate, 3),
                "cpu_to_pipeline": round(
                    cpu / median("pipeline", lambda c: c.cpu_s / c.screenshots), 3
                ),
                "rate_to_script": round(
                    rate / median("script", lambda c: c.screenshots / c.wall_s), 3
                ),
                "rounds": [asdict(cost) for cost in costs if cost.side == side],
            }
        )
    return rows


def _print(rows: Sequence[dict[str, object]]) -> None:
    table = Table(title="what a screenshot costs (medians of the rounds)", title_justify="left")
    for column in ("side", "CPU s", "screenshots/s", "CPU ÷ pipeline", "rate ÷ script"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for row in rows:
        keys = ("cpu_s_per_screenshot", "screenshots_per_s", "cpu_to_pipeline", "rate_to_script")
        table.add_row(str(row["side"]), *(f"{row[key]:.3f}" for key in keys))
    Console().print(table)


if __name__ == "__main__":
    main()
