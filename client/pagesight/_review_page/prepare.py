"""Makes ready what is looked at next: the whole answer, its pictures, and where digits stand.

Waiting  ──screenshot──classify (explained)──> Card, the first two pages' pictures at hand
Question ──its pictures──classify (explained)──> Question, with where their digits stand
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pagesight._classification import Box, Classification
from pagesight._client import Client
from pagesight._errors import NotFoundError, PagesightError
from pagesight._review_page import masking
from pagesight._review_page.model import Card, Question, Stage, Waiting
from pagesight._review_page.pictures import Pictures
from pagesight._review_page.reach import Reach
from pagesight._review_page.reveals import Reveals

AT_ONCE = 3
"""Screenshots made ready at a time."""

CANDIDATES = 5

SHOWN_OF_QUESTION = 6
"""Pictures of a question that are shown."""


class Preparer:
    """Makes cards ready in threads of its own; safe to use from many threads."""

    def __init__(
        self,
        client: Client,
        gallery: str,
        pictures: Pictures,
        reach: Reach,
        reveals: Reveals,
        *,
        show_digits: bool,
    ) -> None:
        self._client = client
        self._gallery = gallery
        self._pictures = pictures
        self._reach = reach
        self._reveals = reveals
        self._show_digits = show_digits
        self._lock = threading.Lock()
        self._digits: dict[str, tuple[Box, ...]] = {}
        self._futures: dict[str, Future[Card | Question]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="review-prepare")

    def start(self, item: Waiting | Question, stage: Stage) -> Future[Card | Question]:
        """Begins to make something ready, unless that has begun."""
        with self._lock:
            future: Future[Any] | None = self._futures.get(item.key)
            if future is None:
                if isinstance(item, Question):
                    future = self._pool.submit(self.question, item)
                else:
                    future = self._pool.submit(self.card, item, stage)
                self._futures[item.key] = future
            return future

    def forget(self, key: str = "") -> None:
        """Forgets what was made ready under a key; all of it where none is given."""
        with self._lock:
            if key:
                self._futures.pop(key, None)
            else:
                self._futures.clear()

    def card(self, waiting: Waiting, stage: Stage) -> Card:
        """Answers a screenshot and fetches what is shown beside it.

        Raises:
            PagesightError: It cannot be read, or the server does not answer.
        """
        data = self._pictures.screenshot(waiting)
        answer = waiting.answer or self._classify(data)
        if self._show_digits:
            self._reveals.note([waiting.image_id])
        self._digits[waiting.image_id] = masking.query_covers(answer)
        for candidate in answer.candidates[:2]:
            with suppress(NotFoundError):  # not kept: the page says so in its place
                self._pictures.of_gallery(candidate.image_id)
        sized = [(one.image_id, one.label) for one in answer.candidates]
        if waiting.known_label:
            sized.append((waiting.image_id, waiting.known_label))
        for image_id, label in sized:
            with suppress(NotFoundError):  # gone meanwhile: it is veiled where digits stand in it
                self._pictures.learn_size(image_id, label, answer.revision)
        return Card(waiting=waiting, answer=answer, stage=stage, revealed=self._show_digits)

    def question(self, question: Question) -> Question:
        """Fetches the pictures of a question, and where digits stand in them.

        Raises:
            PagesightError: The server does not answer.
        """
        for image_id in question.finding.image_ids[:SHOWN_OF_QUESTION]:
            try:
                data = self._pictures.of_gallery(image_id)
            except NotFoundError:
                continue
            self.find_digits(image_id, data)
        return question

    def find_digits(self, image_id: str, data: bytes) -> None:
        """Asks where digits stand in a picture, unless that is known, or all are to be shown.

        Raises:
            PagesightError: The server does not answer.
        """
        if self._show_digits:
            self._reveals.note([image_id])
        elif image_id not in self._digits:
            self._digits[image_id] = masking.query_covers(self._classify(data))

    def find_digits_of(self, pictures: Sequence[tuple[str, Callable[[], bytes]]]) -> None:
        """Does what `find_digits` does for several pictures; those that fail stay veiled."""
        for image_id, read in pictures:
            try:
                self.find_digits(image_id, read())
            except PagesightError as error:
                self._reach.failed(error)

    def digits(self, image_id: str) -> tuple[Box, ...] | None:
        """Returns the boxes of a picture that hold digits; None: unknown, so that it is veiled."""
        if self._show_digits:
            return () if self._reveals.noted(image_id) else None
        return self._digits.get(image_id)

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _classify(self, data: bytes) -> Classification:
        answer = self._client.classify(
            data,
            gallery=self._gallery,
            top_k=CANDIDATES,
            explain=True,
            priority="high",
            keep=False,
        )
        self._reach.answered()
        return answer
