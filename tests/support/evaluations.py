"""Folders of test screenshots, and a pipeline of trivial stages: a colour is a page."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery.snapshot import Picture, Snapshot
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Box, Reading, TextLine
from pagesight_server.workflows.pipeline import Pipeline

RED, GREEN, BLUE, GREY = (220, 10, 10), (10, 220, 10), (10, 10, 220), (128, 128, 128)
COLOURS = {"red": RED, "green": GREEN, "蓝色": BLUE}


def png(colour: tuple[int, int, int], size: tuple[int, int] = (32, 64)) -> bytes:
    """A picture of one colour, as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def embed(pixels: Pixels) -> Embedding:
    """The mean colour as a unit vector."""
    mean = pixels.mean(axis=(0, 1), dtype=np.float32)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def read_words(pixels: Pixels) -> Reading:
    """Every picture says the same, but for its strongest colour."""
    height_px, width_px = pixels.shape[:2]
    strongest = ["red", "green", "blue"][int(pixels[0, 0].argmax())]
    lines = (TextLine(f"the {strongest} page", 0.9, Box(0, 0, 30, 9)),)
    return Reading(width_px=width_px, height_px=height_px, lines=lines)


def fake_decode(data: bytes) -> Pixels:
    """Decodes within the usual limits."""
    return decode(data, ImageLimits())


def picture(label: str, data: bytes) -> Picture:
    """A gallery picture, read as `read_words` reads it."""
    return Picture(
        image_id=hashlib.sha256(data).hexdigest(),
        label=label,
        source="",
        author="",
        added_at_ms=0,
        added_revision=1,
        reading=read_words(fake_decode(data)),
    )


def knowledge_of(pictures: dict[str, bytes], *, threshold: float = 0.9) -> Knowledge:
    """A gallery of these pictures by label, with a threshold as given."""
    snapshot = Snapshot(
        gallery="default",
        revision=4,
        encoder_bundle="encoder-1",
        ocr_bundle="ocr-1",
        pictures=tuple(picture(label, data) for label, data in sorted(pictures.items())),
        embeddings=np.stack([embed(fake_decode(data)) for _, data in sorted(pictures.items())])
        if pictures
        else np.empty((0, 3), np.float32),
        facts={},
    )
    calibration = Calibration(
        epsilon=0.05,
        pictures=100,
        guaranteed=True,
        threshold_with_text=threshold,
        threshold_without_text=threshold,
    )
    return Knowledge.of(snapshot, calibration=calibration)


GALLERY = knowledge_of({label: png(colour) for label, colour in COLOURS.items()})


def pipeline_over(
    knowledge: Knowledge = GALLERY, *, seen: Callable[[bytes], None] = lambda data: None
) -> Pipeline:
    """A pipeline over the gallery `default` alone; `seen` is given each file that it decodes."""

    def look_up(name: str) -> Knowledge:
        if name != "default":
            raise NotFoundError(f"there is no gallery {name!r}")
        return knowledge

    def watch(data: bytes) -> Pixels:
        seen(data)
        return fake_decode(data)

    async def encode(pixels: Pixels) -> Embedding:
        return embed(pixels)

    async def read(pixels: Pixels) -> Reading:
        return read_words(pixels)

    return Pipeline(decode=watch, encode=encode, read=read, knowledge=look_up)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files by their path below a folder, and returns the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


FILES = {
    "red/1.png": png(RED, (40, 80)),
    "red/2.PNG": png((200, 40, 30)),
    "green/1.png": png(GREEN, (40, 80)),
    "green/taken for red.png": png((200, 60, 20)),
    "蓝色/1.png": png(BLUE, (40, 80)),
    "other/grey.png": png(GREY),
    "other_red/brick.png": png((210, 30, 30)),
}
"""Known pages, one of them taken for another, and unknown ones of two kinds."""
