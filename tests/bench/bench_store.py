"""Start of a replica: how long a gallery takes to be read from its store, and what memory it takes.

    made-up pages ──> store (SQLite, PostgreSQL) ──a process of its own──> rows      seconds
                                                           └──> snapshot            seconds, MB
                                                                  └──> knowledge    seconds, MB

`rows` is reading alone; `snapshot` adds checking digests and making pictures; `knowledge` is what
queries are answered from, without the calibration, which the store has. Pages are those of
bench_knowledge.py, 100 of each label.

OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.bench.bench_store --pictures 100000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pagesight_server.gallery import Gallery
from pagesight_server.gallery.digests import digest
from pagesight_server.gallery.location import StoreLocation, store_location
from pagesight_server.gallery.queries import look_columns
from pagesight_server.gallery.tables import TABLES
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from tests.bench.bench_knowledge import BUNDLES, Drawn, exact_vectors
from tests.bench.measure import machine, own_cpu_s, rss_mb
from tests.support.postgres import server_or_reason

PICTURES_A_LABEL = 100
ROWS_AT_A_TIME = 2_000
"""Pictures of one transaction when a store is made."""

INSERTS = {table.name: table.insert for table in TABLES}
ROWS = """SELECT {} FROM memberships m
    JOIN embeddings e ON e.image_id = m.image_id JOIN readings r ON r.image_id = m.image_id
    ORDER BY m.label, m.image_id"""


def fill(location: StoreLocation, pictures: int) -> None:
    """Makes a store of so many pictures in one gallery, whose bytes are not kept."""
    drawn = Drawn()
    with closing(Gallery(location)) as store:
        for begin in range(0, pictures, ROWS_AT_A_TIME):
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in INSERTS}
            if not begin:
                bundles = {"encoder_bundle": BUNDLES.encoder, "ocr_bundle": BUNDLES.ocr}
                rows["galleries"] += [{"name": "bench", "revision": 1, "deleted": 0, **bundles}]
                rows["revisions"] += [
                    {
                        "gallery": "bench",
                        "revision": 1,
                        "made_at_ms": 0,
                        "author": "",
                        "kind": "enrol",
                        "summary": "",
                        "images": pictures,
                    }
                ]
            for number in range(begin, min(begin + ROWS_AT_A_TIME, pictures)):
                _picture(rows, drawn, number)
            with store.database.writing() as db:
                for name, sql in INSERTS.items():
                    if rows[name]:
                        db.executemany(sql, rows[name])


def _picture(rows: dict[str, list[dict[str, Any]]], drawn: Drawn, number: int) -> None:
    """Adds the rows of one more picture."""
    picture, half = drawn.picture(f"label {number // PICTURES_A_LABEL:05d}")
    key = hashlib.sha256(picture.image_id.encode()).digest()
    assert picture.reading is not None
    vector, reading = half.tobytes(), picture.reading.to_json()
    rows["images"] += [{"id": key, "width_px": 1080, "height_px": 2400, "bytes": None}]
    rows["kept"] += [
        {
            "image_id": key,
            "form": "none",
            "size_bytes": 0,
            "thumbnail_sha256": None,
            "stored_at_ms": 0,
        }
    ]
    for name, bundle, column, content in (
        ("embeddings", BUNDLES.encoder, "vector", vector),
        ("readings", BUNDLES.ocr, "reading", reading),
    ):
        data = content if isinstance(content, bytes) else content.encode()
        sha256 = digest(key, bundle, data)
        rows[name] += [{"image_id": key, "bundle": bundle, column: content, "sha256": sha256}]
    rows["memberships"] += [
        {
            "gallery": "bench",
            "image_id": key,
            "label": picture.label,
            "source": f"{picture.label}/{number:07d}.png",
            "author": "bench",
            "added_at_ms": 0,
            "added_revision": 1,
            "removed_revision": None,
        }
    ]


class _Stages:
    """Wall time, CPU time and growth of this process, stage by stage."""

    def __init__(self) -> None:
        self.row: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures its block."""
        wall_s, cpu_s, before_mb = time.perf_counter(), own_cpu_s(), rss_mb(os.getpid())
        yield
        self.row[f"{name}_s"] = round(time.perf_counter() - wall_s, 2)
        self.row[f"{name}_cpu_s"] = round(own_cpu_s() - cpu_s, 2)
        self.row[f"{name}_mb"] = round(rss_mb(os.getpid()) - before_mb)


