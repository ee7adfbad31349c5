"""ClassifyStream for callers with threads: bounded, and never ended by one bad picture.

    images ─ window ─> _feed ──> outbox ──> gRPC ──> _receive ─┐
                         │          ^─── again ────────────────┤
                         └── unreadable file ──────────────────┴─> events ─> run ─> results

Threads beside the caller's: `_feed` reads the source, gRPC's own empties the outbox, ours
makes the call and reads the replies. So a slow source holds back no answer, the caller can
wait with a limit, and Ctrl-C, which Python raises in the main thread, never strikes inside
gRPC. The window is given back when a result is told, which bounds what waits here too.

A stream that breaks is opened anew, and what has no answer is sent again under the same
request_id (`_resend`). Until then pictures are kept: at most `max_in_flight` of them.
Whatever ends `run` ends the threads. `_aio_stream` is the same for event loops.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeAlias

import grpc

from pagesight import _replies, _requests
from pagesight._channel import Endpoint
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._ledger import Ledger, Outcome, split
from pagesight._resend import Resends
from pagesight._results import ClassifyOptions, K, StreamResult
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub

FEEDER_GRACE_S = 0.2
"""How long the end of a stream waits for its source; one that blocks is left to itself."""


class Answer(NamedTuple):
    """A screenshot's outcome, from the server or from here."""

    request_id: str
    outcome: Outcome


class Over(NamedTuple):
    """A connection has ended, with what broke it or without a word."""

    connection: int
    error: Exception | None


class Fed(NamedTuple):
    """The source has ended."""


Event: TypeAlias = "Answer | Over | Fed"


class Outbox:
    """What waits to be sent over the present connection."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._messages: deque[classifier.ClassifyStreamRequest] = deque()
        self._connection = 0
        self._finished = False

    def put(self, message: classifier.ClassifyStreamRequest) -> None:
        """Adds a message."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def connect(self, fill: Callable[[], list[classifier.ClassifyStreamRequest]]) -> int:
        """Begins a connection with what `fill` returns in place of all that waited."""
        with self._changed:
            self._connection += 1
            self._messages = deque(fill())
            self._changed.notify_all()
            return self._connection

    def finish(self) -> None:
        """No message follows; the connection may end when all are sent."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def end(self) -> None:
        """Ends whoever reads, at once."""
        with self._changed:
            self._connection += 1
            self._changed.notify_all()

    def read(self, connection: int) -> Iterator[classifier.ClassifyStreamRequest]:
        """Yields messages for as long as this is the present connection."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._messages or self._finished or self._connection != connection
                )
                if self._connection != connection or not self._messages:
                    return
                message = self._messages.popleft()
            yield message


