"""What a bounded sample of texts costs in answers: galleries of many pictures a label, drawn.

    sample pages ──take──> picture ──encoder──────────────> embedding ─┐
                     └──what was drawn, a little misread──> reading ───┴─> gallery, tests
    gallery ──texts_per_label: each of some──> answers ──> agreement with those of all texts

Pages are those of tests/samples, a few labels with many pictures each, of which the last few, and
every second test, show a redesign of the app. Reading a thousand pictures takes a quarter of an
hour, so their text is what was drawn on them, less a line in twenty and with a character in fifty
misread, which is what OCR makes of such pages (docs/benchmarks.md, Reading). Pictures are drawn
and seen once, a third of a CPU-second each; the next run takes what bench/text_sample.pickle holds.

OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.bench.bench_text_sample
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pagesight_server.common.arrays import Embedding
from pagesight_server.gallery.snapshot import LabelFacts, Picture, Snapshot, is_reserved
from pagesight_server.inference import bundle
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Box, Reading, TextLine, in_reading_order
from tests.bench.bench_knowledge import exact_vectors
from tests.bench.measure import machine
from tests.samples import finance, lookalikes, variation
from tests.samples.blocks import Page
from tests.samples.brands import brand_of, invented, twin
from tests.samples.canvas import Canvas
from tests.samples.catalog import DEMO_LABELS
from tests.samples.drawing import NO_TWIN, known_page
from tests.samples.screen import take
from tests.samples.values import Values

CACHE = Path("bench/text_sample.pickle")
WIDTH_PX = 720
MISSED_LINES, MISREAD_CHARACTERS = 1 / 20, 1 / 50
KINDS = ("other_finance", "other_lookalike", "other_whitelabel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A drawn picture as recognition sees it."""

    label: str
    """Or the kind of unknown page."""
    newer: bool
    """Whether it shows the redesign."""
    embedding: Embedding
    reading: Reading


@contextmanager
def recorded() -> Iterator[list[tuple[Canvas, str, Box]]]:
    """Lists the texts that canvases write within its block, each with its canvas and box."""
    written: list[tuple[Canvas, str, Box]] = []
    write = Canvas.text

    def text(
        self: Canvas, x: float, y: float, text: str, size: float, *rest: Any, **more: Any
    ) -> float:
        width = write(self, x, y, text, size, *rest, **more)
        if not self._dry and text:
            left = x - width * {"left": 0.0, "middle": 0.5, "right": 1.0}[more.get("align", "left")]
            right, bottom = left + width, y + self.line_height(size)
            written.append((self, text, Box(*map(self.px, (left, y, right, bottom)))))
        return width

    Canvas.text = text  # type: ignore[method-assign]
    try:
        yield written
    finally:
        Canvas.text = write  # type: ignore[method-assign]


def see(encoder: Encoder, page: Page, rng: random.Random, label: str, *, newer: bool) -> Seen:
    """Draws a page as a phone may show it, unscrolled, and takes its features."""
    shot = replace(variation.shot(rng, width=WIDTH_PX), scroll=0.0, status=True)
    over = variation.overlay(rng, typing=label.endswith("user_info"))
    with recorded() as written:
        image = take(page, shot, over)
    lines = [
        TextLine(_misread(text, rng), 0.95, box)
        for _, text, box in written
        if box.top < image.height and rng.random() >= MISSED_LINES
    ]
    pixels = np.asarray(image)
    [embedding] = encoder.run([encoder.prepare(pixels)])
    reading = Reading(width_px=image.width, height_px=image.height, lines=in_reading_order(lines))
    return Seen(label=label, newer=newer, embedding=embedding, reading=reading)


def _misread(text: str, rng: random.Random) -> str:
    return "".join(
        chr(rng.randrange(0x4E00, 0x5E00)) if rng.random() < MISREAD_CHARACTERS else one
        for one in text
    )


def draw(old: int, newer: int, tests: int, unknown: int) -> tuple[list[Seen], list[Seen]]:
    """The pictures of a gallery, in the order of their enrolment, and those that test it."""
    encoder = Encoder(bundle.load(Path("bundles/encoder"), "encoder"), Compute(threads=1))
    gallery: list[Seen] = []
    asked: list[Seen] = []
    for number in range(old + newer + tests):
        for label in DEMO_LABELS:
            rng = random.Random(f"{label} {number}")
            is_test = number >= old + newer
            new = number % 2 == 1 if is_test else number >= old
            page = known_page(label, f"sample {number}", version="new" if new else "old")
            seen = see(encoder, page, rng, label, newer=new)
            (asked if is_test else gallery).append(seen)
    for number in range(unknown):
        for kind in KINDS:
            rng = random.Random(f"{kind} {number}")
            asked.append(see(encoder, _unknown(kind, number, rng), rng, kind, newer=False))
    return gallery, asked


