"""Which screenshots of a stream are sent again that were turned away, and when.

    one answer "no room" ──> that screenshot again, after what RetryInfo asks for

What a call leaves without an answer when it ends is the matter of `_lanes`. Sending again is safe
because a screenshot keeps its request_id and asking changes nothing. Pure books: waiting and
sending are the streams'.
"""

from __future__ import annotations

import heapq
import time

from pagesight._errors import PagesightError
from pagesight._retry import Attempts, Retries


class Resends:
    """The failures of one stream so far; for one thread or task."""

    def __init__(self, retries: Retries, timeout_s: float) -> None:
        self._retries = retries
        self._timeout_s = timeout_s
        self._attempts: dict[str, Attempts] = {}
        self._waiting: list[tuple[float, str]] = []

    def again(self, request_id: str, error: PagesightError) -> bool:
        """Notes what a screenshot was answered; tells whether it will be sent again."""
        attempts = self._attempts.setdefault(request_id, Attempts(self._retries))
        now_s = time.monotonic()
        wait_s = attempts.wait_s(error, now_s + self._timeout_s)
        if wait_s is None:
            self._attempts.pop(request_id)
            return False
        heapq.heappush(self._waiting, (now_s + wait_s, request_id))
        return True

    def settled(self, request_id: str) -> None:
        """Notes that the server answered for good."""
        self._retries.answered()
        self._attempts.pop(request_id, None)

    def due(self) -> list[str]:
        """Returns the screenshots to send now, and forgets them."""
        now, found = time.monotonic(), []
        while self._waiting and self._waiting[0][0] <= now:
            found.append(heapq.heappop(self._waiting)[1])
        return found

    def wait_s(self, at_most_s: float) -> float:
        """Returns how long until the next one is due."""
        if not self._waiting:
            return at_most_s
        return min(at_most_s, max(0.0, self._waiting[0][0] - time.monotonic()))
