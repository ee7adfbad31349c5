"""Decisions on their way to the server, in the order in which they were made.

    decide   ──record──┐
    undo     ──withdraw┴─> outbox ──one thread, some at a time──> server
                              └─ server away: they wait, and are sent when it is back

Each has an id of its own, so that sending it again records it once.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import groupby, islice

from pagesight._client import Client
from pagesight._errors import PagesightError
from pagesight._review import Decision
from pagesight._review_page.reach import Reach

MOST_AT_ONCE = 100
RETRY_S = 1.0


class Outbox:
    """Sends decisions and withdrawals, one after the other."""

    def __init__(self, client: Client, gallery: str, reach: Reach) -> None:
        self._client = client
        self._gallery = gallery
        self._reach = reach
        self._changed = threading.Condition()
        self._unsent: deque[Decision | str] = deque()
        """Decisions to record, and ids of those to withdraw."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="review-outbox", daemon=True)
        self._thread.start()

    @property
    def unsent(self) -> int:
        """How many are not with the server yet."""
        with self._changed:
            return len(self._unsent)

    def record(self, decision: Decision) -> None:
        """Has a decision recorded."""
        self._put(decision)

    def withdraw(self, decision_id: str) -> None:
        """Has a decision taken back."""
        self._put(decision_id)

    def wait_until_sent(self, timeout_s: float) -> int:
        """Waits until all is sent, at most so long, and returns how many are not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unsent, timeout_s)
            return len(self._unsent)

    def close(self, timeout_s: float) -> int:
        """Sends what is left for so long, and returns how many could not be sent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        return self.wait_until_sent(timeout_s)

    def _put(self, change: Decision | str) -> None:
        with self._changed:
            self._unsent.append(change)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unsent or self._stopping)
                if not self._unsent:
                    return
                _, alike = next(groupby(self._unsent, key=lambda one: isinstance(one, Decision)))
                some = list(islice(alike, MOST_AT_ONCE))
            done = self._send(some)
            with self._changed:
                if done:
                    for _ in some:
                        self._unsent.popleft()
                    self._changed.notify_all()
                else:
                    self._changed.wait(RETRY_S)

    def _send(self, some: list[Decision | str]) -> bool:
        """Sends changes of one kind; returns whether they are done with."""
        try:
            decisions = [each for each in some if isinstance(each, Decision)]
            if decisions:
                self._client.record_decisions(decisions, gallery=self._gallery)
            else:
                ids = [each for each in some if isinstance(each, str)]
                self._client.withdraw_decisions(ids, gallery=self._gallery)
        except PagesightError as error:
            return not self._reach.failed(error)
        self._reach.answered()
        return True
