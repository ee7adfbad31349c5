"""ClassifyStream for callers with threads: bounded, and never ended by one bad picture.

    images ─ window ─> _requests ──> gRPC ──> _receive ─┐
                           └── unreadable file ─────────┴─> events ─> run ─> results

Two threads beside the caller's: gRPC's own reads `_requests`, ours the replies. So
a slow source holds back no answer, and the caller can wait with a limit. The
window is given back when a result is told, which bounds what waits here too.
Whatever ends `run` ends both threads.

What a broken stream leaves open is known to the ledger: a reconnect would begin
there. `_aio_stream` is the same for event loops.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Generic

import grpc

from pagesight import _replies, _requests
from pagesight._channel import Endpoint
from pagesight._errors import PagesightError
from pagesight._ledger import Ledger, Outcome, split
from pagesight._results import ClassifyOptions, K, StreamResult
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub


class Stream(Generic[K]):
    """One ClassifyStream call and the two threads that serve it."""

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
        self._window = threading.Semaphore(max_in_flight)
        self._closed = threading.Event()
        self._source_error: BaseException | None = None
        # An answer, what broke the stream, or None: the server has answered all.
        self._events: queue.SimpleQueue[tuple[str, Outcome] | Exception | None]
        self._events = queue.SimpleQueue()

    def run(self, stub: ClassifierServiceStub) -> Generator[StreamResult[K], None, None]:
        """Yields one result per input; the call begins with the first `next`."""
        call = stub.ClassifyStream(self._requests(), metadata=self._endpoint.metadata())
        receiver = threading.Thread(
            target=self._receive, args=(call,), name="pagesight-stream", daemon=True
        )
        receiver.start()
        try:
            while (event := self._next_event()) is not None:
                if isinstance(event, Exception):
                    raise event
                for result in self._ledger.settle(*event):
                    self._window.release()
                    yield result
            if self._source_error is not None:
                raise self._source_error
            self._ledger.close()
        finally:
            call.cancel()
            self._end_source()
            receiver.join()

    def _next_event(self) -> tuple[str, Outcome] | Exception | None:
        while True:
            try:
                return self._events.get(timeout=self._ledger.patience_s())
            except queue.Empty:
                if self._ledger.is_abandoned():
                    return None
                for request_id in self._ledger.overdue():
                    self._events.put((request_id, self._endpoint.late()))

    def _requests(self) -> Iterator[classifier.ClassifyStreamRequest]:
        try:
            source, position = iter(self._images), 0
            # The window first: what does not fit is not even taken from its source.
            while self._window.acquire() and not self._closed.is_set():
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
                    self._events.put((request_id, error))
                    continue
                yield _requests.classify_stream(self._query, request_id, data)
        except Exception as error:  # whatever the caller's iterable raises is the caller's
            self._source_error = error
        finally:
            self._ledger.seal()

    def _receive(self, call: Iterable[classifier.ClassifyStreamResponse]) -> None:
        try:
            for reply in call:
                self._ledger.hear()
                self._events.put((reply.request_id, _replies.stream_outcome(reply)))
        except grpc.RpcError as error:
            self._events.put(self._endpoint.error(error))
        except Exception as error:  # a bug must not leave `run` waiting
            self._events.put(error)
        else:
            self._events.put(None)
        finally:
            self._end_source()

    def _end_source(self) -> None:
        self._closed.set()
        self._window.release()
