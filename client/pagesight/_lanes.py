"""Over which calls the screenshots of one stream go, and what becomes of them when one ends.

    waiting, oldest first ──take──> lane 1 │ lane 2 │ ... N: a ClassifyStream call each
            ^                          └── owed: sent, and without an answer
            └── the lane's call has ended ──┘

A lane takes no more than its share of what may be in flight, so that a server that stands still
has little of it, and none while its connection is not READY: its server is away, or says that it
does not serve. Such a lane ends once what it owes is answered. A call that ends is made anew: at
once where the server ended it in good order, and else after a wait that doubles. A stream fails
when none of its lanes may be tried again.

Pure books, shared by the streams of both clients; connecting and sending are theirs.
"""

from __future__ import annotations

import enum
import heapq
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from pagesight._errors import PagesightError, UnavailableError
from pagesight._retry import Attempts, Retries, is_repeatable
from pagesight._spread import Places


class Step(enum.Enum):
    """What a lane does that has no screenshot to send."""

    WAIT = enum.auto()
    END = enum.auto()


class Lane:
    """One call, and after its end the next one."""

    def __init__(self, number: int, place: int, retries: Retries) -> None:
        self.number = number
        self.place = place
        """Over which connection it goes."""
        self.call: Any = None
        self.connection = 0
        """Counts its calls: what an earlier one still does is of no matter."""
        self.is_open = False
        self.due_s = 0.0
        """When the next call may be made, by `time.monotonic`."""
        self.owed: set[str] = set()
        self.has_sent = False
        """Whether this call has taken a screenshot."""
        self.has_answered = False
        """Whether a screenshot was answered over this call."""
        self.attempts = Attempts(retries)
        self.is_spent = False
        """Whether its attempts are over, so that it is tried for as long as another lane is not."""


