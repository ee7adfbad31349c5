"""Which answers of a stream are still owed, and in which order they are told.

    input ── admit ──> request_id on the wire ── settle ──> StreamResult, now or in order
                              └── overdue: the server has long been silent

The streams of both clients keep their books here and differ in waiting alone.
A server that is busy may take long for one screenshot, so what counts is how long it
says nothing at all. Ordering happens on this side of the wire, since inputs that were never sent (a
file that cannot be read) have their place among the answers too.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, Generic, TypeAlias

from pagesight._classification import Classification, K, StreamResult
from pagesight._errors import InternalError, PagesightError
from pagesight._inputs import ImageSource

_LONGEST_WAIT_S = 0.5
"""Ctrl-C that comes just before a thread falls asleep does not wake it: sleep in naps."""

END_GRACE_S = 1.0
"""How long a server that owes nothing may take to end the stream of its own accord."""

_REQUEST_ID = re.compile("0|[1-9][0-9]{0,17}")
"""What `admit` gives out. int() takes more: "+1", " 1", "1_0", "１"."""

Outcome: TypeAlias = Classification | PagesightError


def split(item: Any, position: int) -> tuple[Any, ImageSource]:
    """Returns key and image of an input: `(key, image)`, a path or bytes."""
    if isinstance(item, tuple):
        key, image = item
        return key, image
    return (item if isinstance(item, str | os.PathLike) else position), item


class Ledger(Generic[K]):
    """The open accounts of one stream; admitting and settling may race."""

    def __init__(self, *, ordered: bool, timeout_s: float) -> None:
        self._ordered = ordered
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[K, float]] = {}
        self._messages: dict[int, Any] = {}
        self._held_back: dict[int, StreamResult[K]] = {}
        self._admitted = 0
        self._told = 0
        self._sealed = False
        self._quiet_since = 0.0
        self._heard_at = 0.0

    def admit(self, key: K) -> str:
        """Opens an account and returns its request_id, unique within the stream."""
        with self._lock:
            position = self._admitted
            self._admitted += 1
            self._waiting[position] = (key, time.monotonic())
        return str(position)

    def drop(self, request_id: str) -> None:
        """Forgets the newest account: what was to be sent was the caller's mistake."""
        with self._lock:
            self._waiting.pop(int(request_id), None)

    def keep(self, request_id: str, message: Any) -> None:
        """Keeps what was sent for an account until it is closed, to be sent again."""
        with self._lock:
            if int(request_id) in self._waiting:
                self._messages[int(request_id)] = message

    def message(self, request_id: str) -> Any | None:
        """Returns what was kept for an account; None when it is closed or never was."""
        with self._lock:
            position = self._position(request_id)
            return None if position is None else self._messages.get(position)

    def is_done(self) -> bool:
        """Tells whether the inputs have ended and every account is closed."""
        with self._lock:
            return self._sealed and not self._waiting

    def hear(self) -> None:
        """Begins the time anew that the server may be silent: it has answered something."""
        with self._lock:
            self._heard_at = time.monotonic()

    def seal(self) -> None:
        """Notes that the inputs have ended."""
        with self._lock:
            self._sealed = True
            self._quiet_since = time.monotonic()

    def settle(self, request_id: str, outcome: Outcome) -> Iterator[StreamResult[K]]:
        """Closes an account and yields what can be told now.

        Raises:
            InternalError: No such account was ever opened.
        """
        with self._lock:
            position = self._position(request_id)
            if position is None:
                raise InternalError(f"the server answered {request_id!r}, which nobody asked")
            account = self._waiting.pop(position, None)
            self._messages.pop(position, None)
            self._quiet_since = time.monotonic()
        if account is None:
            return  # It expired before; its result is told already.
        result = StreamResult(key=account[0], **_either(outcome))
        if not self._ordered:
            yield result
            return
        self._held_back[position] = result
        while self._told in self._held_back:
            self._told += 1
            yield self._held_back.pop(self._told - 1)

    def _position(self, request_id: str) -> int | None:
        """Returns the number of an account; None for a request_id that was never given out."""
        if not _REQUEST_ID.fullmatch(request_id) or int(request_id) >= self._admitted:
            return None
        return int(request_id)

    def overdue(self) -> list[str]:
        """Returns the accounts owed for as long as the server may be silent, oldest first."""
        now = time.monotonic()
        with self._lock:
            return [
                str(position)
                for position, (_, admitted_at) in self._waiting.items()
                if self._due(admitted_at) <= now
            ]

    def _due(self, admitted_at: float) -> float:
        return max(admitted_at, self._heard_at) + self._timeout_s

    def patience_s(self) -> float:
        """Returns how long to wait for an answer before looking at the clock again."""
        now = time.monotonic()
        with self._lock:
            oldest = next(iter(self._waiting.values()), None)
            if oldest is not None:
                wait_s = self._due(oldest[1]) - now
            else:
                wait_s = self._quiet_since + END_GRACE_S - now if self._sealed else _LONGEST_WAIT_S
        return min(max(wait_s, 0.0), _LONGEST_WAIT_S)

    def is_abandoned(self) -> bool:
        """Tells whether every answer was told and the server still does not end the stream."""
        with self._lock:
            quiet = self._sealed and not self._waiting
            return quiet and time.monotonic() >= self._quiet_since + END_GRACE_S


def _either(outcome: Outcome) -> dict[str, Any]:
    name = "error" if isinstance(outcome, PagesightError) else "classification"
    return {name: outcome}
