"""Whether the server answers, as the page says it.

What a server that is away leaves undone is done when it is back; what it refuses for good is
told once.
"""

from __future__ import annotations

import threading

from pagesight._errors import (
    CallCancelledError,
    DeadlineExceededError,
    OverloadedError,
    PagesightError,
    RevisionBehindError,
    UnavailableError,
)

PASSING = (
    CallCancelledError,
    DeadlineExceededError,
    OverloadedError,
    RevisionBehindError,
    UnavailableError,
)
"""Failures after which the same call may succeed a little later."""


class Reach:
    """Notes what became of the last calls; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away = ""
        self._refusals: dict[str, None] = {}

    @property
    def away(self) -> str:
        """Why the server does not answer; empty where it does."""
        return self._away

    @property
    def refusals(self) -> tuple[str, ...]:
        """What the server will not do, each told once, the newest last."""
        with self._lock:
            return tuple(self._refusals)

    def answered(self) -> None:
        """Notes that a call came back."""
        self._away = ""

    def failed(self, error: PagesightError) -> bool:
        """Notes that a call failed, and returns whether it may succeed later."""
        if isinstance(error, PASSING):
            if isinstance(error, UnavailableError):
                self._away = error.message
            return True
        self.refused(error.message)
        return False

    def refused(self, why: str) -> None:
        """Notes what cannot be done."""
        with self._lock:
            self._refusals[why] = None
