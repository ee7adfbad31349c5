"""Capacity of the load generator: `pagesight load --closed` against a server that only answers.

    pagesight load, 1 or 2 processes ──stream or unary, 0.1 or 300 KB──> tests.bench.streaming
         └── its CPU, by its report                                       └── its CPU, by /proc

Both share the machine's cores, so messages a second are of the two together. The capacity of the
generator alone is `per_s_of_a_core`: messages per CPU second of its own. The pictures are made
distinct as in any load; the server does not decode them.

Run: make bench-load
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from tests.bench.measure import cpu_s, machine
from tests.bench.sides import started

Row: TypeAlias = dict[str, Any]
STREAMS, IN_FLIGHT = 2, 8
"""Connections, and messages in flight on each."""
SIDES = {"0.1 KB": 4, "300 KB": 316}
"""Side of the pictures in pixels, by their size: noise does not compress, three bytes a pixel."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all combinations, prints a table and writes bench/load.json."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-load")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--seconds", type=float, default=8.0, help="measured time of each row")
    parser.add_argument("--sizes", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args(arguments)
    before = machine()
    with (
        tempfile.TemporaryDirectory() as folder,
        started(["-m", "tests.bench.streaming"]) as (listening, pid),
    ):
        address = str(listening["address"])
        rows = [
            _row(Path(folder), address, pid, size, calls, processes, options.seconds)
            for size, calls, processes in product(
                options.sizes, ("stream", "unary"), options.processes
            )
        ]
    conditions = before | {
        "load_1_min_after": machine()["load_1_min"],
        "seconds": options.seconds,
        "in_flight": f"{STREAMS} connections x {IN_FLIGHT}",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    body = [row | {"conditions": conditions} for row in rows]
    (options.out / "load.json").write_text(json.dumps(body, indent=2), "utf-8")
    _show(rows, conditions)


def _row(
    folder: Path,
    address: str,
    server: int,
    size: str,
    calls: str,
    processes: int,
    seconds: float,
) -> Row:
    noise = np.random.default_rng(0).integers(0, 256, (SIDES[size], SIDES[size], 3), np.uint8)
    picture = folder / "noise.png"
    Image.fromarray(noise).save(picture)
    command = [
        *(sys.executable, "-m", "pagesight", "load", str(picture), "--address", address),
        *("--closed", "--streams", str(STREAMS), "--in-flight", str(IN_FLIGHT)),
        *("--processes", str(processes), *(["--unary"] if calls == "unary" else [])),
        *("--warmup", "0", "--duration", str(seconds), "--json"),
    ]
    spent_s = cpu_s(server)
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    spent_s = cpu_s(server) - spent_s
    report = json.loads(output)
    if report["errors"]:
        raise SystemExit(f"{' '.join(command)}: {report['errors']}")
    busy = report["generator"]["cpu_share"]
    own_s = sum(busy) * report["duration_s"]
    return {
        "calls": calls,
        "size": size,
        "processes": processes,
        "per_s": round(report["rate_achieved"]),
        "p50_ms": report["latency_ms"]["p50"],
        "p99_ms": report["latency_ms"]["p99"],
        "busiest_process": max(busy),
        "server_share": round(spent_s / report["duration_s"], 2),
        "own_cpu_ms_each": round(1000 * own_s / report["ok"], 3),
        "server_cpu_ms_each": round(1000 * spent_s / report["ok"], 3),
        "per_s_of_a_core": round(report["ok"] / own_s),
    }


def _show(rows: Sequence[Row], conditions: Row) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    console = Console(width=160)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))


if __name__ == "__main__":
    main()
