"""Wrong answers as pictures for the docs: each screenshot beside the closest gallery picture.

    SET/test, STORE, FEATURES ──classify again──> findings ──boxes──> OUT/<name>.webp

Only generated pages are shown, as their text is made up. Boxes are green where both show a text,
red where it is new to the page, amber where most pictures of the page show it and the screenshot
does not.

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
"""Width of each of the two pictures, their largest height, and the gap between them. They fit the
830 pixels of a page's width without scaling, so that the text stays legible."""

HEAD_PX, CAPTION_PX = 30, 32
"""Heights of the line above each picture and of the one below both."""

MAX_BYTES = 60_000
"""Largest file: the pictures are stored in the repository."""
QUALITIES = (70, 60, 50, 40, 30)
"""WebP qualities, tried in turn until the file is small enough."""

COLOURS: Mapping[FindingKind, str] = {
    "agrees": "#1a9c4b",
    "forbids": "#d3261f",
    "missing": "#d98a00",
}


def main() -> None:
    """Writes one picture for each NAME=PATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("set", type=Path, help="Folder that `python -m tests.samples` drew.")
    parser.add_argument("store", type=Path, help="Store that `pagesight-server index` made of it.")
    parser.add_argument(
        "features", type=Path, help="File of `pagesight-server evaluate --features`."
    )
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "answers", nargs="+", metavar="NAME=PATH", help="Name of the picture, and prefix of a path."
    )
    arguments = parser.parse_args()
    prefixes = dict(answer.split("=", 1) for answer in arguments.answers)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(arguments.set, arguments.store, arguments.features, prefixes):
        target = arguments.out / f"{name}.webp"
        target.write_bytes(small(picture))
        print(f"{target}: {target.stat().st_size} bytes")


def pictures(
    folder: Path, store_file: Path, features_file: Path, prefixes: Mapping[str, str]
) -> Iterator[tuple[str, Image.Image]]:
    """Classifies some test images of a set again, and draws each answer.

    Args:
        folder: The set.
        store_file: The store of its gallery.
        features_file: The feature cache of its evaluation.
        prefixes: How the path of the test image below `test/` begins, by name of the picture.
    """
    recognition = Config().recognition
    with wiring.opened(store_file, must_exist=True) as store:
        knowledge = load_knowledge(store, DEFAULT_GALLERY, recognition.method, recognition.epsilon)
        cache = FeatureFile(features_file, knowledge.snapshot.bundles)
        for name, prefix in prefixes.items():
            (path,) = folder.glob(f"test/{prefix}*")
            data = path.read_bytes()
            features = asyncio.run(cache.get((hashlib.sha256(data).digest(), True), _not_cached))
            query = Query(embedding=features.embedding, reading=features.reading)
            candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
            decision = decide(candidates, knowledge.calibration, with_text=True)
            findings = explain(knowledge, query, decision).findings
            closest = knowledge.snapshot.pictures[decision.candidates[0].row]
            original = store.image_bytes(closest.image_id)
            if original is None:
                raise SystemExit(f"{store_file} stores no pictures: index with keep_images")
            yield name, beside(data, original, path.parent.name, decision, findings)
        cache.close()


async def _not_cached() -> NoReturn:
    raise SystemExit("a picture is not in FEATURES: evaluate the set with --features first")


def beside(
    query: bytes, closest: bytes, truth: str, decision: Decision, findings: Sequence[Finding]
) -> Image.Image:
    """Both pictures side by side with boxes, their labels above and the decision below."""
    sides = [
        (f"screenshot of {truth}", _boxed(query, query_marks(findings))),
        (f"picture of {decision.closest_label}", _boxed(closest, gallery_marks(findings))),
    ]
    height = max(shot.height for _, shot in sides)
    canvas = Image.new("RGB", (2 * SIDE_PX + GAP_PX, HEAD_PX + height + CAPTION_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (head, shot) in enumerate(sides):
        left = number * (SIDE_PX + GAP_PX)
        draw.text((left + 2, 4), head, "black", ImageFont.truetype(font_path(bold=True), 17))
        canvas.paste(shot, (left, HEAD_PX))
    below = caption(truth, decision)
    draw.text(
        (2, HEAD_PX + height + 5), below, "black", ImageFont.truetype(font_path(bold=False), 16)
    )
    return canvas


def caption(truth: str, decision: Decision) -> str:
    """The decision on a screenshot, in one line."""
    best = decision.candidates[0]
    text = f"answered other, closest {best.label}: " if decision.label == OTHER else "accepted: "
    text += f"{decision.score:.2f}"
    if best.names.missing_nats > WORTH_TELLING:
        likeness = best.without_terms(NAME_TERMS).score
        text += f" ({likeness:.2f}, less {likeness - best.score:.2f}: no brand name visible)"
    text += f", limit {decision.threshold:.2f}"
    ranked = [candidate.label for candidate in decision.candidates]
    return text + (f"; {truth} ranks {ranked.index(truth) + 1}" if truth in ranked[1:] else "")


def _boxed(data: bytes, marks: Sequence[tuple[Box, Finding]]) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        scale = SIDE_PX / picture.width
        shot = picture.convert("RGB").resize(
            (SIDE_PX, round(picture.height * scale)), Image.Resampling.LANCZOS
        )
    draw = ImageDraw.Draw(shot)
    # Agreeing texts are drawn first, so that the decisive ones are on top.
    for box, finding in sorted(marks, key=lambda mark: mark[1].kind):
        left, top, right, bottom = (round(edge * scale) for edge in box)
        draw.rectangle(
            (max(1, left - 2), top - 1, min(SIDE_PX - 2, right + 1), bottom),
            outline=COLOURS[finding.kind],
            width=2,
        )
    return shot.crop((0, 0, SIDE_PX, min(shot.height, HEIGHT_PX)))


def small(picture: Image.Image) -> bytes:
    """The picture as WebP, of the best quality at which it has at most `MAX_BYTES`."""
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality, method=6)
        if file.tell() <= MAX_BYTES:
            return file.getvalue()
    raise SystemExit(f"a picture takes {file.tell()} bytes, more than {MAX_BYTES}")


if __name__ == "__main__":
    main()