class Lanes:
    """The lanes of one stream, and what waits to be sent; for any thread.

    Args:
        places: The connections.
        retries: How patiently lanes are made anew.
        max_in_flight: How many screenshots may be owed in all.
        message: Returns what is to be sent for a screenshot; None: it has its answer.
    """

    def __init__(
        self,
        places: Places,
        retries: Retries,
        *,
        max_in_flight: int,
        message: Callable[[str], Any | None],
    ) -> None:
        self.lock = threading.RLock()
        self._places = places
        self._retries = retries
        self._max_in_flight = max_in_flight
        self._message = message
        self._waiting: list[int] = []
        self._lanes: list[Lane] = []
        self._untold: PagesightError | None = None
        """What ended a lane while another connection was being made, which may serve instead."""
        self._is_finished = False
        self.grow(1)

    def grow(self, count: int) -> None:
        """Sees to it that there are so many lanes, or more, one for each connection at least."""
        with self.lock:
            wanted = max(len(self._places), min(count, self._max_in_flight))
            for number in range(len(self._lanes), wanted):
                self._lanes.append(Lane(number, number % len(self._places), self._retries))

    def put(self, request_id: str) -> None:
        """Adds a screenshot to those that wait."""
        with self.lock:
            heapq.heappush(self._waiting, int(request_id))

    def take(self, lane: Lane, connection: int) -> Any | Step:
        """Returns the next message of a lane's call, which owes an answer from now on."""
        with self.lock:
            if connection != lane.connection:
                return Step.END
            ready = self._places.is_ready(lane.place)
            while self._waiting and ready and len(lane.owed) < self._share():
                request_id = str(heapq.heappop(self._waiting))
                if (message := self._message(request_id)) is not None:
                    lane.owed.add(request_id)
                    lane.has_sent = True
                    return message
            if self._is_finished or (not ready and lane.has_sent and not lane.owed):
                return Step.END
            return Step.WAIT

    def finish(self) -> None:
        """Notes that every screenshot has its answer: the calls may end."""
        with self.lock:
            self._is_finished = True

    def settled(self, request_id: str, lane: Lane | None) -> None:
        """Notes that a screenshot is owed no more, and over which lane it was answered, if any."""
        with self.lock:
            for one in self._lanes:
                one.owed.discard(request_id)
            if lane is not None:
                lane.has_answered = True
                lane.is_spent = False
                lane.attempts = Attempts(self._retries)

    def owes(self) -> bool:
        """Tells whether an answer is owed over any call."""
        with self.lock:
            return any(lane.owed for lane in self._lanes)

    def due(self) -> list[Lane]:
        """Returns the lanes whose next call may be made now."""
        now_s = time.monotonic()
        with self.lock:
            return [lane for lane in self._closed() if lane.due_s <= now_s]

    def wait_s(self, at_most_s: float) -> float:
        """Returns how long until a lane is due."""
        with self.lock:
            due_s = [lane.due_s for lane in self._closed()]
        if not due_s:
            return at_most_s
        return min(at_most_s, max(0.0, min(due_s) - time.monotonic()))

    def is_over(self) -> bool:
        """Tells whether no call is left whose end is worth waiting for."""
        with self.lock:
            return not any(lane.is_open and lane.has_sent for lane in self._lanes)

    def open(self, lane: Lane) -> int:
        """Notes that the next call of a lane is made; returns its number."""
        with self.lock:
            lane.connection += 1
            lane.is_open, lane.has_sent, lane.has_answered = True, False, False
            return lane.connection

    def places_changed(self) -> None:
        """Makes lanes due whose connection has become READY, and tells where none can be soon."""
        if len(self._places) == 1:
            return
        with self.lock:
            for lane in self._lanes:
                if not lane.is_open and self._places.is_ready(lane.place):
                    lane.due_s = 0.0
            if self._untold is not None and self._places.is_settled():
                if not any(map(self._places.is_ready, range(len(self._places)))):
                    self._retries.tell(self._untold)
                self._untold = None

    def ended(self, lane: Lane, error: Exception | None) -> None:
        """Notes the end of a lane's call; what it owed waits again.

        Args:
            lane: Whose.
            error: What ended it; None: the server, without one.

        Raises:
            Exception: `error`, or that answers are owed, if no lane may be tried again.
        """
        with self.lock:
            lane.is_open = False
            lane.connection += 1
            owed, lane.owed = lane.owed, set()
            for request_id in owed:
                heapq.heappush(self._waiting, int(request_id))
            if (error is None or is_orderly(error)) and (lane.has_answered or not owed):
                # Nothing was sent that might have been answered, or something was.
                pause_s = 0.0 if lane.has_answered else self._retries.policy.delay_s(1)
                lane.due_s = time.monotonic() + pause_s
                return
            if error is None:
                error = UnavailableError(
                    f"the server ended the stream; answers still owed: {len(owed)}"
                )
            if not isinstance(error, PagesightError):
                raise error
            others = self._others_may_serve(lane)
            self._untold = error if others else None
            wait_s = lane.attempts.wait_s(error, tell=not others)
            if wait_s is None:
                lane.is_spent = True
                # One whose certificate is not trusted, say, is no matter while others answer.
                if all(one.is_spent for one in self._lanes) or not (
                    is_repeatable(error) or isinstance(error, UnavailableError)
                ):
                    raise error
                wait_s = self._retries.policy.longest_delay_s
            lane.due_s = time.monotonic() + wait_s

    def close(self) -> list[Any]:
        """Ends all lanes; returns their calls."""
        with self.lock:
            for lane in self._lanes:
                lane.connection += 1
                lane.is_open = False
            calls = [lane.call for lane in self._lanes if lane.call is not None]
            for lane in self._lanes:
                lane.call = None
            return calls

    def _others_may_serve(self, lane: Lane) -> bool:
        """Tells whether another connection takes calls, or may do so as soon as it is there."""
        every = range(len(self._places))
        serve = any(self._places.is_ready(place) for place in every if place != lane.place)
        return serve or not self._places.is_settled()

    def _closed(self) -> list[Lane]:
        return [lane for lane in self._lanes if not (lane.is_open or self._is_finished)]

    def _share(self) -> int:
        able = [one for one in self._lanes if one.is_open and self._places.is_ready(one.place)]
        return math.ceil(self._max_in_flight / max(1, len(able)))


def is_orderly(error: Exception) -> bool:
    """Tells whether a server ended a call because it stops, having answered what it had read."""
    return isinstance(error, UnavailableError) and error.reason == "SHUTTING_DOWN"
