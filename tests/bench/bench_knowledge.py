"""Cost of a gallery's knowledge: at start, for each enrolment, for each answer.

    synthetic pages ──> Snapshot ──Knowledge──> queries                          ms per query
                       └─one more picture──> Snapshot ──Knowledge──> query      ms per enrolment

The pages are lines of made-up Chinese words: of each label a dozen that it always shows, some that
all labels share, and some that every picture has for itself (names, addresses, amounts).

OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.bench.bench_knowledge --labels 22 200 1000
OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.bench.bench_knowledge --labels 1 --pictures 10000

The variable is what the server sets for itself (`pagesight_server/__init__.py`); here numpy comes
first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pagesight_server.gallery.snapshot import Bundles, Changes, Picture, Snapshot
from pagesight_server.index.layered import FlatBase
from pagesight_server.index.vectors import Generation, Halves, Vectors
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.telemetry.drift import Drifts
from pagesight_server.text.reading import Box, Reading, TextLine
from tests.bench.measure import machine, rss_mb

DIMENSION = 1_664
"""Dimension of the built-in encoder's embeddings."""

WORDS, SHARED, OWN, VARIABLE = 1_500, 8, 12, 6
"""Size of the vocabulary; lines of a page that other labels share, that are specific to its label,
and that are specific to the picture."""

ENROLMENTS, QUERIES, ANSWERS = 12, 30, 20_000
"""Repetitions of each measurement, which take milliseconds, milliseconds and microseconds each."""

BUNDLES = Bundles(encoder="bench", ocr="bench")


class Drawn:
    """Generates pages of made-up words; those of one label share lines.

    Args:
        seed: Of all that is drawn.
        dimension: Values of an embedding.
    """

    def __init__(self, seed: int = 0, *, dimension: int = DIMENSION) -> None:
        self._dimension = dimension
        self._random = random.Random(seed)
        self._vectors = np.random.Generator(np.random.PCG64(seed))
        self._words = ["".join(self._characters(2)) for _ in range(WORDS)]
        self._pool = [self._line(2) for _ in range(60)]
        self._own: dict[str, list[str]] = {}
        self._centres: dict[str, NDArray[np.float64]] = {}
        self._made = 0

    def picture(self, label: str) -> tuple[Picture, Halves]:
        """Draws a picture of a label and its embedding, in half precision as it is stored."""
        if label not in self._own:
            self._own[label] = self._page()
        own = self._own[label]
        variable = [f"{''.join(self._characters(8))}{self._random.randrange(10**6)}"]
        variable += [
            "".join(self._characters(self._random.randint(3, 14))) for _ in range(VARIABLE - 1)
        ]
        texts = own + variable
        self._random.shuffle(texts)
        lines = [
            TextLine(text, 0.98, Box(40, 100 + 60 * i, 40 + 30 * len(text), 140 + 60 * i))
            for i, text in enumerate(texts)
        ]
        self._made += 1
        picture = Picture(
            image_id=f"{self._made:064x}",
            label=label,
            source="",
            author="",
            added_at_ms=0,
            added_revision=1,
            reading=Reading(width_px=1080, height_px=2400, lines=tuple(lines)),
        )
        return picture, self.vector(label)

    def vector(self, label: str) -> Halves:
        """Draws what a picture of a label looks like."""
        if label not in self._centres:
            self._centres[label] = self._vectors.standard_normal(self._dimension)
        vector = self._centres[label] + 0.5 * self._vectors.standard_normal(self._dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float16)

    def _page(self) -> list[str]:
        brand = "".join(self._characters(3))
        own = [self._line(self._random.randint(2, 5)) for _ in range(OWN)]
        own[:3] = [line[:4] + brand + line[4:] for line in own[:3]]
        return own + self._random.sample(self._pool, SHARED)

    def _line(self, words: int) -> str:
        return "".join(self._random.choice(self._words) for _ in range(words))

    def _characters(self, count: int) -> list[str]:
        return [chr(0x4E00 + self._random.randrange(3_000)) for _ in range(count)]


