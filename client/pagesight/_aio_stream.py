"""ClassifyStream for event loops: what `_stream` is for threads, with tasks.

    images ─ window ─> _feed ──> Lanes ─> _send ──> gRPC ──> _receive ─┐
                         │         ^─── again ────────────────────────┤
                         └── unreadable file ─────────────────────────┴─> events ─> run

A plain iterable is read on the event loop: one that blocks blocks everything, so
give an async iterable where reading takes time. Files are read in a thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import grpc

from pagesight import _replies, _requests
from pagesight._aio_status import Ending
from pagesight._channel import Endpoint
from pagesight._classification import K, StreamResult
from pagesight._connection import OpenStream
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._inputs import ClassifyOptions, ImageSource
from pagesight._lanes import Lane, Lanes, Step
from pagesight._ledger import Ledger, Outcome, split
from pagesight._resend import Resends
from pagesight._spread import Places, method_at
from pagesight._stream import Answer, Changed, Event, Fed, Over
from pagesight.v1 import classifier_pb2 as classifier

if TYPE_CHECKING:
    from pagesight.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub

STANDSTILL_GRACE_S = 0.1
"""How long answers have to be read before a server counts as silent, which takes a few turns of the
event loop: whoever blocks that keeps this stream from hearing what came."""

_T = TypeVar("_T")
_Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[classifier.ClassifyStreamRequest, classifier.ClassifyStreamResponse]"
)


class AsyncStream(Generic[K]):
    """One stream of screenshots, over as many calls as it takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        places: Places,
        images: Iterable[Any] | AsyncIterable[Any],
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
        self._places = places
        self._lanes = Lanes(
            places,
            endpoint.retries,
            max_in_flight=max_in_flight,
            message=self._ledger.message,
        )
        self._window = asyncio.Semaphore(max_in_flight)
        self._source_error: BaseException | None = None
        self._resends = Resends(endpoint.retries, endpoint.timeout_s)
        self._metadata = endpoint.metadata()
        self._changed = asyncio.Event()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: dict[Lane, list[asyncio.Task[None]]] = {}
        self._feeder: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._is_closed = False

    async def run(
        self, stub: ClassifierServiceAsyncStub, streams: set[OpenStream]
    ) -> AsyncGenerator[StreamResult[K], None]:
        """Yields one result per input; the calls begin with the first `anext`.

        Args:
            stub: Makes the calls.
            streams: Where this one is noted, for whoever closes the client.
        """
        streams.add(self)
        self._feeder = asyncio.create_task(self._feed())
        loop = asyncio.get_running_loop()
        self._places.listen(
            self, functools.partial(loop.call_soon_threadsafe, self._hear_of_change)
        )
        try:
            self._count_servers()
            if self._counting is not None:
                await asyncio.wait([self._counting])
            while (event := await self._next_event(stub)) is not None:
                match event:
                    case Answer(request_id, outcome, lane):
                        for result in self._answered(request_id, outcome, lane):
                            self._window.release()
                            yield result
                    case Over(lane, connection, error) if connection == lane.connection:
                        if not self._ledger.is_done():
                            self._lanes.ended(lane, error)
                            await self._disconnect(lane)
                            self._count_servers()
                        else:
                            lane.is_open = False
                if self._ledger.is_done():
                    self._lanes.finish()
                    if self._lanes.is_over():
                        break
                self._changed.set()
            if self._source_error is not None:
                raise self._source_error
        finally:
            self._places.unlisten(self)
            streams.discard(self)
            await self.give_up()

    async def give_up(self) -> None:
        """Hangs up; `run` raises CallCancelledError when it is asked for another result."""
        self._is_closed = True
        # The source itself may close the client, and cannot wait for its own end.
        if self._feeder is not None and self._feeder is not asyncio.current_task():
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)
            self._feeder = None  # Its traceback would keep this stream, and its pictures.
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)
        self._lanes.close()
        for lane in tuple(self._tasks):
            await self._disconnect(lane)
        self._events.put_nowait(Changed())  # `run` looks whether it is closed.

    def _count_servers(self) -> None:
        """Looks, in a thread, whether the name stands for more servers than are known."""

        async def grow() -> None:
            self._lanes.grow(await asyncio.to_thread(self._endpoint.count_servers))
            self._events.put_nowait(Changed())

        if self._endpoint.is_name and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(grow())

    def _connect(self, stub: ClassifierServiceAsyncStub) -> None:
        """Makes the calls of the lanes that are due."""
        if not (due := self._lanes.due()):
            return
        for lane in due:
            connection = self._lanes.open(lane)
            try:
                call = method_at(stub.ClassifyStream, lane.place)(metadata=self._metadata)
            except grpc.aio.UsageError as error:  # closed while we waited to connect anew
                raise CallCancelledError("the client was closed") from error
            ending = Ending(call, self._each[lane.place])
            lane.call = call
            self._tasks[lane] = [
                asyncio.create_task(self._send(call, lane, connection)),
                asyncio.create_task(self._receive(call, ending, lane, connection)),
            ]
        self._changed.set()  # What each may take has changed.

    async def _disconnect(self, lane: Lane) -> None:
        # Not kept: the tracebacks of the tasks hold the call, which holds the connection.
        call, tasks, lane.call = lane.call, self._tasks.pop(lane, []), None
        if call is not None:
            call.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hear_of_change(self) -> None:
        self._lanes.places_changed()
        self._changed.set()
        self._events.put_nowait(Changed())

    def _answered(
        self, request_id: str, outcome: Outcome, lane: Lane | None
    ) -> Iterator[StreamResult[K]]:
        if self._ledger.message(request_id) is not None:
            if isinstance(outcome, PagesightError) and self._resends.again(request_id, outcome):
                self._lanes.settled(request_id, None)
                return
            self._resends.settled(request_id)
        self._lanes.settled(request_id, lane)
        yield from self._ledger.settle(request_id, outcome)

    async def _next_event(self, stub: ClassifierServiceAsyncStub) -> Event | None:
        while True:
            if self._is_closed:
                raise CallCancelledError("the client was closed")
            for request_id in self._resends.due():
                self._lanes.put(request_id)
                self._changed.set()
            if not self._lanes.owes():
                self._ledger.hear()  # a server that is away is `retry_for_s`'s matter
            self._connect(stub)
            wait_s = self._lanes.wait_s(self._resends.wait_s(self._ledger.patience_s()))
            if (event := await self._event_within(wait_s)) is not None:
                return event
            if self._ledger.is_abandoned():
                return None
            if not self._lanes.owes() or not self._ledger.overdue():
                continue
            if (event := await self._event_within(STANDSTILL_GRACE_S)) is not None:
                return event
            for request_id in self._ledger.overdue():
                self._events.put_nowait(Answer(request_id, self._endpoint.late()))

    async def _event_within(self, wait_s: float) -> Event | None:
        try:
            async with asyncio.timeout(wait_s):
                return await self._events.get()
        except TimeoutError:
            return None

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
                except BaseException:
                    self._ledger.drop(request_id)
                    raise
                message = _requests.classify_stream(self._query, request_id, data)
                self._ledger.keep(request_id, message)
                self._lanes.put(request_id)
                self._changed.set()
        except BaseException as error:  # whatever the caller's iterable raises is the caller's
            if self._is_closed:
                raise  # `give_up` has cancelled this task: the source has more.
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

    async def _send(self, call: _Call, lane: Lane, connection: int) -> None:
        while (step := self._lanes.take(lane, connection)) is not Step.END:
            if step is Step.WAIT:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                await call.write(step)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # The call is over; `_receive` learns why.
        await call.done_writing()

    async def _receive(self, call: _Call, ending: Ending, lane: Lane, connection: int) -> None:
        over = functools.partial(Over, lane, connection)
        try:
            async for reply in call:
                self._ledger.hear()
                outcome = _replies.stream_outcome(reply)
                self._events.put_nowait(Answer(reply.request_id, outcome, lane))
        except grpc.RpcError as error:
            self._events.put_nowait(over(await ending.error(error)))
        except asyncio.CancelledError:
            self._events.put_nowait(over(CallCancelledError("the stream was cancelled")))
            raise
        except Exception as error:  # a bug must not leave `run` waiting
            self._events.put_nowait(over(error))
        else:
            self._events.put_nowait(over(None))


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
