"""The way of one screenshot, from bytes to decision. Read this file first.

    bytes -> decode -> encode ─┐
                 └───> read   ─┴-> search -> evidence -> decide

The stages know nothing of each other, of gRPC or of batching; whatever is slow
arrives as an argument, so tests pass fakes. Enrolment takes the first half,
`perceive`, so what is stored and what is asked are made by the same code.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.cache import Memo
from pagesight_server.common.timings import StageTimes, recording
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import REVIEW_ABOVE, Decision, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Percept:
    """A screenshot seen and read."""

    width_px: int
    height_px: int
    embedding: Embedding
    reading: Reading | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Classifies one screenshot; safe to call from many tasks at once."""

    decode: Callable[[bytes], Pixels]
    """Runs in a worker thread. Raises ImageError."""
    encode: Callable[[Pixels], Awaitable[Embedding]]
    read: Callable[[Pixels], Awaitable[Reading]]
    knowledge: Callable[[str], Knowledge]
    """What is known now, by the name of the gallery. Raises NotFoundError."""
    review_above: float = REVIEW_ABOVE
    """Doubt above which an accepted answer asks for review."""
    memo: Memo[tuple[bytes, bool], Percept] = field(default_factory=lambda: Memo(0))
    """What was seen and read lately, by SHA-256 and whether it was read. It outlives a change
    of the gallery: only what is cheap is computed anew."""

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
            percept = await self.perceive(image, ocr=ocr, times=times)
            query = Query(embedding=percept.embedding, reading=percept.reading)
            decision = await asyncio.to_thread(self._judge, knowledge, query, times)
        return Answer(decision=decision, knowledge=knowledge, query=query, stage_ms=times)

    async def perceive(
        self, image: bytes, *, ocr: bool = True, times: StageTimes | None = None
    ) -> Percept:
        """Sees and reads a picture: what both a query and an enrolment need.

        Raises:
            ImageError: the picture cannot be used.
        """
        times = StageTimes() if times is None else times
        key = (hashlib.sha256(image).digest(), ocr)
        return await self.memo.get(key, lambda: self._perceive(image, ocr, times))

    async def _perceive(self, image: bytes, ocr: bool, times: StageTimes) -> Percept:
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

        seen, text = asyncio.create_task(encode()), asyncio.create_task(read())
        try:
            embedding, reading = await asyncio.gather(seen, text)
        finally:
            # When one fails, the other's result is of no use: drop it unless it has begun.
            seen.cancel()
            text.cancel()
        height_px, width_px = pixels.shape[:2]
        return Percept(
            width_px=width_px,
            height_px=height_px,
            embedding=embedding,
            reading=reading,
        )

    def _judge(self, knowledge: Knowledge, query: Query, times: StageTimes) -> Decision:
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
