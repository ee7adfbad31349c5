"""Speed of `gallery copy` from SQLite to PostgreSQL: pictures and megabytes a second.

    made-up gallery ──> gallery.db ──copy──> PostgreSQL of this machine     pictures/s, MB/s, CPU s

The store is that of bench_store.py, without kept bytes and with so many of each picture. The copy
verifies itself by reading both stores once more; that is in its time. The database writes to the
disk as PostgreSQL does by default, which the tests' server else does not.

.venv/bin/python -m tests.bench.bench_copy --pictures 10000 --kept-bytes 0 20000
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from pagesight_server.gallery import Gallery, copying
from pagesight_server.gallery.location import StoreLocation
from tests.bench.bench_store import fill
from tests.bench.measure import machine, own_cpu_s
from tests.support.postgres import PostgresServer, server_or_reason


def measure(server: PostgresServer, pictures: int, labels: int, kept_bytes: int) -> dict[str, Any]:
    """Fills a file and copies it into a schema of a server."""
    with tempfile.TemporaryDirectory(prefix="pagesight-bench-") as folder:
        source, target = Path(folder) / "gallery.db", server.new_store()
        fill(source, pictures, labels, kept_bytes=kept_bytes)
        megabytes = source.stat().st_size / 1e6
        cpu_s, wall_s = own_cpu_s(), time.perf_counter()
        copied = copying.copy(source, target, _opened)
        cpu_s, wall_s = own_cpu_s() - cpu_s, time.perf_counter() - wall_s
    return {
        "pictures": pictures,
        "kept_bytes": kept_bytes,
        "file_mb": round(megabytes, 1),
        "rows_put": copied.put,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "pictures_a_s": round(pictures / wall_s),
        "mb_a_s": round(megabytes / wall_s, 1),
        "cpu_ms_a_picture": round(1000 * cpu_s / pictures, 2),
        "load_in_the_end": round(os.getloadavg()[0], 1),
    }


def _opened(location: StoreLocation) -> Gallery:
    return Gallery(location, incomplete=True)


def main() -> None:
    """Prints a row for each size of kept pictures, and writes bench/copy.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--kept-bytes", type=int, nargs="+", default=[0, 20_000])
    arguments = parser.parse_args()
    server = server_or_reason()
    if isinstance(server, str):
        raise SystemExit(server)
    rows = []
    with closing(server):
        server.execute("ALTER SYSTEM SET fsync = on")
        server.execute("SELECT pg_reload_conf()")
        for kept_bytes in arguments.kept_bytes:
            row = measure(server, arguments.pictures, arguments.labels, kept_bytes)
            print(row, flush=True)
            rows.append({**row, **machine()})
    out = Path("bench")
    out.mkdir(exist_ok=True)
    (out / "copy.json").write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
