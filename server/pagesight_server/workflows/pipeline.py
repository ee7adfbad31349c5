"""The way of one screenshot, from bytes to decision. Read this file first.

    bytes -> decode -> encode ─┐
                 └───> read   ─┴-> search -> evidence -> decide

The stages know nothing of each other, of gRPC or of batching; whatever is slow
arrives as an argument, so tests pass fakes. Enrolment takes the first half,
`extract_features`, so queries and gallery pictures go through the same code.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.cache import SingleFlightLru
from pagesight_server.common.timings import StageTimes, recording
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import REVIEW_ABOVE, Decision, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading

FeatureKey = tuple[bytes, bool]
"""SHA-256 of the encoded picture, and whether its text was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the models make of one screenshot: its embedding and its text."""

    width_px: int
    height_px: int
    embedding: Embedding
    reading: Reading | None
    """The recognised text; None where OCR was switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Classifies one screenshot; safe to call from many tasks at once."""

    decode: Callable[[bytes], Pixels]
    """Runs in a worker thread. Raises ImageError."""
    encode: Callable[[Pixels], Awaitable[Embedding]]
    read: Callable[[Pixels], Awaitable[Reading]]
    knowledge: Callable[[str], Knowledge]
    """Gives the present knowledge of a gallery by its name. Raises NotFoundError."""
    review_above: float = REVIEW_ABOVE
    """Doubt above which an accepted answer asks for review."""
    cache: SingleFlightLru[FeatureKey, Features] = field(default_factory=lambda: SingleFlightLru(0))
    """LRU feature cache, keyed by (SHA-256, OCR mode). It outlives a change of the gallery:
    features depend on the models alone, and only search and evidence are computed again."""

    async def classify(
        self, image: bytes, *, gallery: str = DEFAULT_GALLERY, ocr: bool = True
    ) -> Answer:
        """Says which known page a screenshot shows.

        Args:
            image: A JPEG, PNG or WebP file.
            gallery: Where to look it up.
            ocr: Whether to read its text.

        Raises:
            RequestError: the picture cannot be used or there is no such gallery.
        """
        with recording() as times, times.measure("total"):
            knowledge = self.knowledge(gallery)
            features = await self.extract_features(image, ocr=ocr, times=times)
            query = Query(embedding=features.embedding, reading=features.reading)
            decision = await asyncio.to_thread(self._judge, knowledge, query, times)
        return Answer(decision=decision, knowledge=knowledge, query=query, stage_ms=times)

    async def extract_features(
        self, image: bytes, *, ocr: bool = True, times: StageTimes | None = None
    ) -> Features:
        """Computes embedding and text of a picture, or takes them from the cache.

        Args:
            image: A JPEG, PNG or WebP file.
            ocr: Whether to read its text.
            times: The record that the stages are timed in; what the cache has takes none.

        Raises:
            ImageError: the picture cannot be used.
        """
        times = StageTimes() if times is None else times
        key = (hashlib.sha256(image).digest(), ocr)
        return await self.cache.get(key, lambda: self._extract_features(image, ocr, times))

    async def _extract_features(self, image: bytes, ocr: bool, times: StageTimes) -> Features:
        with times.measure("decode"):
            pixels = await asyncio.to_thread(self.decode, image)

        async def encode() -> Embedding:
            with times.measure("encode"):
                return await self.encode(pixels)

        async def read() -> Reading | None:
            if not ocr:
                return None
            with times.measure("read"):
                return await self.read(pixels)

        encoding, reading = asyncio.create_task(encode()), asyncio.create_task(read())
        try:
            embedding, text = await asyncio.gather(encoding, reading)
        finally:
            # When one fails, the other's result is of no use: drop it unless it has begun.
            encoding.cancel()
            reading.cancel()
        height_px, width_px = pixels.shape[:2]
        return Features(width_px=width_px, height_px=height_px, embedding=embedding, reading=text)

    def _judge(self, knowledge: Knowledge, query: Query, times: StageTimes) -> Decision:
        """Searches, weighs and decides, in the calling thread."""
        with times.measure("search"):
            hits = knowledge.method.search(query.embedding)
        with times.measure("evidence"):
            candidates = knowledge.method.weigh(query, hits)
        with times.measure("decide"):
            return decide(
                candidates,
                knowledge.calibration,
                with_text=query.reading is not None,
                review_above=self.review_above,
            )