class Stream(Generic[K]):
    """One stream of screenshots, over as many connections as it takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        images: Iterable[Any],
        options: ClassifyOptions,
        *,
        max_in_flight: int,
        ordered: bool,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, got {max_in_flight}")
        self._endpoint = endpoint
        self._images = images
        self._query = _requests.query(options)
        self._ledger: Ledger[K] = Ledger(ordered=ordered, timeout_s=endpoint.timeout_s)
        self._resends = Resends(endpoint.retries, endpoint.timeout_s)
        self._window = threading.Semaphore(max_in_flight)
        self._outbox = Outbox()
        self._given_up = threading.Event()
        self._source_error: BaseException | None = None
        self._metadata = endpoint.metadata()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._call: Any = None
        self._connection = 0
        self._receivers: list[threading.Thread] = []

    def run(
        self, stub: ClassifierServiceStub, closed: threading.Event
    ) -> Generator[StreamResult[K], None, None]:
        """Yields one result per input; the call begins with the first `next`.

        Args:
            stub: Makes the calls.
            closed: Set when the client is closed.
        """
        feeder = threading.Thread(target=self._feed, name="pagesight-feed", daemon=True)
        feeder.start()
        try:
            self._connect(stub)
            while (event := self._next_event()) is not None:
                match event:
                    case Answer(request_id, outcome):
                        yield from self._answered(request_id, outcome)
                    case Over(connection, error) if connection == self._connection:
                        if self._ledger.is_done():
                            break
                        self._wait_to_reconnect(error or self._ledger.owed(), closed)
                        self._connect(stub)
                if self._ledger.is_done():
                    self._outbox.finish()
            if self._source_error is not None:
                raise self._source_error
        finally:
            self._given_up.set()
            self._window.release()
            self._outbox.end()
            if self._call is not None:
                self._call.cancel()
            feeder.join(FEEDER_GRACE_S)
            for receiver in self._receivers:
                receiver.join()

    def _connect(self, stub: ClassifierServiceStub) -> None:
        self._connection = self._outbox.connect(
            lambda: self._ledger.unanswered(but=self._resends.waiting())
        )
        receiver = threading.Thread(
            target=self._receive,
            args=(stub, self._connection),
            name="pagesight-stream",
            daemon=True,
        )
        self._receivers = [thread for thread in self._receivers if thread.is_alive()]
        receiver.start()
        self._receivers.append(receiver)

    def _wait_to_reconnect(self, error: Exception, closed: threading.Event) -> None:
        wait_s = None
        if isinstance(error, PagesightError):
            wait_s = self._resends.reconnect_s(error)
        if wait_s is None:
            raise error
        if closed.wait(wait_s):
            raise CallCancelledError("the client was closed") from error
        self._ledger.hear()  # a server that is away is `retry_for_s`'s matter, not the timeout's

    def _answered(
        self, request_id: str, outcome: Outcome
    ) -> Generator[StreamResult[K], None, None]:
        if self._ledger.message(request_id) is not None:
            if isinstance(outcome, PagesightError) and self._resends.again(request_id, outcome):
                return
            self._resends.settled(request_id)
        for result in self._ledger.settle(request_id, outcome):
            self._window.release()
            yield result

    def _next_event(self) -> Event | None:
        while True:
            for request_id in self._resends.due():
                if (message := self._ledger.message(request_id)) is not None:
                    self._outbox.put(message)
            try:
                return self._events.get(timeout=self._resends.wait_s(self._ledger.patience_s()))
            except queue.Empty:
                if self._ledger.is_abandoned():
                    return None
                for request_id in self._ledger.overdue():
                    self._events.put(Answer(request_id, self._endpoint.late()))

    def _feed(self) -> None:
        try:
            source, position = iter(self._images), 0
            # The window first: what does not fit is not even taken from its source.
            while self._window.acquire() and not self._given_up.is_set():
                try:
                    item = next(source)
                except StopIteration:
                    return
                key, image = split(item, position)
                position += 1
                request_id = self._ledger.admit(key)
                try:
                    data = _requests.read_image(image)
                except PagesightError as error:
                    self._events.put(Answer(request_id, error))
                    continue
                except Exception:
                    self._ledger.drop(request_id)
                    raise
                message = _requests.classify_stream(self._query, request_id, data)
                with self._outbox.lock:  # or a new connection would begin between the two
                    self._ledger.keep(request_id, message)
                    self._outbox.put(message)
        except Exception as error:  # whatever the caller's iterable raises is the caller's
            self._source_error = error
        finally:
            self._ledger.seal()
            self._events.put(Fed())

    def _receive(self, stub: ClassifierServiceStub, connection: int) -> None:
        try:
            requests = self._outbox.read(connection)
            call = self._call = stub.ClassifyStream(requests, metadata=self._metadata)
            if self._given_up.is_set():  # before there was a call to cancel
                call.cancel()
            for reply in call:
                self._ledger.hear()
                self._events.put(Answer(reply.request_id, _replies.stream_outcome(reply)))
        except grpc.RpcError as error:
            self._events.put(Over(connection, self._endpoint.error(error)))
        except Exception as error:  # a bug must not leave `run` waiting
            self._events.put(Over(connection, error))
        else:
            self._events.put(Over(connection, None))
