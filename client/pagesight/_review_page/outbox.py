"""Decisions on their way to the server, in the order in which they were made.

    decide   ──record──┐
    undo     ──withdraw┴─> outbox ──one thread, some at a time──> server
                              ├─ server away, or unable: they wait, and are sent again
                              └─ one that can never be recorded is counted, and told

Each has an id of its own, so that sending it again records it once.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import groupby, islice, takewhile

from pagesight._client import Client
from pagesight._errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PagesightError,
)
from pagesight._review import Decision
from pagesight._review_page.reach import Reach

MOST_AT_ONCE = 100
RETRY_S = 1.0

REFUSALS = (FailedPreconditionError, InvalidArgumentError, NotFoundError)
"""Failures that say something of what was sent: it is of no use to send the same again. After any
other, as that of a full disk or a token that has expired, it is kept and sent again."""


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
        self.refused = 0
        """Decisions that the server would not record."""
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
                for _ in range(done):
                    self._unsent.popleft()
                if done:
                    self._changed.notify_all()
                else:
                    self._changed.wait(RETRY_S)

    def _send(self, some: list[Decision | str]) -> int:
        """Sends changes of one kind; returns how many of them are done with, the first ones."""
        decisions = [each for each in some if isinstance(each, Decision)]
        try:
            if decisions:
                self._client.record_decisions(decisions, gallery=self._gallery)
            else:
                ids = [each for each in some if isinstance(each, str)]
                self._client.withdraw_decisions(ids, gallery=self._gallery)
        except PagesightError as error:
            if isinstance(error, REFUSALS) and len(some) > 1:
                # One that is refused takes no other with it.
                return sum(1 for _ in takewhile(bool, (self._send([each]) for each in some)))
            self._reach.failed(error)
            if not isinstance(error, REFUSALS):
                return 0
            self.refused += len(decisions)
            return 1
        self._reach.answered()
        return len(some)
