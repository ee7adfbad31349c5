"""Keeping answers for a person to look at, beside the way of a screenshot and never on it.

    answer ──doubtful, `other`, drawn?──> queue ──a few a second, in a thread──> ring, in the store
                                           └──full──> dropped
    now and then ──────────────────────────────────────> what is too old is forgotten

`offer` neither waits nor raises: an answer is never late for this, nor lost. What cannot be
written is dropped and told in the log; while the store is away it waits in the queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from pagesight_server.gallery import Gallery, KeepLimits, KeptAnswer, KeptPicture, KeptReason
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.inference.thumbnails import shrink
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.decision import Decision
from pagesight_server.workflows.enrolment import THUMBNAIL_SIDE_PX

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_QUEUED = 64
"""Pictures that wait to be written: what a burst brings."""

MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Their bytes; a few of the largest pictures."""

BATCH = 16
"""Pictures that are written in one transaction, after which there is a pause: some 5 MB of
screenshots, so that nobody waits long for the store, and a flood costs the disk little."""

PAUSE_S = 1.0
"""Seconds between two transactions."""

FORGET_EVERY_S = 600.0
"""Seconds between two looks at what is too old. Listings leave it out at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPolicy:
    """Which answers are kept, how, and how many."""

    limits: KeepLimits = KeepLimits()  # noqa: RUF009 - a frozen value
    rejected_share: float = 1.0
    """Share of the rejections, 0 to 1."""
    random_share: float = 0.0
    """Share of all other answers that are not doubtful, 0 to 1."""
    thumbnails: bool = False
    """Whether pictures are made smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offered:
    """An answer that waits to be kept."""

    image: bytes
    answer: Answer
    reason: KeptReason
    at_ms: int


class AnswerKeeper:
    """Keeps some of the answers; for one event loop.

    Args:
        store: Where they are kept.
        policy: Which, how, and how many.
        limits: What decoding a picture may cost when it is made smaller.
        forgets: Whether this process forgets what is too old, or leaves that to another one.
        is_away: Whether the store is known to be away: then it is not waited for.
        lot: What draws answers at random; a generator of its own when None.
    """

    def __init__(
        self,
        store: Gallery,
        policy: KeepPolicy,
        limits: ImageLimits,
        *,
        forgets: bool = True,
        is_away: Callable[[], bool] = lambda: False,
        lot: random.Random | None = None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._limits = limits
        self._forgets = forgets
        self._is_away = is_away
        # Screenshots are decoded in the loop's threads: a store that hangs must hold none of them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeping")
        self._lot = lot or random.Random()
        self._queue: deque[_Offered] = deque()
        self._queued_bytes = 0
        self._offered = asyncio.Event()
        """Set while something is queued, or it ends."""
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self.dropped = 0
        """Answers that should have been kept and were not, as too many came."""

    def offer(self, image: bytes, answer: Answer) -> None:
        """Queues an answer if it is one to keep and there is room.

        Args:
            image: The encoded picture, as received.
            answer: What was answered.
        """
        if not self._policy.limits.answers or self._closing.is_set():
            return
        reason = reason_to_keep(answer.decision, self._policy, self._lot)
        if reason is None:
            return
        full = len(self._queue) >= MAX_QUEUED
        if full or self._queued_bytes + len(image) > MAX_QUEUED_BYTES:
            self.dropped += 1
            return
        offered = _Offered(image=image, answer=answer, reason=reason, at_ms=self._store.now_ms())
        self._queue.append(offered)
        self._queued_bytes += len(image)
        self._offered.set()

    def start(self) -> None:
        """Begins to write and to forget, in the background, until `close`."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Writes what is queued unless the store is away, and ends."""
        self._closing.set()
        self._offered.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=False)

    async def flush(self) -> None:
        """Writes what is queued now."""
        while self._queue:
            await self._write_batch()

    async def forget(self) -> None:
        """Forgets the answers that are too old; all, where none are kept."""
        try:
            forgotten = await self._in_thread(lambda: self._store.forget_kept(self._policy.limits))
        except Exception as error:
            self._tell(error)
            return
        if forgotten:
            log.info("forgot %d answers that were kept for review", forgotten)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        forget_at_s = clock()
        while not self._closing.is_set():
            if self._forgets and clock() >= forget_at_s and not self._is_away():
                forget_at_s = clock() + FORGET_EVERY_S
                await self.forget()
                if not self._policy.limits.answers:
                    return  # Nothing comes, and nothing is left.
            with suppress(TimeoutError):
                # Not before the pause is over, should it be due while the store is away.
                due_s = max(forget_at_s, clock() + PAUSE_S) if self._forgets else None
                async with asyncio.timeout_at(due_s):
                    await self._offered.wait()
            if not self._is_away():
                await self._write_batch()
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._closing.wait()
        if not self._is_away():
            await self.flush()

    async def _write_batch(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        self._queued_bytes -= sum(len(offered.image) for offered in batch)
        if not self._queue and not self._closing.is_set():
            self._offered.clear()
        if not batch:
            return
        try:
            await self._in_thread(lambda: self._write(batch))
        except Exception as error:
            self._tell(error)
        else:
            self._failing = False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _write(self, batch: Sequence[_Offered]) -> None:
        self._store.keep([self._kept(offered) for offered in batch], self._policy.limits)

    def _kept(self, offered: _Offered) -> KeptPicture:
        answer, image = offered.answer, offered.image
        decision, snapshot = answer.decision, answer.knowledge.snapshot
        image_id = hashlib.sha256(image).hexdigest()
        if self._policy.thumbnails:
            image = shrink(image, THUMBNAIL_SIDE_PX, self._limits)
        return KeptPicture(
            answer=KeptAnswer(
                image_id=image_id,
                gallery=snapshot.gallery,
                revision=snapshot.revision,
                label=decision.label,
                closest_label=decision.closest_label,
                score=decision.score,
                threshold=decision.threshold,
                doubt=decision.doubt,
                review_reasons=decision.review_reasons,
                kept_reason=offered.reason,
                kept_at_ms=offered.at_ms,
            ),
            image=image,
            bundles=snapshot.bundles,
            embedding=answer.query.embedding,
            reading=answer.query.reading,
        )

    def _tell(self, error: Exception) -> None:
        """Tells of a failure, once until the store is written again."""
        if not self._failing:
            log.warning("answers cannot be kept for review, and are dropped: %s", error)
        self._failing = True


def reason_to_keep(decision: Decision, policy: KeepPolicy, lot: random.Random) -> KeptReason | None:
    """Why an answer is kept; None where it is not."""
    if decision.label == OTHER:
        return "rejected" if lot.random() < policy.rejected_share else None
    if decision.review:
        return "doubtful"
    return "random" if lot.random() < policy.random_share else None
