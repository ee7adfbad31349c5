"""Start of a replica: how long a gallery takes from its store to its first answer, and what memory.

    made-up pages ──> store (SQLite, PostgreSQL) ──a process──> calibration               s
                           └──another process──> snapshot, index, knowledge               s, MB
                                                     └──> a query, a picture more         ms

The first process calibrates the gallery and keeps that in the store, as the first replica does;
the other one is what every later start costs. *Snapshot*: what all pictures look like, and the
texts of the sample; *index*: the vectors made ready for an exact search, where no index of codes
lies on the disk; *knowledge*: what is learnt of both. Pages are those of bench_knowledge.py, with
embeddings of 384 values, as many of each label. CPU seconds are of this process: a PostgreSQL on
the same machine has its own.

OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.bench.bench_store --pictures 10000 100000
OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.bench.bench_store --pictures 1000000 \
    --stores sqlite
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from pagesight_server.gallery import Gallery
from pagesight_server.gallery.digests import digest
from pagesight_server.gallery.location import StoreLocation, store_location
from pagesight_server.gallery.snapshot import Changes, Snapshot
from pagesight_server.gallery.tables import TABLES
from pagesight_server.gallery.text_sample import TEXTS_PER_LABEL
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.vectors import Vectors
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.knowledge import load_knowledge
from tests.bench.bench_knowledge import BUNDLES, Drawn, answer
from tests.bench.measure import machine, own_cpu_s, rss_mb
from tests.support.postgres import server_or_reason

DIMENSION = 384
"""Values of an embedding: those of a compact encoder. The built-in one has 1,664, which takes 2.5
kB a picture more where the vectors are held as they are stored."""

TEXTS = 500
"""Texts that are drawn of one label; its other pictures show them again."""

ROWS_AT_A_TIME = 2_000
"""Pictures of one transaction when a store is made."""

QUERIES, ENROLMENTS = 30, 3
"""Repetitions of what takes milliseconds."""

EPSILON = 0.05

GIVEN = Calibration(
    epsilon=EPSILON,
    pictures=2_000,
    guaranteed=True,
    threshold_with_text=0.5,
    threshold_without_text=0.5,
)
"""Stands for the calibration that the store has, where none is to be made."""

INSERTS = {table.name: table.insert for table in TABLES}

Rows = defaultdict[str, list[dict[str, Any]]]


def fill(location: StoreLocation, pictures: int, labels: int, *, kept_bytes: int = 0) -> None:
    """Makes a store of so many pictures in one gallery.

    Args:
        location: Where.
        pictures: How many.
        labels: How many labels share them.
        kept_bytes: Size of each kept picture, of random bytes; 0: none is kept.
    """
    drawn = Drawn(dimension=DIMENSION)
    names = [f"label {number:05d}" for number in range(labels)]
    texts: dict[str, list[str]] = {name: [] for name in names}
    # In the order of their keys: a table in that order grows at its end alone.
    keys = sorted(hashlib.sha256(str(number).encode()).digest() for number in range(pictures))
    with closing(Gallery(location)) as store:
        for begin in range(0, pictures, ROWS_AT_A_TIME):
            rows: Rows = defaultdict(list)
            if not begin:
                _gallery(rows, pictures)
            for number in range(begin, min(begin + ROWS_AT_A_TIME, pictures)):
                label, turn = names[number % labels], number // labels
                if turn < TEXTS:
                    reading = drawn.picture(label)[0].reading
                    assert reading is not None
                    texts[label].append(reading.to_json())
                content = texts[label][turn % TEXTS], drawn.vector(label).tobytes()
                _picture(rows, keys[number], label, number, content, kept_bytes)
            with store.database.writing() as db:
                for name, sql in INSERTS.items():
                    if rows[name]:
                        db.executemany(sql, rows[name])


def _gallery(rows: Rows, pictures: int) -> None:
    """Adds the rows of the gallery and its one revision."""
    bundles = {"encoder_bundle": BUNDLES.encoder, "ocr_bundle": BUNDLES.ocr}
    rows["galleries"] += [{"name": "bench", "revision": 1, "deleted": 0, **bundles}]
    revision = {"revision": 1, "made_at_ms": 0, "author": "", "kind": "enrol", "summary": ""}
    rows["revisions"] += [{"gallery": "bench", "images": pictures, **revision}]


def _picture(
    rows: Rows, key: bytes, label: str, number: int, content: tuple[str, bytes], kept_bytes: int
) -> None:
    """Adds the rows of one more picture."""
    reading, vector = content
    data = os.urandom(kept_bytes) if kept_bytes else None
    kept = {"form": "original" if data else "none", "size_bytes": kept_bytes}
    rows["images"] += [{"id": key, "width_px": 1080, "height_px": 2400, "bytes": data}]
    rows["kept"] += [{"image_id": key, "thumbnail_sha256": None, "stored_at_ms": 0, **kept}]
    encoder, ocr = BUNDLES.encoder, BUNDLES.ocr
    sha256 = digest(key, encoder, vector)
    rows["embeddings"] += [{"image_id": key, "bundle": encoder, "vector": vector, "sha256": sha256}]
    sha256 = digest(key, ocr, reading.encode())
    rows["readings"] += [{"image_id": key, "bundle": ocr, "reading": reading, "sha256": sha256}]
    rows["memberships"] += [
        {
            "gallery": "bench",
            "image_id": key,
            "label": label,
            "source": f"{label}/{number:07d}.png",
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


def load(location: StoreLocation, texts_per_label: int, *, given: bool) -> dict[str, float]:
    """Reads a store as a replica does when it starts; for a process of its own."""
    stages = _Stages()
    index = IndexManager()
    with closing(Gallery(location, texts_per_label=texts_per_label)) as store:
        with stages.stage("snapshot"):
            snapshot = store.snapshot("bench", rounded=True)
        with stages.stage("index"):
            snapshot = _indexed(index, snapshot)
        with stages.stage("knowledge"):
            knowledge = (
                Knowledge.of(snapshot, calibration=GIVEN)
                if given
                else load_knowledge(store, "bench", "pagesight", EPSILON, snapshot=snapshot)
            )
        stages.row |= _answers(knowledge)
    index.close()
    return stages.row | {"peak_mb": round(_peak_mb())}


def _indexed(index: IndexManager, snapshot: Snapshot) -> Snapshot:
    """The snapshot with vectors that can be searched."""
    assert isinstance(snapshot.embeddings, Vectors)
    halves = snapshot.embeddings.layout.generation.halves
    ids = [picture.image_id for picture in snapshot.pictures]
    return replace(snapshot, embeddings=index.vectors("bench", BUNDLES.encoder, ids, halves))


def _answers(knowledge: Knowledge) -> dict[str, float]:
    """CPU milliseconds of a query, and of a picture more until it is answered from."""
    drawn = Drawn(seed=1, dimension=DIMENSION)
    labels = knowledge.snapshot.labels
    queries, enrolments = [], []
    for turn in range(QUERIES):
        rows = knowledge.snapshot.sample[labels[turn * 7 % len(labels)]]
        row = rows[turn % len(rows)]
        picture = knowledge.snapshot.pictures[row]
        begin_s = time.thread_time()
        answer(knowledge, picture, knowledge.snapshot.embeddings[row].astype("f2"))
        queries.append(1000 * (time.thread_time() - begin_s))
    for turn in range(ENROLMENTS):
        picture, vector = drawn.picture(labels[turn % len(labels)])
        revision = knowledge.snapshot.revision + 1
        image_id = hashlib.sha256(f"new {turn}".encode()).hexdigest()
        changes = Changes(
            revision=revision,
            bundles=BUNDLES,
            left=(),
            joined=(replace(picture, image_id=image_id, added_revision=revision),),
            halves=vector[None],
            facts={},
        )
        begin_s = time.thread_time()
        knowledge = Knowledge.of(
            knowledge.snapshot.after(changes),
            calibration=knowledge.calibration,
            before=knowledge,
            refit=False,
        )
        answer(knowledge, picture, vector)
        enrolments.append(1000 * (time.thread_time() - begin_s))
    return {"query_ms": round(median(queries), 1), "enrol_ms": round(median(enrolments), 1)}


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


def _peak_mb() -> float:
    """The most memory that this process has had, in MB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    location: StoreLocation, pictures: int, labels: int, texts_per_label: int, *, given: bool
) -> dict[str, Any]:
    """Fills a store and loads it in processes of their own, first without its calibration.

    Args:
        location: Where the store is made.
        pictures: How many.
        labels: How many labels share them.
        texts_per_label: Pictures of a label at most whose text is learnt from.
        given: Whether the calibration is made up, so that none is made.
    """
    start_s = time.perf_counter()
    fill(location, pictures, labels)
    filled_s = time.perf_counter() - start_s
    first = again = _loaded(location, texts_per_label, given=given)
    if not given:
        again = _loaded(location, texts_per_label, given=False)
    return {
        "store": "sqlite" if isinstance(location, Path) else "postgresql",
        "pictures": pictures,
        "labels": labels,
        "texts_per_label": texts_per_label,
        "fill_s": round(filled_s, 1),
        "calibration_cpu_s": None
        if given
        else round(first["knowledge_cpu_s"] - again["knowledge_cpu_s"], 1),
        **again,
    }


def _loaded(location: StoreLocation, texts_per_label: int, *, given: bool) -> dict[str, float]:
    """What `load` measures in another process."""
    command = [sys.executable, "-m", "tests.bench.bench_store", "--load", str(location)]
    command += ["--texts-per-label", str(texts_per_label)]
    command += ["--given-calibration"] if given else []
    loaded: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    )
    return loaded


def main() -> None:
    """Prints the measurements of each store, and writes bench/store.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--texts-per-label", type=int, default=TEXTS_PER_LABEL)
    parser.add_argument(
        "--given-calibration", action="store_true", help="Make none: it takes minutes."
    )
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        location, given = store_location(arguments.load), arguments.given_calibration
        print(json.dumps(load(location, arguments.texts_per_label, given=given)))
        return
    rows = []
    for pictures in arguments.pictures:
        for kind in arguments.stores:
            with (
                tempfile.TemporaryDirectory(prefix="pagesight-bench-") as folder,
                _store(kind, Path(folder)) as location,
            ):
                row = measure(
                    location,
                    pictures,
                    arguments.labels,
                    arguments.texts_per_label,
                    given=arguments.given_calibration,
                )
            print(row, flush=True)
            rows.append({**row, **texts(), **machine()})
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
