"""ClassifyStream for callers with threads: bounded, and never ended by one bad picture.

    images ─ window ─> _feed ──> Lanes ──> gRPC, a call for each lane ──> _receive ─┐
                         │         ^─── again ─────────────────────────────────────┤
                         └── unreadable file ──────────────────────────────────────┴─> events ─> run

Threads beside the caller's: `_feed` reads the source, gRPC's own take from the lanes, ours
make the calls and read the replies, one for each lane. So a slow source holds back no answer, the
caller can wait with a limit, and Ctrl-C, which Python raises in the main thread, never strikes
inside gRPC. The window is given back when a result is told, which bounds what waits here too.

A call that ends before all is answered is made anew, and what has no answer is sent again under
the same request_id, over whichever lane has room (`_lanes`). Until then pictures are kept: at most
`max_in_flight` of them. The servers of a name may be others by then: it is looked up beside all
this, which may take its time. Whatever ends `run` ends the other threads. `_aio_stream` is the
same for event loops.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeAlias

import grpc

from pagesight import _replies, _requests
from pagesight._channel import Endpoint
from pagesight._classification import K, StreamResult
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._inputs import ClassifyOptions
from pagesight._lanes import Lane, Lanes, Step
from pagesight._ledger import Ledger, Outcome, split
from pagesight._resend import Resends
from pagesight._spread import Places, method_at
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub

FEEDER_GRACE_S = 0.2
"""How long the end of a stream waits for its source; one that blocks is left to itself."""


class Answer(NamedTuple):
    """A screenshot's outcome, from the server or from here."""

    request_id: str
    outcome: Outcome
    lane: Lane | None = None
    """None: from here."""


class Over(NamedTuple):
    """A lane's call has ended, with what broke it or without a word."""

    lane: Lane
    connection: int
    error: Exception | None


class Fed(NamedTuple):
    """Says that the source has ended."""


class Changed(NamedTuple):
    """A connection has changed its state, or there are more."""


Event: TypeAlias = "Answer | Over | Fed | Changed"


