"""CPU time, throughput and latency of a screenshot: `make bench SCREENS=DIR`.

    rounds of distinct screenshots ──> script | pipeline | service, interleaved ──> medians, ratios
    one at a time, and Poisson arrivals at half of the rate ──> service ──> latencies
    messages of 300 KB ──> the gRPC server without models ──> CPU milliseconds
    stages of the pipeline, and that server as its edge ──> shares of a screenshot's CPU time

All sides use the same bundles. Every screenshot is new to every side, and all caches are empty at
the start of each round; "again" sends the same screenshots once more, as users do. Real screenshots
(DIR/gallery/<label>/*, DIR/test/*/*) and generated pages of 1080 pixels width are kept apart.

With `--settings COMPUTE__OCR_THREADS=2,SERVER__MAX_ACTIVE=8`, once for each choice, the sides are
the service with its defaults and with each choice, and nothing else is measured.

Writes `bench/runtime.json` or `bench/settings.json`: a list of rows, each with the conditions.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from pagesight_server.inference.decode import decode
from tests.bench import sides
from tests.bench.arrivals import alone, at_random
from tests.bench.measure import Cost, machine, quantile, timed
from tests.bench.screens import Screens, generated, real
from tests.bench.stages import StageCpu, stage_rows
from tests.bench.streaming import overhead

Row = dict[str, Any]
SIDES = ("script", "pipeline", "service")
DEFAULTS = "defaults"
WORDS = {"set", "side", "stage", "target"}
"""Columns of the tables that are no numbers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the rows."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    before = machine()
    started_s = time.perf_counter()
    rows: list[Row] = []
    pipelines: dict[str, list[Cost]] = {}
    for screens in _sets(options):
        if options.settings:
            rows += settings_rows(screens.name, compare_settings(screens, options))
            continue
        costs = asyncio.run(compare(screens, options.rounds, options.each))
        of_set = cost_rows(screens.name, costs)
        rate = next(row["per_s"] for row in of_set if row["side"] == "service")
        rows += of_set
        pipelines[screens.name] = [cost for cost in costs if cost.side == "pipeline"]
        rows += asyncio.run(_latencies(screens, options, rate))
        rows.append(_decoding(screens))
    if not options.settings:
        edge = streaming_row(overhead(options.messages, options.rounds))
        rows.append(edge)
        for name, costs in pipelines.items():
            rows += stage_rows(name, costs, edge["server_cpu_ms"])
        rows += target_rows(rows, str(before["vectors"]))
    conditions = before | {
        "load_1_min_after": machine()["load_1_min"],
        "rounds": options.rounds,
        "screenshots_each": options.each,
        "concurrency": sides.CONCURRENCY,
        "models": "built-in encoder, OCR bundle of the checkout; text is read",
        "minutes": round((time.perf_counter() - started_s) / 60, 1),
    }
    body = [row | {"conditions": conditions} for row in rows]
    name = "settings" if options.settings else "runtime"
    (options.out / f"{name}.json").write_text(json.dumps(body, indent=2), "utf-8")
    show(rows, conditions)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument("--screens", type=Path, metavar="DIR", help="real screenshots, if any")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=10, help="screenshots of one round")
    parser.add_argument("--alone", type=int, default=20, help="screenshots sent one at a time")
    parser.add_argument("--arrivals", type=int, default=40, help="screenshots sent at random")
    parser.add_argument("--messages", type=int, default=2000, help="of 300 KB, in one round")
    parser.add_argument("--no-generated", action="store_true", help="real screenshots alone")
    parser.add_argument("--settings", action="append", metavar="NAME=VALUE,...", default=[],
                        help="of a service to compare with the default one; repeat it")  # fmt: skip
    return parser


def _sets(options: argparse.Namespace) -> list[Screens]:
    count = options.rounds * options.each
    count += 0 if options.settings else options.alone + options.arrivals
    sets = []
    if options.screens:
        sets.append(real(options.screens, count, out=options.out, bundles=options.bundles))
    if not options.no_generated:
        sets.append(generated(count, out=options.out, bundles=options.bundles))
    if not sets:
        raise SystemExit("nothing to measure: give --screens DIR, or leave out --no-generated")
    return sets


