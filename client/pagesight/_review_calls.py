"""The review calls of the client for callers with threads; they need the role `review`.

    list_kept, get_kept_image, keep_limits      answers that the server kept for a person
    recorded_name                               who a reviewer is to the server
    draw_known                                  pictures of known pages, to be hidden among them
    record_decisions, withdraw_decisions, list_decisions, record_reveal, review_figures

Decisions are records, and change no gallery. `_aio_review_calls` is the same for event loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pagesight import _replies, _review_messages
from pagesight._connection import Connection
from pagesight._review import (
    Decision,
    KeepLimits,
    KeptAnswer,
    KnownItem,
    ReviewFigures,
)
from pagesight.v1 import review_pb2 as messages


class ReviewCalls(Connection):
    """Reads what a person should look at, and records what was decided."""

    def list_kept(
        self, *, gallery: str = "", undecided_by: str = "", page_size: int = 0
    ) -> Iterator[KeptAnswer]:
        """Yields the answers that the server kept for review, the newest first.

        Args:
            gallery: Empty: "default".
            undecided_by: Only those that this reviewer has not decided yet, named as in
                `Decision.reviewer`. Empty: all.
            page_size: Answers fetched at a time. 0: 1000.
        """
        request = messages.ListKeptRequest(
            gallery=gallery, undecided_by=undecided_by, page_size=page_size
        )
        while True:
            page = self._call(self._review.ListKept, request, _replies.as_it_is)
            yield from map(_review_messages.kept, page.answers)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def keep_limits(self, *, gallery: str = "") -> KeepLimits:
        """Tells how many answers the server keeps for review, and for how long.

        Args:
            gallery: Empty: "default".
        """
        request = messages.ListKeptRequest(gallery=gallery, page_size=1)
        return self._call(self._review.ListKept, request, _review_messages.keep_limits)

    def recorded_name(self, reviewer: str = "", *, gallery: str = "") -> str:
        """Tells under which name the server lists what a reviewer decides through this client.

        Where callers have tokens it is the token's name and that of the reviewer, with a slash
        between: `Decision.reviewer` of `list_decisions` is the same.

        Args:
            reviewer: Who decides, as in `Decision.reviewer` of `record_decisions`.
            gallery: Empty: "default".
        """
        request = messages.ListKeptRequest(gallery=gallery, undecided_by=reviewer, page_size=1)
        return self._call(self._review.ListKept, request, _review_messages.recorded_name)

    def get_kept_image(self, image_id: str, *, gallery: str = "", max_side_px: int = 0) -> bytes:
        """Reads the picture of a kept answer; the server's audit log says that it was read.

        Args:
            image_id: SHA-256 of its bytes, in hexadecimal.
            gallery: Empty: "default".
            max_side_px: Longest side wanted, in pixels. 0: as it is kept.

        Raises:
            NotFoundError: It is not kept, or no longer.
        """
        request = messages.GetKeptImageRequest(
            gallery=gallery, image_id=image_id, max_side_px=max_side_px
        )
        return self._call(self._review.GetKeptImage, request, _review_messages.kept_picture)

    def draw_known(self, count: int = 1, *, gallery: str = "") -> tuple[KnownItem, ...]:
        """Draws pictures of the gallery at random, each answered as if it were not enrolled.

        Args:
            count: How many, at most 20; fewer come where the gallery has fewer that are not the
                only one of their label.
            gallery: Empty: "default".
        """
        request = messages.DrawKnownRequest(gallery=gallery, count=count)
        return self._call(self._review.DrawKnown, request, _review_messages.known_items)

    def record_decisions(self, decisions: Iterable[Decision], *, gallery: str = "") -> int:
        """Records what persons decided; returns how many decisions were new.

        It changes no gallery: `enrol`, `relabel` and `remove` do.

        Args:
            decisions: At least one, at most 1000.
            gallery: Empty: "default".

        Raises:
            FailedPreconditionError: The picture of one was purged; none is recorded.
        """
        request = _review_messages.record_decisions(decisions, gallery)
        return self._call(self._review.RecordDecisions, request, _review_messages.recorded)

    def withdraw_decisions(self, decision_ids: Iterable[str], *, gallery: str = "") -> int:
        """Takes decisions back, as if they had not been made; returns how many there were.

        Args:
            decision_ids: At least one, at most 1000.
            gallery: Empty: "default".
        """
        request = _review_messages.withdraw_decisions(decision_ids, gallery)
        return self._call(self._review.WithdrawDecisions, request, _review_messages.withdrawn)

    def list_decisions(
        self, *, gallery: str = "", image_ids: Iterable[str] = (), page_size: int = 0
    ) -> Iterator[Decision]:
        """Yields decisions, the newest first, fetching page after page.

        Args:
            gallery: Empty: "default".
            image_ids: Only decisions of these pictures, at most 1000. Empty: all.
            page_size: Decisions fetched at a time. 0: 1000.
        """
        request = _review_messages.list_decisions(image_ids, gallery, page_size)
        while True:
            page = self._call(self._review.ListDecisions, request, _replies.as_it_is)
            yield from map(_review_messages.decision, page.decisions)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def record_reveal(self, image_id: str, *, gallery: str = "", reviewer: str = "") -> None:
        """Notes in the server's audit log that a person saw a picture unmasked.

        Args:
            image_id: SHA-256 of its bytes, in hexadecimal; the server need not have it.
            gallery: Empty: "default".
            reviewer: Who saw it.
        """
        request = messages.RecordRevealRequest(
            gallery=gallery, image_id=image_id, reviewer=reviewer
        )
        self._call(self._review.RecordReveal, request, _review_messages.revealed)

    def review_figures(self, *, gallery: str = "") -> ReviewFigures:
        """Tells how much was decided, and how well reviewers agree.

        Args:
            gallery: Empty: "default".
        """
        request = messages.GetReviewFiguresRequest(gallery=gallery)
        return self._call(self._review.GetReviewFigures, request, _review_messages.figures)
