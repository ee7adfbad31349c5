"""Wrong answers as pictures for the docs: each screenshot beside the page it was taken for.

    SET/test, STORE, FEATURES ──answer again──> findings ──boxes──> OUT/<name>.webp

Of drawn pages only, as their text is made up. Boxes are green where both show a text, red where
it is new to the page, amber where most pictures of the page show it and the screenshot does not.

    python -m tests.bench.failures SET STORE FEATURES docs/pictures no-name=dyfxj_user_info/c4b7
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from PIL import Image, ImageDraw, ImageFont

from pagesight_server import wiring
from pagesight_server.config import Config
from pagesight_server.evaluation import FeatureFile
from pagesight_server.evaluation.html import gallery_marks, query_marks
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY, OTHER
from pagesight_server.recognition.candidates import NAME_TERMS, Query
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.explanation import WORTH_TELLING, explain
from pagesight_server.recognition.findings import Finding, FindingKind
from pagesight_server.text.reading import Box
from pagesight_server.workflows.knowledge import load_knowledge
from tests.samples.fonts import font_path

SIDE_PX, HEIGHT_PX, GAP_PX = 400, 880, 20
"""Width of each of the two pictures, the most that is shown of their height, and what lies
between them. Shown at a page's width of 830 pixels, so that the text stays legible."""

HEAD_PX, CAPTION_PX = 30, 32
"""Heights of the line above each picture and of the one below both."""

MAX_BYTES = 60_000
QUALITIES = (70, 60, 50, 40, 30)
"""Tried in turn until the file is small enough."""

COLOURS: Mapping[FindingKind, str] = {
    "agrees": "#1a9c4b",
    "forbids": "#d3261f",
    "missing": "#d98a00",
}


def main() -> None:
    """Writes one picture for each NAME=PATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("set", type=Path, help="What `python -m tests.samples` drew.")
    parser.add_argument("store", type=Path, help="What `pagesight-server index` made of it.")
    parser.add_argument("features", type=Path, help="Of `pagesight-server evaluate --features`.")
    parser.add_argument("out", type=Path)
    parser.add_argument("answers", nargs="+", metavar="NAME=PATH", help="How the path begins.")
    arguments = parser.parse_args()
    wanted = dict(answer.split("=", 1) for answer in arguments.answers)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, made in pictures(arguments.set, arguments.store, arguments.features, wanted):
        target = arguments.out / f"{name}.webp"
        target.write_bytes(small(made))
        print(f"{target}: {target.stat().st_size} bytes")


def pictures(
    folder: Path, at: Path, features_file: Path, wanted: Mapping[str, str]
) -> Iterator[tuple[str, Image.Image]]:
    """Answers some test images of a set again, and draws each answer."""
    recognition = Config().recognition
    with wiring.opened(at, must_exist=True) as store:
        known = load_knowledge(store, DEFAULT_GALLERY, recognition.method, recognition.epsilon)
        seen = FeatureFile(features_file, known.snapshot.bundles)
        for name, begins in wanted.items():
            (path,) = folder.glob(f"test/{begins}*")
            data = path.read_bytes()
            features = asyncio.run(seen.get((hashlib.sha256(data).digest(), True), _unseen))
            query = Query(embedding=features.embedding, reading=features.reading)
            candidates = known.method.weigh(query, known.method.search(query.embedding))
            decision = decide(candidates, known.calibration, with_text=True)
            found = explain(known, query, decision).findings
            closest = known.snapshot.pictures[decision.candidates[0].row]
            kept = store.image_bytes(closest.image_id)
            if kept is None:
                raise SystemExit(f"{at} keeps no pictures: index with them")
            yield name, beside(data, kept, path.parent.name, decision, found)
        seen.close()


async def _unseen() -> NoReturn:
    raise SystemExit("a picture is not in FEATURES: evaluate the set with --features first")


def beside(
    asked: bytes, closest: bytes, truth: str, decision: Decision, found: Sequence[Finding]
) -> Image.Image:
    """Both pictures with boxes, above each what it is, and below what became of it."""
    sides = [
        (f"screenshot of {truth}", _boxed(asked, query_marks(found))),
        (f"picture of {decision.closest_label}", _boxed(closest, gallery_marks(found))),
    ]
    height = max(shot.height for _, shot in sides)
    made = Image.new("RGB", (2 * SIDE_PX + GAP_PX, HEAD_PX + height + CAPTION_PX), "white")
    draw = ImageDraw.Draw(made)
    for number, (head, shot) in enumerate(sides):
        left = number * (SIDE_PX + GAP_PX)
        draw.text((left + 2, 4), head, "black", ImageFont.truetype(font_path(bold=True), 17))
        made.paste(shot, (left, HEAD_PX))
    below = caption(truth, decision)
    draw.text(
        (2, HEAD_PX + height + 5), below, "black", ImageFont.truetype(font_path(bold=False), 16)
    )
    return made


def caption(truth: str, decision: Decision) -> str:
    """What became of a screenshot, in one line."""
    best = decision.candidates[0]
    told = f"answered other, closest {best.label}: " if decision.label == OTHER else "accepted: "
    told += f"{decision.score:.2f}"
    if best.names.missing_nats > WORTH_TELLING:
        likeness = best.without_terms(NAME_TERMS).score
        told += f" ({likeness:.2f}, less {likeness - best.score:.2f}: no brand name visible)"
    told += f", limit {decision.threshold:.2f}"
    ranked = [candidate.label for candidate in decision.candidates]
    return told + (f"; {truth} ranks {ranked.index(truth) + 1}" if truth in ranked[1:] else "")


def _boxed(data: bytes, marks: Sequence[tuple[Box, Finding]]) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        scale = SIDE_PX / picture.width
        shot = picture.convert("RGB").resize(
            (SIDE_PX, round(picture.height * scale)), Image.Resampling.LANCZOS
        )
    draw = ImageDraw.Draw(shot)
    # What agrees goes first, so that what decides lies on top.
    for box, finding in sorted(marks, key=lambda mark: mark[1].kind):
        left, top, right, bottom = (round(edge * scale) for edge in box)
        draw.rectangle(
            (max(1, left - 2), top - 1, min(SIDE_PX - 2, right + 1), bottom),
            outline=COLOURS[finding.kind],
            width=2,
        )
    return shot.crop((0, 0, SIDE_PX, min(shot.height, HEIGHT_PX)))


def small(made: Image.Image) -> bytes:
    """The picture as WebP, in the best quality in which it is small enough."""
    for quality in QUALITIES:
        sink = io.BytesIO()
        made.save(sink, "WEBP", quality=quality, method=6)
        if sink.tell() <= MAX_BYTES:
            return sink.getvalue()
    raise SystemExit(f"a picture takes {sink.tell()} bytes, more than {MAX_BYTES}")


if __name__ == "__main__":
    main()