async def compare(screens: Screens, rounds: int, each: int) -> list[Cost]:
    """Measures every side in every round, and the same screenshots once more (cached)."""
    script = sides.script(screens.config)
    costs: list[Cost] = []
    for number in range(rounds):
        batch = screens.pictures[number * each : (number + 1) * each]
        for turn in range(len(SIDES)):
            side = SIDES[(turn + number) % len(SIDES)]
            if side == "script":
                with timed(side, each) as cost:
                    for data in batch:
                        script(data)
                costs.append(cost)
            elif side == "pipeline":
                async with sides.pipeline(screens.config) as classify:
                    for name in ("pipeline", "pipeline again"):
                        stages = StageCpu()
                        with timed(name, each) as cost:
                            await classify(batch, stages)
                        cost.stages_cpu_s = stages.spent_s()
                        costs.append(cost)
            else:
                with sides.service(screens.config) as (address, pid):
                    for name in ("service", "service again"):
                        with timed(name, each, pid) as cost:
                            await asyncio.to_thread(sides.stream, address, batch)
                        costs.append(cost)
    return costs


def cost_rows(name: str, costs: Sequence[Cost]) -> list[Row]:
    """Medians over the rounds, and the ratios for which there are targets."""

    def median(side: str, value: str) -> float:
        values: list[float] = [getattr(cost, value) for cost in costs if cost.side == side]
        return statistics.median(values)

    rows = []
    for side in dict.fromkeys(cost.side for cost in costs):
        of_side = [cost for cost in costs if cost.side == side]
        rows.append(
            {
                "table": "cost",
                "set": name,
                "side": side,
                "cpu_s": round(median(side, "cpu_each_s"), 4),
                "caller_cpu_s": round(
                    statistics.median(c.caller_cpu_s / c.screenshots for c in of_side), 4
                ),
                "per_s": round(median(side, "per_s"), 3),
                "cpu_to_pipeline": round(
                    median(side, "cpu_each_s") / median("pipeline", "cpu_each_s"), 3
                ),
                "rate_to_script": round(median(side, "per_s") / median("script", "per_s"), 3),
                "rounds_cpu_s": [round(cost.cpu_each_s, 4) for cost in of_side],
                "rounds_per_s": [round(cost.per_s, 3) for cost in of_side],
            }
        )
    return sorted(rows, key=lambda row: (not row["side"].startswith(SIDES), row["side"]))


def compare_settings(screens: Screens, options: argparse.Namespace) -> list[Cost]:
    """Measures the service with the defaults and with each choice of settings, in every round."""
    chosen: dict[str, dict[str, str]] = {DEFAULTS: {}}
    chosen |= {choice: _variables(choice) for choice in options.settings}
    names, costs = list(chosen), []
    for number in range(options.rounds):
        batch = screens.pictures[number * options.each : (number + 1) * options.each]
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]
            with sides.service(screens.config, chosen[name]) as (address, pid):
                with timed(name, options.each, pid) as cost:
                    sides.stream(address, batch)
                costs.append(cost)
    return costs


def _variables(choice: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in choice.split(",")]
    if not all(name and equals for name, equals, _ in pairs):
        raise SystemExit(f"--settings {choice}: write NAME=VALUE, as in COMPUTE__OCR_THREADS=2")
    return {name: value for name, _, value in pairs}


def settings_rows(name: str, costs: Sequence[Cost]) -> list[Row]:
    """Medians over the rounds, also relative to those of the defaults."""

    def row(side: str) -> Row:
        of_side = [cost for cost in costs if cost.side == side]
        return {
            "table": "settings",
            "set": name,
            "side": side,
            "cpu_s": round(statistics.median(cost.cpu_each_s for cost in of_side), 4),
            "per_s": round(statistics.median(cost.per_s for cost in of_side), 3),
            "rounds_cpu_s": [round(cost.cpu_each_s, 4) for cost in of_side],
            "rounds_per_s": [round(cost.per_s, 3) for cost in of_side],
        }

    rows = [row(side) for side in dict.fromkeys(cost.side for cost in costs)]
    defaults = next(row for row in rows if row["side"] == DEFAULTS)
    return [
        row
        | {f"{key}_to_defaults": round(row[key] / defaults[key], 3) for key in ("cpu_s", "per_s")}
        for row in rows
    ]


async def _latencies(screens: Screens, options: argparse.Namespace, per_s: float) -> list[Row]:
    """Latencies of the service: unloaded, and with Poisson arrivals at half of its rate."""
    rest = screens.pictures[options.rounds * options.each :]
    lone, random = rest[: options.alone], rest[options.alone :]
    if not lone or not random:
        return []
    with sides.service(screens.config) as (address, _pid):
        quiet = await alone(address, lone)
        busy = await at_random(address, random, per_s / 2)
    return [
        latency_row(screens.name, "alone", quiet, 0.0),
        latency_row(screens.name, "at random", busy, per_s / 2),
    ]