def load(location: StoreLocation, *, knowledge: bool) -> dict[str, float]:
    """Reads a store as a replica does when it starts; for a process of its own."""
    stages = _Stages()
    with closing(Gallery(location)) as store:
        with stages.stage("rows"), store.database.reading() as db:
            for _ in db.stream(ROWS.format(look_columns(db))):
                pass
        with stages.stage("snapshot"):
            snapshot = store.snapshot("bench", rounded=True)
    if not knowledge:
        return stages.row
    calibration = Calibration(
        epsilon=0.05,
        pictures=len(snapshot.pictures),
        guaranteed=True,
        threshold_with_text=0.5,
        threshold_without_text=0.5,
    )
    # The index is another matter (docs/benchmarks.md, The index): what is here is exact.
    halves = snapshot.embeddings.layout.generation.halves  # type: ignore[union-attr]
    object.__setattr__(snapshot, "embeddings", exact_vectors(halves))
    with stages.stage("knowledge"):
        made = Knowledge.of(snapshot, calibration=calibration)
    assert len(made.snapshot.pictures) == len(snapshot.pictures)
    return stages.row


def texts(pictures: int = 2_000) -> dict[str, float]:
    """What one stored text takes: µs of CPU time to parse, kB when parsed and as it is stored."""
    drawn = Drawn()
    readings = [drawn.picture("label")[0].reading for _ in range(pictures)]
    stored = [reading.to_json().encode() for reading in readings if reading]
    cpu_s = own_cpu_s()
    for data in stored:
        Reading.from_json(data.decode())
    parsed_us = 1e6 * (own_cpu_s() - cpu_s) / pictures
    tracemalloc.start()
    held = [Reading.from_json(data.decode()) for data in stored]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == pictures
    return {
        "text_parsed_us": round(parsed_us, 1),
        "text_parsed_kb": round(size / pictures / 1000, 2),
        "text_stored_kb": round(sum(map(len, stored)) / pictures / 1000, 2),
    }


def measure(location: StoreLocation, pictures: int, *, knowledge: bool) -> dict[str, Any]:
    """Fills a store and loads it in a process of its own."""
    start_s = time.perf_counter()
    fill(location, pictures)
    filled_s = time.perf_counter() - start_s
    command = [sys.executable, "-m", "tests.bench.bench_store", "--load", str(location)]
    command += [] if knowledge else ["--snapshot-only"]
    loaded = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return {
        "store": "sqlite" if isinstance(location, Path) else "postgresql",
        "pictures": pictures,
        "fill_s": round(filled_s, 1),
        **json.loads(loaded.stdout),
    }


def main() -> None:
    """Prints the measurements of each store, and writes bench/store.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument(
        "--snapshot-only", action="store_true", help="Leave out the knowledge, which takes minutes."
    )
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        loaded = load(store_location(arguments.load), knowledge=not arguments.snapshot_only)
        print(json.dumps(loaded | texts()))
        return
    rows = []
    for pictures in arguments.pictures:
        for kind in arguments.stores:
            with (
                tempfile.TemporaryDirectory(prefix="pagesight-bench-") as folder,
                _store(kind, Path(folder)) as location,
            ):
                row = measure(location, pictures, knowledge=not arguments.snapshot_only)
            print(row, flush=True)
            rows.append({**row, **machine()})
    out = Path("bench")
    out.mkdir(exist_ok=True)
    (out / "store.json").write_text(json.dumps(rows, indent=1), "utf-8")


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[StoreLocation]:
    """Where a store may be made."""
    if kind == "sqlite":
        yield folder / "gallery.db"
        return
    server = server_or_reason()
    if isinstance(server, str):
        raise SystemExit(server)
    with closing(server):
        yield server.new_store()


if __name__ == "__main__":
    main()
