"""Wrong answers as pictures for the docs: each screenshot beside the closest gallery picture.

    drawn set ──features of bench-recognition, or read anew──> answers ──> what is wrong, listed
                                   NAME=PATH ──findings, boxes──> OUT/<name>.webp

Only drawn pages are shown, as their text is made up. Boxes are green where both show a text, red
where it is new to the page, amber where most pictures of the page show it and the screenshot does
not.

    python -m tests.bench.failures 202:10:4:12
    python -m tests.bench.failures 202:10:4:12 --out docs/pictures redesigned=dyfxj_user_info/c4b7
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pagesight_server.config import read_config
from pagesight_server.evaluation.html import gallery_marks, query_marks
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.candidates import NAME_TERMS, Query
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.explanation import WORTH_TELLING, explain
from pagesight_server.recognition.findings import Finding, FindingKind
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Box
from tests.bench.recognition.sets import Drawing, ScreenSet, open_reader
from tests.samples.fonts import font_path

BENCH = Path("bench")

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
    """Lists the wrong answers on a drawn set, and writes one picture for each NAME=PATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("drawing", type=Drawing.parse, metavar="SEED:GALLERY:TEST:OTHER")
    parser.add_argument("--without-brands", action="store_true", help="as if without labels.toml")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=BENCH / "failures", metavar="DIR")
    parser.add_argument(
        "answers", nargs="*", metavar="NAME=PATH", help="Name of the picture, and prefix of a path."
    )
    options = parser.parse_intermixed_args()
    prefixes = dict(answer.split("=", 1) for answer in options.answers)
    folder = options.drawing.draw(BENCH / "drawn")
    screens = asyncio.run(_read(options.drawing.name, folder, options.bundles))
    if options.without_brands:
        screens = screens.without_brands()
    knowledge = Knowledge.of(screens.snapshot)
    if not prefixes:
        for path, line in wrong(screens, knowledge):
            print(f"{path}: {line}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(screens, knowledge, folder, prefixes):
        target = options.out / f"{name}.webp"
        target.write_bytes(small(picture))
        print(f"{target}: {target.stat().st_size} bytes")


async def _read(name: str, folder: Path, bundles: Path) -> ScreenSet:
    features = BENCH / "features"
    features.mkdir(parents=True, exist_ok=True)
    async with open_reader(read_config(None, {"bundles": bundles}), features) as reader:
        return await reader.read(name, folder)


def decision_on(knowledge: Knowledge, query: Query) -> Decision:
    """The answer to one screenshot that is seen and read."""
    candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    return decide(candidates, knowledge.calibration, with_text=True)


def wrong(screens: ScreenSet, knowledge: Knowledge) -> Iterator[tuple[str, str]]:
    """Path and caption of each test screenshot that is answered wrongly."""
    known = set(screens.snapshot.labels)
    for test in screens.tests:
        decision = decision_on(knowledge, test.query)
        right = test.truth if test.truth in known else OTHER
        if decision.label != right:
            yield test.path, caption(test.truth, decision)


def pictures(
    screens: ScreenSet, knowledge: Knowledge, folder: Path, prefixes: Mapping[str, str]
) -> Iterator[tuple[str, Image.Image]]:
    """Draws the answers to some test screenshots of a set.

    Args:
        screens: The set.
        knowledge: Of its gallery.
        folder: Where its pictures are.
        prefixes: How the path of the test image below `test/` begins, by name of the picture.
    """
    files = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in folder.glob("gallery/*/*")
        if path.is_file()
    }
    for name, prefix in prefixes.items():
        (test,) = (test for test in screens.tests if test.path.startswith(prefix))
        decision = decision_on(knowledge, test.query)
        findings = explain(knowledge, test.query, decision).findings
        closest = knowledge.snapshot.pictures[decision.candidates[0].row]
        query = (folder / "test" / test.path).read_bytes()
        original = files[closest.image_id].read_bytes()
        yield name, beside(query, original, test.truth, decision, findings)


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
    likeness = best.without_terms(NAME_TERMS).score
    if best.names.replaced > WORTH_TELLING:
        text += f" ({likeness:.2f}, less {likeness - best.score:.2f}: another name is in its place)"
    elif best.names.missing_nats > WORTH_TELLING:
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