def _unknown(kind: str, number: int, rng: random.Random) -> Page:
    values = Values(f"{kind} {number}")
    if kind == "other_lookalike":
        return lookalikes.lookalike(values, invented(rng))
    if kind == "other_finance":
        return finance.FINANCE[number % len(finance.FINANCE)](values, invented(rng))
    able = [label for label in DEMO_LABELS if label not in NO_TWIN]
    label = able[number % len(able)]
    return known_page(label, f"twin {number}", brand=twin(brand_of(label), rng))


def snapshot_of(gallery: Sequence[Seen], *, brands: bool) -> Snapshot:
    """The gallery, each picture enrolled by a revision of its own."""
    numbered = [
        (hashlib.sha256(str(number).encode()).hexdigest(), number, seen)
        for number, seen in enumerate(gallery)
    ]
    numbered.sort(key=lambda one: (one[2].label, one[0]))
    halves = np.stack([seen.embedding for _, _, seen in numbered]).astype(np.float16)
    return Snapshot(
        gallery="bench",
        revision=len(gallery),
        encoder_bundle="bench",
        ocr_bundle="bench",
        pictures=tuple(
            Picture(
                image_id=image_id,
                label=seen.label,
                source="",
                author="",
                added_at_ms=0,
                added_revision=1 + number,
                reading=seen.reading,
            )
            for image_id, number, seen in numbered
        ),
        embeddings=exact_vectors(halves),
        facts={label: LabelFacts(brands=tuple(brand_of(label).words)) for label in DEMO_LABELS}
        if brands
        else {},
    )


def measure(
    snapshot: Snapshot, asked: Sequence[Seen], texts_per_label: int | None
) -> tuple[dict[str, Any], list[Decision]]:
    """Answers all that is asked by a gallery whose texts are sampled so."""
    begin_s = time.process_time()
    knowledge = Knowledge.of(replace(snapshot, texts_per_label=texts_per_label))
    made_s = time.process_time() - begin_s
    decisions, took_ms = [], []
    for seen in asked:
        query = Query(embedding=seen.embedding, reading=seen.reading)
        begin_s = time.process_time()
        candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
        decisions.append(decide(candidates, knowledge.calibration, with_text=True))
        took_ms.append(1000 * (time.process_time() - begin_s))

    def share(flags: list[bool]) -> float:
        return round(sum(flags) / len(flags), 4)

    pairs = list(zip(asked, decisions, strict=True))
    known = [(seen, one) for seen, one in pairs if not is_reserved(seen.label)]
    row = {
        "texts_per_label": texts_per_label,
        "right": share([one.closest_label == seen.label for seen, one in known]),
        "right_newer": share(
            [one.closest_label == seen.label for seen, one in known if seen.newer]
        ),
        "false_rejection": share([one.label == "other" for _, one in known]),
        "false_rejection_newer": share([one.label == "other" for seen, one in known if seen.newer]),
        "unknown_rejected": share(
            [one.label == "other" for seen, one in pairs if is_reserved(seen.label)]
        ),
        "threshold": round(knowledge.calibration.threshold_with_text, 4),
        "calibrated_by": knowledge.calibration.pictures,
        "knowledge_cpu_s": round(made_s, 1),
        "query_ms": round(median(took_ms), 1),
    }
    return row, decisions


def main() -> None:
    """Prints a row for each bound, and writes bench/text_sample.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=80, help="Of each label.")
    parser.add_argument("--newer", type=int, default=4, help="And so many of its redesign.")
    parser.add_argument("--tests", type=int, default=12, help="Of each label.")
    parser.add_argument("--unknown", type=int, default=8, help="Of each kind.")
    parser.add_argument("--texts-per-label", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--without-brands", action="store_true", help="As if nobody gave any.")
    arguments = parser.parse_args()
    asked_for = (arguments.pictures, arguments.newer, arguments.tests, arguments.unknown)
    CACHE.parent.mkdir(exist_ok=True)
    kept = pickle.loads(CACHE.read_bytes()) if CACHE.is_file() else None
    if kept is None or kept[0] != asked_for:
        kept = asked_for, draw(*asked_for)
        CACHE.write_bytes(pickle.dumps(kept))
    gallery, asked = kept[1]
    snapshot = snapshot_of(gallery, brands=not arguments.without_brands)
    whole_row, whole = measure(snapshot, asked, None)
    rows = []
    for texts_per_label in (None, *arguments.texts_per_label):
        row, decisions = whole_row, whole
        if texts_per_label is not None:
            row, decisions = measure(snapshot, asked, texts_per_label)
        pairs = list(zip(decisions, whole, strict=True))
        moves = [abs(one.score - other.score) for one, other in pairs]
        row |= {
            "same_answer": sum(one.label == other.label for one, other in pairs),
            "same_closest": sum(one.closest_label == other.closest_label for one, other in pairs),
            "of": len(pairs),
            "score_moves": round(float(np.median(moves)), 4),
        }
        print(row, flush=True)
        rows.append(row)
    Path("bench/text_sample.json").write_text(json.dumps({"rows": rows, **machine()}, indent=1))


if __name__ == "__main__":
    main()