class Stream(Generic[K]):
    """One stream of screenshots, over as many calls as it takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        places: Places,
        images: Iterable[Any],
        options: ClassifyOptions,
        *,
        max_in_flight: int,
        ordered: bool,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, got {max_in_flight}")
        self._endpoint = endpoint
        self._each = endpoint.each()
        self._images = images
        self._query = _requests.query(options)
        self._ledger: Ledger[K] = Ledger(ordered=ordered, timeout_s=endpoint.timeout_s)
        self._resends = Resends(endpoint.retries, endpoint.timeout_s)
        self._places = places
        self._lanes = Lanes(
            places,
            endpoint.retries,
            max_in_flight=max_in_flight,
            message=self._ledger.message,
        )
        self._changed = threading.Condition(self._lanes.lock)
        self._window = threading.Semaphore(max_in_flight)
        self._given_up = threading.Event()
        self._source_error: BaseException | None = None
        self._metadata = endpoint.metadata()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._receivers: list[threading.Thread] = []
        self._counter: threading.Thread | None = None

    def run(
        self, stub: ClassifierServiceStub, closed: threading.Event
    ) -> Generator[StreamResult[K], None, None]:
        """Yields one result per input; the calls begin with the first `next`.

        Args:
            stub: Makes the calls.
            closed: Set when the client is closed.
        """
        feeder = threading.Thread(target=self._feed, name="pagesight-feed", daemon=True)
        feeder.start()
        self._places.listen(self, self._hear_of_change)
        try:
            self._lanes.grow(self._endpoint.count_servers())
            while (event := self._next_event(stub, closed)) is not None:
                match event:
                    case Answer(request_id, outcome, lane):
                        yield from self._answered(request_id, outcome, lane)
                    case Over(lane, connection, error) if connection == lane.connection:
                        if closed.is_set():
                            raise CallCancelledError("the client was closed") from error
                        if not self._ledger.is_done():
                            self._lanes.ended(lane, error)
                            self._wake()
                            self._count_servers()
                        else:
                            lane.is_open = False
                if self._ledger.is_done():
                    self._lanes.finish()
                    self._wake()
                    if self._lanes.is_over():
                        break
            if self._source_error is not None:
                raise self._source_error
        finally:
            self._places.unlisten(self)
            self._given_up.set()
            self._window.release()
            calls = self._lanes.close()
            self._wake()
            for call in calls:
                call.cancel()
            feeder.join(FEEDER_GRACE_S)
            for receiver in self._receivers:
                receiver.join()

    def _connect(self, stub: ClassifierServiceStub) -> None:
        """Makes the calls of the lanes that are due."""
        if not (due := self._lanes.due()):
            return
        self._receivers = [thread for thread in self._receivers if thread.is_alive()]
        for lane in due:
            receiver = threading.Thread(
                target=self._receive,
                args=(stub, lane, self._lanes.open(lane)),
                name="pagesight-stream",
                daemon=True,
            )
            receiver.start()
            self._receivers.append(receiver)
        self._wake()  # What each may take has changed.

    def _count_servers(self) -> None:
        """Looks, in a thread, whether the name stands for more servers than are known."""

        def grow() -> None:
            self._lanes.grow(self._endpoint.count_servers())
            self._events.put(Changed())

        if self._endpoint.is_name and not (self._counter and self._counter.is_alive()):
            self._counter = threading.Thread(target=grow, name="pagesight-names", daemon=True)
            self._counter.start()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _hear_of_change(self) -> None:
        self._lanes.places_changed()
        self._wake()
        self._events.put(Changed())

    def _answered(
        self, request_id: str, outcome: Outcome, lane: Lane | None
    ) -> Generator[StreamResult[K], None, None]:
        if self._ledger.message(request_id) is not None:
            if isinstance(outcome, PagesightError) and self._resends.again(request_id, outcome):
                self._lanes.settled(request_id, None)
                return
            self._resends.settled(request_id)
        self._lanes.settled(request_id, lane)
        self._wake()
        for result in self._ledger.settle(request_id, outcome):
            self._window.release()
            yield result

    def _next_event(self, stub: ClassifierServiceStub, closed: threading.Event) -> Event | None:
        while True:
            if closed.is_set():
                raise CallCancelledError("the client was closed")
            for request_id in self._resends.due():
                self._lanes.put(request_id)
                self._wake()
            if not self._lanes.owes():
                self._ledger.hear()  # a server that is away is `retry_for_s`'s matter
            self._connect(stub)
            wait_s = self._lanes.wait_s(self._resends.wait_s(self._ledger.patience_s()))
            try:
                return self._events.get(timeout=wait_s)
            except queue.Empty:
                if self._ledger.is_abandoned():
                    return None
            if self._lanes.owes():
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
                except BaseException:
                    self._ledger.drop(request_id)
                    raise
                message = _requests.classify_stream(self._query, request_id, data)
                self._ledger.keep(request_id, message)
                self._lanes.put(request_id)
                self._wake()
        except BaseException as error:  # whatever the caller's iterable raises is the caller's
            self._source_error = error
        finally:
            self._ledger.seal()
            self._events.put(Fed())

    def _requests(self, lane: Lane, connection: int) -> Iterator[classifier.ClassifyStreamRequest]:
        """Yields what a lane's call sends, for as long as it is its present one."""
        while True:
            with self._changed:
                while (step := self._lanes.take(lane, connection)) is Step.WAIT:
                    self._changed.wait()
            if step is Step.END:
                return
            yield step

    def _receive(self, stub: ClassifierServiceStub, lane: Lane, connection: int) -> None:
        try:
            method = method_at(stub.ClassifyStream, lane.place)
            call = lane.call = method(self._requests(lane, connection), metadata=self._metadata)
            if self._given_up.is_set():  # before there was a call to cancel
                call.cancel()
            for reply in call:
                self._ledger.hear()
                outcome = _replies.stream_outcome(reply)
                self._events.put(Answer(reply.request_id, outcome, lane))
        except grpc.RpcError as error:
            self._events.put(Over(lane, connection, self._each[lane.place].error(error)))
            # The error is the call itself: it would keep this frame, and so the stream's pictures.
            error.__traceback__ = None
        except Exception as error:  # a bug must not leave `run` waiting
            self._events.put(Over(lane, connection, error))
        else:
            self._events.put(Over(lane, connection, None))
