"""The review calls of the client for event loops; see `_review_calls` for what each does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from pagesight import _replies, _review_messages
from pagesight._connection import AsyncConnection
from pagesight._review import (
    Decision,
    KeepLimits,
    KeptAnswer,
    KnownItem,
    ReviewFigures,
)
from pagesight.v1 import review_pb2 as messages


class AsyncReviewCalls(AsyncConnection):
    """Reads what a person should look at, and records what was decided."""

    async def list_kept(
        self, *, gallery: str = "", undecided_by: str = "", page_size: int = 0
    ) -> AsyncGenerator[KeptAnswer, None]:
        """Yields the answers that the server kept for review, as `Client.list_kept` does."""
        request = messages.ListKeptRequest(
            gallery=gallery, undecided_by=undecided_by, page_size=page_size
        )
        while True:
            page = await self._call(self._review.ListKept, request, _replies.as_it_is)
            for message in page.answers:
                yield _review_messages.kept(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def keep_limits(self, *, gallery: str = "") -> KeepLimits:
        """Tells how many answers the server keeps for review, and for how long."""
        request = messages.ListKeptRequest(gallery=gallery, page_size=1)
        return await self._call(self._review.ListKept, request, _review_messages.keep_limits)

    async def recorded_name(self, reviewer: str = "", *, gallery: str = "") -> str:
        """Tells under which name the server lists what a reviewer decides through this client."""
        request = messages.ListKeptRequest(gallery=gallery, undecided_by=reviewer, page_size=1)
        return await self._call(self._review.ListKept, request, _review_messages.recorded_name)

    async def get_kept_image(
        self, image_id: str, *, gallery: str = "", max_side_px: int = 0
    ) -> bytes:
        """Reads the picture of a kept answer; the server's audit log says that it was read."""
        request = messages.GetKeptImageRequest(
            gallery=gallery, image_id=image_id, max_side_px=max_side_px
        )
        return await self._call(self._review.GetKeptImage, request, _review_messages.kept_picture)

    async def draw_known(self, count: int = 1, *, gallery: str = "") -> tuple[KnownItem, ...]:
        """Draws pictures of the gallery at random, each answered as if it were not enrolled."""
        request = messages.DrawKnownRequest(gallery=gallery, count=count)
        return await self._call(self._review.DrawKnown, request, _review_messages.known_items)

    async def record_decisions(self, decisions: Iterable[Decision], *, gallery: str = "") -> int:
        """Records what persons decided; returns how many decisions were new."""
        request = _review_messages.record_decisions(decisions, gallery)
        return await self._call(self._review.RecordDecisions, request, _review_messages.recorded)

    async def withdraw_decisions(self, decision_ids: Iterable[str], *, gallery: str = "") -> int:
        """Takes decisions back, as if they had not been made; returns how many there were."""
        request = _review_messages.withdraw_decisions(decision_ids, gallery)
        return await self._call(self._review.WithdrawDecisions, request, _review_messages.withdrawn)

    async def list_decisions(
        self, *, gallery: str = "", image_ids: Iterable[str] = (), page_size: int = 0
    ) -> AsyncGenerator[Decision, None]:
        """Yields decisions, the newest first, fetching page after page."""
        request = _review_messages.list_decisions(image_ids, gallery, page_size)
        while True:
            page = await self._call(self._review.ListDecisions, request, _replies.as_it_is)
            for message in page.decisions:
                yield _review_messages.decision(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def record_reveal(self, image_id: str, *, gallery: str = "", reviewer: str = "") -> None:
        """Notes in the server's audit log that a person saw a picture unmasked."""
        request = messages.RecordRevealRequest(
            gallery=gallery, image_id=image_id, reviewer=reviewer
        )
        await self._call(self._review.RecordReveal, request, _review_messages.revealed)

    async def review_figures(self, *, gallery: str = "") -> ReviewFigures:
        """Tells how much was decided, and how well reviewers agree."""
        request = messages.GetReviewFiguresRequest(gallery=gallery)
        return await self._call(self._review.GetReviewFigures, request, _review_messages.figures)