def measure(labels: int, pictures: int, *, calibrated: bool) -> dict[str, object]:
    """Measures a gallery with this number of labels, and of pictures per label.

    Args:
        labels: Number of labels.
        pictures: Pictures of each label.
        calibrated: Whether to measure calibration as well, which takes minutes.
    """
    drawn = Drawn()
    names = [f"label {i:05d}" for i in range(labels)]
    gallery = [drawn.picture(name) for name in names for _ in range(pictures)]
    snapshot = Snapshot(
        gallery="bench",
        revision=1,
        encoder_bundle="bench",
        ocr_bundle="bench",
        pictures=tuple(picture for picture, _ in gallery),
        embeddings=exact_vectors(np.stack([vector for _, vector in gallery])),
        facts={},
    )
    calibration = Calibration(
        epsilon=0.05,
        pictures=labels * pictures,
        guaranteed=True,
        threshold_with_text=0.5,
        threshold_without_text=0.5,
    )
    row: dict[str, object] = {"labels": labels, "pictures": labels * pictures}
    before_mb = rss_mb(os.getpid())
    start = time.perf_counter()
    knowledge = Knowledge.of(snapshot, calibration=calibration)
    row["start_s"] = round(time.perf_counter() - start, 3)
    row["memory_mb"] = round(rss_mb(os.getpid()) - before_mb, 1)

    queries = [drawn.picture(names[i % labels]) for i in range(QUERIES)]
    took = []
    for picture, vector in queries:
        start = time.perf_counter()
        answer(knowledge, picture, vector)
        took.append(1000 * (time.perf_counter() - start))
    row["query_ms"] = round(median(took), 2)
    row["query_max_ms"] = round(max(took), 2)

    took = []
    for turn in range(ENROLMENTS):
        # A picture of an enrolled label, and every third time one of a new label.
        label = f"new {turn}" if turn % 3 == 2 else names[turn * 7 % labels]
        picture, vector = drawn.picture(label)
        changes = Changes(
            revision=knowledge.snapshot.revision + 1,
            bundles=BUNDLES,
            left=(),
            joined=(picture,),
            halves=vector[None],
            facts={},
        )
        start = time.perf_counter()
        knowledge = Knowledge.of(
            knowledge.snapshot.after(changes),
            calibration=calibration,
            before=knowledge,
            refit=False,
        )
        assert answer(knowledge, picture, vector) == label
        took.append(1000 * (time.perf_counter() - start))
    row["enrol_ms"] = round(median(took), 1)
    row["enrol_max_ms"] = round(max(took), 1)
    query = Query(embedding=vector.astype(np.float32), reading=None)
    decision = decide(
        knowledge.method.weigh(query, knowledge.method.search(query.embedding)),
        calibration,
        with_text=False,
    )
    watched = replace(calibration, scores_without_text=tuple(n / 100 for n in range(101)))
    drifts = Drifts()
    start = time.perf_counter()
    for _ in range(ANSWERS):
        drifts.add("bench", watched, decision, with_text=False)
    row["drift_us"] = round(1e6 * (time.perf_counter() - start) / ANSWERS, 2)
    if calibrated:
        start = time.perf_counter()
        Knowledge.of(knowledge.snapshot, before=knowledge)
        row["calibration_s"] = round(time.perf_counter() - start, 1)
    return row


def exact_vectors(vectors: Halves) -> Vectors:
    """The vectors of a gallery, with exhaustive search."""
    return Vectors.of_generation(Generation(halves=vectors, base=FlatBase(vectors)))


def answer(knowledge: Knowledge, picture: Picture, vector: Halves) -> str:
    """The label that a screenshot is closest to."""
    query = Query(embedding=vector.astype(np.float32), reading=picture.reading)
    candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    return decide(candidates, knowledge.calibration, with_text=True).closest_label


def main() -> None:
    """Prints the measurements for each number of labels, and writes bench/knowledge.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labels", type=int, nargs="+", default=[22, 200, 1_000])
    parser.add_argument("--pictures", type=int, default=10, help="Pictures of each label.")
    parser.add_argument(
        "--calibrate", action="store_true", help="Measure calibration as well: minutes."
    )
    arguments = parser.parse_args()
    rows = []
    for labels in arguments.labels:
        row = measure(labels, arguments.pictures, calibrated=arguments.calibrate)
        print(row, flush=True)
        rows.append({**row, **machine()})
    out = Path("bench")
    out.mkdir(exist_ok=True)
    (out / "knowledge.json").write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
