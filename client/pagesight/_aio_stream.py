"""ClassifyStream for event loops: what `_stream` is for threads, with three tasks.

    images ─ window ─> _feed ──> outbox ─> _send ──> gRPC ──> _receive ─┐
                         │         ^─── again ─────────────────────────┤
                         └── unreadable file ──────────────────────────┴─> events ─> run

A plain iterable is read on the event loop: one that blocks blocks everything, so
give an async iterable where reading takes time. Files are read in a thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import grpc

from pagesight import _replies, _requests
from pagesight._aio_status import Ending
from pagesight._channel import Endpoint
from pagesight._connection import OpenStream
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._ledger import Ledger, Outcome, split
from pagesight._resend import Resends
from pagesight._results import ClassifyOptions, ImageSource, K, StreamResult
from pagesight._stream import Answer, Event, Fed, Over
from pagesight.v1 import classifier_pb2 as classifier

if TYPE_CHECKING:
    from pagesight.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub

_T = TypeVar("_T")
_Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[classifier.ClassifyStreamRequest, classifier.ClassifyStreamResponse]"
)


class AsyncStream(Generic[K]):
    """One stream of screenshots, over as many connections as it takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        images: Iterable[Any] | AsyncIterable[Any],
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
        self._window = asyncio.Semaphore(max_in_flight)
        self._source_error: BaseException | None = None
        self._resends = Resends(endpoint.retries, endpoint.timeout_s)
        self._metadata = endpoint.metadata()
        self._outbox: deque[classifier.ClassifyStreamRequest] = deque()
        self._changed = asyncio.Event()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._connection = 0
        self._call: _Call | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._feeder: asyncio.Task[None] | None = None

    async def run(
        self, stub: ClassifierServiceAsyncStub, streams: set[OpenStream]
    ) -> AsyncGenerator[StreamResult[K], None]:
        """Yields one result per input; the call begins with the first `anext`.

        Args:
            stub: Makes the calls.
            streams: Where this one is noted, for whoever closes the client.
        """
        streams.add(self)
        self._feeder = asyncio.create_task(self._feed())
        try:
            self._connect(stub)
            while (event := await self._next_event()) is not None:
                match event:
                    case Answer(request_id, outcome):
                        for result in self._answered(request_id, outcome):
                            self._window.release()
                            yield result
                    case Over(connection, error) if connection == self._connection:
                        if self._ledger.is_done():
                            break
                        await self._wait_to_reconnect(error or self._ledger.owed())
                        await self._disconnect()
                        self._connect(stub)
                if self._ledger.is_done():
                    self._changed.set()
            if self._source_error is not None:
                raise self._source_error
        finally:
            streams.discard(self)
            await self.give_up()

    async def give_up(self) -> None:
        """Hangs up; `run` raises CallCancelledError when it is asked for another result."""
        # The source itself may close the client, and cannot wait for its own end.
        if self._feeder is not None and self._feeder is not asyncio.current_task():
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)
        await self._disconnect()
        # `_receive` may not have begun, and tells nothing then.
        self._events.put_nowait(Over(self._connection, CallCancelledError("the client was closed")))

    def _connect(self, stub: ClassifierServiceAsyncStub) -> None:
        self._connection += 1
        self._outbox = deque(self._ledger.unanswered(but=self._resends.waiting()))
        try:
            call = stub.ClassifyStream(metadata=self._metadata)
        except grpc.aio.UsageError as error:  # closed while we waited to connect anew
            raise CallCancelledError("the client was closed") from error
        self._call = call
        ending = Ending(call, self._endpoint)
        self._tasks = [
            asyncio.create_task(self._send(call)),
            asyncio.create_task(self._receive(call, ending, self._connection)),
        ]

    async def _disconnect(self) -> None:
        # Not kept: the tracebacks of the tasks hold the call, which holds the connection.
        call, tasks, self._call, self._tasks = self._call, self._tasks, None, []
        if call is not None:
            call.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_to_reconnect(self, error: Exception) -> None:
        wait_s = None
        if isinstance(error, PagesightError):
            wait_s = self._resends.reconnect_s(error)
        if wait_s is None:
            raise error
        await asyncio.sleep(wait_s)
        self._ledger.hear()  # a server that is away is `retry_for_s`'s matter, not the timeout's

    def _answered(self, request_id: str, outcome: Outcome) -> Iterator[StreamResult[K]]:
        if self._ledger.message(request_id) is not None:
            if isinstance(outcome, PagesightError) and self._resends.again(request_id, outcome):
                return
            self._resends.settled(request_id)
        yield from self._ledger.settle(request_id, outcome)

    async def _next_event(self) -> Event | None:
        while True:
            for request_id in self._resends.due():
                if (message := self._ledger.message(request_id)) is not None:
                    self._outbox.append(message)
                    self._changed.set()
            try:
                async with asyncio.timeout(self._resends.wait_s(self._ledger.patience_s())):
                    return await self._events.get()
            except TimeoutError:
                if self._ledger.is_abandoned():
                    return None
                for request_id in self._ledger.overdue():
                    self._events.put_nowait(Answer(request_id, self._endpoint.late()))

    async def _feed(self) -> None:
        try:
            async for item, position in self._inputs():
                key, image = split(item, position)
                request_id = self._ledger.admit(key)
                try:
                    data = await read_image(image)
                except PagesightError as error:
                    self._events.put_nowait(Answer(request_id, error))
                    continue
                except Exception:
                    self._ledger.drop(request_id)
                    raise
                message = _requests.classify_stream(self._query, request_id, data)
                self._ledger.keep(request_id, message)
                self._outbox.append(message)
                self._changed.set()
        except Exception as error:  # whatever the caller's iterable raises is the caller's
            self._source_error = error
        self._ledger.seal()
        self._events.put_nowait(Fed())

    async def _inputs(self) -> AsyncIterator[tuple[Any, int]]:
        source, position = as_async(self._images), 0
        # The window first: what does not fit is not even taken from its source.
        while await self._window.acquire():
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            yield item, position
            position += 1

    async def _send(self, call: _Call) -> None:
        while True:
            while self._outbox:
                try:
                    await call.write(self._outbox.popleft())
                except (grpc.RpcError, asyncio.InvalidStateError):
                    return  # The call is over; `_receive` learns why.
            if self._ledger.is_done():
                await call.done_writing()
                return
            self._changed.clear()
            await self._changed.wait()

    async def _receive(self, call: _Call, ending: Ending, connection: int) -> None:
        try:
            async for reply in call:
                self._ledger.hear()
                self._events.put_nowait(Answer(reply.request_id, _replies.stream_outcome(reply)))
        except grpc.RpcError as error:
            self._events.put_nowait(Over(connection, await ending.error(error)))
        except asyncio.CancelledError:
            cancelled = CallCancelledError("the stream was cancelled")
            self._events.put_nowait(Over(connection, cancelled))
            raise
        except Exception as error:  # a bug must not leave `run` waiting
            self._events.put_nowait(Over(connection, error))
        else:
            self._events.put_nowait(Over(connection, None))


async def as_async(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    """Yields the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def read_image(image: ImageSource) -> bytes:
    """Returns the bytes of a picture without blocking the event loop."""
    if not isinstance(image, bytes | bytearray | memoryview):
        return await asyncio.to_thread(_requests.read_image, image)
    return _requests.read_image(image)