def latency_row(name: str, load: str, latencies_ms: Sequence[float], per_s: float) -> Row:
    """Quantiles of latencies, under a load of `per_s` screenshots a second."""
    return {
        "table": "latency",
        "set": name,
        "load": load,
        "per_s": round(per_s, 3),
        "sent": len(latencies_ms),
        **{
            f"p{round(100 * share)}_ms": round(quantile(latencies_ms, share), 1)
            for share in (0.5, 0.9, 0.99)
        },
    }


def _decoding(screens: Screens) -> Row:
    """Median CPU time of decoding a screenshot, by Pillow and by our decoder."""

    def by_pillow(data: bytes) -> None:
        with Image.open(io.BytesIO(data)) as picture:
            np.ascontiguousarray(picture.convert("RGB"))

    def by_ours(data: bytes) -> None:
        decode(data, screens.config.image)

    def cpu_ms(data: bytes, decode: Any) -> float:
        start_s = time.thread_time()
        decode(data)
        return 1000 * (time.thread_time() - start_s)

    of_each = [(cpu_ms(data, by_pillow), cpu_ms(data, by_ours)) for data in screens.pictures]
    pillow, ours = (statistics.median(column) for column in zip(*of_each, strict=True))
    return {
        "table": "decoding",
        "set": screens.name,
        "pillow_ms": round(pillow, 2),
        "ours_ms": round(ours, 2),
        "ours_to_pillow": round(ours / pillow, 2),
    }


def streaming_row(costs: Sequence[Cost]) -> Row:
    """Cost of a message in the gRPC service without models."""
    return {
        "table": "streaming",
        "server_cpu_ms": round(statistics.median(1000 * cost.cpu_each_s for cost in costs), 3),
        "caller_cpu_ms": round(
            statistics.median(1000 * cost.caller_cpu_s / cost.screenshots for cost in costs), 3
        ),
        "messages_per_s": round(statistics.median(cost.per_s for cost in costs)),
    }


def target_rows(rows: Sequence[Row], vectors: str) -> list[Row]:
    """The targets and the measured values, for which there are rows.

    Args:
        rows: What was measured.
        vectors: The processor's sets of vector instructions; with AVX-512 more is asked for.
    """
    least_rate = 3.8 if "AVX-512" in vectors else 2.8

    def find(**wanted: str) -> Row:
        return next(
            (row for row in rows if all(row.get(key) == value for key, value in wanted.items())), {}
        )

    targets: list[tuple[str, str, float, float, bool]] = []
    for name in dict.fromkeys(row["set"] for row in rows if "set" in row):
        service = find(table="cost", set=name, side="service")
        if service:
            cpu, rate = service["cpu_to_pipeline"], service["rate_to_script"]
            targets.append((name, "service CPU ÷ pipeline CPU, at most", 1.10, cpu, cpu <= 1.10))
            what = "service rate ÷ script rate, at least"
            targets.append((name, what, least_rate, rate, rate >= least_rate))
        quiet = find(table="latency", set=name, load="alone")
        busy = find(table="latency", set=name, load="at random")
        if quiet and busy:
            for share in ("p50_ms", "p99_ms"):
                ratio = busy["p99_ms"] / quiet[share]
                what = f"p99 at half load ÷ {share[:3]} alone, at most"
                targets.append((name, what, 2.0, round(ratio, 3), ratio <= 2.0))
    edge = find(table="streaming")
    if edge:
        cost = edge["server_cpu_ms"]
        targets.append(("-", "CPU ms for each message of 300 KB, at most", 1.5, cost, cost <= 1.5))
    return [
        {
            "table": "targets",
            "set": name,
            "target": what,
            "limit": limit,
            "found": value,
            "met": met,
        }
        for name, what, limit, value, met in targets
    ]


def show(rows: Sequence[Row], conditions: Row) -> None:
    """Prints every table."""
    console = Console()
    for name in dict.fromkeys(row["table"] for row in rows):
        of_table = [row for row in rows if row["table"] == name]
        columns = [key for key in of_table[0] if key != "table" and not key.startswith("rounds_")]
        table = Table(title=name, title_justify="left")
        for column in columns:
            table.add_column(column, justify="left" if column in WORDS else "right")
        for row in of_table:
            table.add_row(*(str(row[column]) for column in columns))
        console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))


if __name__ == "__main__":
    main()
