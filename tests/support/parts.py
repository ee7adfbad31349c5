"""Hand-made values, and fake models without weights: a mean colour and prepared texts.

The embedding of a picture is its mean red, green and blue as a unit vector, so pictures of pure
colours are orthogonal and shades of one colour are close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.gallery.snapshot import Bundles, LabelFacts, Picture, Snapshot
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Box, Reading, TextLine
from pagesight_server.workflows.pipeline import Pipeline
from tests.support import WAIT_S
from tests.support.pictures import Colour

BUNDLES = Bundles(encoder="colour@000000000000", ocr="told@000000000000")
OTHER_BUNDLES = Bundles(encoder="colour@111111111111", ocr="told@000000000000")


def unit(*values: float) -> Embedding:
    """A unit vector in the direction of these values."""
    vector = np.asarray(values, np.float32)
    length = np.float32(np.linalg.norm(vector))
    return (vector / length).astype(np.float32)


def reading(*texts: str) -> Reading:
    """A reading of these lines, one below the other."""
    lines = [TextLine(text, 0.9, Box(0, 10 * i, 100, 10 * i + 10)) for i, text in enumerate(texts)]
    return Reading(width_px=100, height_px=200, lines=tuple(lines))


def image_id(number: int) -> str:
    """An image id in the form of a SHA-256."""
    return f"{number:064x}"


def held(snapshot: Snapshot) -> dict[str, str]:
    """Label by image id of all that a gallery holds."""
    return {picture.image_id: picture.label for picture in snapshot.pictures}


def snapshot(
    *pictures: tuple[str, Sequence[float], Sequence[str]],
    facts: Mapping[str, LabelFacts] | None = None,
) -> Snapshot:
    """A gallery at revision 1, of pictures given by label, embedding's direction, and lines."""
    return Snapshot(
        gallery="default",
        revision=1,
        encoder_bundle=BUNDLES.encoder,
        ocr_bundle=BUNDLES.ocr,
        pictures=tuple(
            Picture(
                image_id=image_id(row),
                label=label,
                source="",
                author="",
                added_at_ms=0,
                added_revision=1,
                reading=reading(*texts),
            )
            for row, (label, _, texts) in enumerate(pictures)
        ),
        embeddings=np.stack([unit(*direction) for _, direction, _ in pictures])
        if pictures
        else np.empty((0, 0), np.float32),
        facts=dict(facts or {}),
    )


class FakeModels:
    """Fake encoder and OCR that can be counted, held and made to fail; for one event loop."""

    def __init__(self) -> None:
        self.texts: dict[Colour, tuple[str, ...]] = {}
        """Lines that are read from a picture, by its colour; none for others."""
        self.failure: Exception | None = None
        """Exception that reading raises; None: it succeeds."""
        self.encoded = 0
        self.active = 0
        self.most_active = 0
        self._held: set[Colour] = set()
        self._changed = asyncio.Condition()

    async def encode(self, pixels: Pixels) -> Embedding:
        """Returns the mean colour as a unit vector, once pictures of that colour are not held."""
        colour = mean_colour(pixels)
        async with self._changed:
            self.encoded += 1
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: colour not in self._held)
            finally:
                self.active -= 1
                self._changed.notify_all()
        return unit(*(value + 1 for value in colour))

    async def read(self, pixels: Pixels) -> Reading:
        """Returns the prepared lines of the picture's colour."""
        if self.failure is not None:
            raise self.failure
        return reading(*self.texts.get(mean_colour(pixels), ()))

    def hold(self, *colours: Colour) -> None:
        """Makes pictures of these colours wait in the encoder until they are released."""
        self._held.update(colours)

    async def release(self) -> None:
        """Releases all pictures."""
        async with self._changed:
            self._held.clear()
            self._changed.notify_all()

    async def until_active(self, count: int) -> None:
        """Waits until exactly `count` pictures are in the encoder.

        A count that is only passed through can be missed: wait for one that is stable.
        """
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: self.active == count)

    def pipeline(
        self, knowledge: Mapping[str, Knowledge] | None = None, *, limits: ImageLimits | None = None
    ) -> Pipeline:
        """The real pipeline, over these models."""
        image_limits = limits or ImageLimits()
        return Pipeline(
            decode=lambda data: decode(data, image_limits),
            encode=self.encode,
            read=self.read,
            knowledge=(knowledge or {}).__getitem__,
        )


def mean_colour(pixels: Pixels) -> Colour:
    """Mean red, green and blue, rounded."""
    red, green, blue = np.rint(pixels.reshape(-1, 3).mean(axis=0)).astype(int).tolist()
    return (red, green, blue)
