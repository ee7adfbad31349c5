"""ClassifyStream for event loops: what `_stream` is for threads, with two tasks.

    images ─ window ─> _send ──> gRPC ──> _receive ─┐
                         └── unreadable file ───────┴─> events ─> run ─> results

A plain iterable is read on the event loop: one that blocks blocks everything, so
give an async iterable where reading takes time. Files are read in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import grpc

from pagesight import _replies, _requests
from pagesight._aio_status import Ending
from pagesight._channel import Endpoint
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._ledger import Ledger, Outcome, split
from pagesight._results import ClassifyOptions, ImageSource, K, StreamResult
from pagesight.v1 import classifier_pb2 as classifier

if TYPE_CHECKING:
    from pagesight.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub

_T = TypeVar("_T")
_Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[classifier.ClassifyStreamRequest, classifier.ClassifyStreamResponse]"
)


class AsyncStream(Generic[K]):
    """One ClassifyStream call and the two tasks that serve it."""

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
        # An answer, what broke the stream, or None: the server has answered all.
        self._events: asyncio.Queue[tuple[str, Outcome] | Exception | None] = asyncio.Queue()

    async def run(
        self, stub: ClassifierServiceAsyncStub, calls: set[grpc.aio.Call]
    ) -> AsyncGenerator[StreamResult[K], None]:
        """Yields one result per input; the call begins with the first `anext`.

        Args:
            stub: Makes the call.
            calls: Where the call is noted while it lasts, for whoever closes the client.
        """
        call = stub.ClassifyStream(metadata=self._endpoint.metadata())
        calls.add(call)
        ending = Ending(call, self._endpoint)
        tasks = [
            asyncio.create_task(self._send(call)),
            asyncio.create_task(self._receive(call, ending)),
        ]
        try:
            while (event := await self._next_event()) is not None:
                if isinstance(event, Exception):
                    raise event
                for result in self._ledger.settle(*event):
                    self._window.release()
                    yield result
            if self._source_error is not None:
                raise self._source_error
            self._ledger.close()
        finally:
            calls.discard(call)
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next_event(self) -> tuple[str, Outcome] | Exception | None:
        while True:
            try:
                async with asyncio.timeout(self._ledger.patience_s()):
                    return await self._events.get()
            except TimeoutError:
                if self._ledger.is_abandoned():
                    return None
                for request_id in self._ledger.overdue():
                    self._events.put_nowait((request_id, self._endpoint.late()))

    async def _send(self, call: _Call) -> None:
        try:
            async for item, position in self._inputs():
                key, image = split(item, position)
                request_id = self._ledger.admit(key)
                try:
                    data = await read_image(image)
                except PagesightError as error:
                    self._events.put_nowait((request_id, error))
                    continue
                message = _requests.classify_stream(self._query, request_id, data)
                try:
                    await call.write(message)
                except (grpc.RpcError, asyncio.InvalidStateError):
                    return  # The call is over; `_receive` learns why.
        except Exception as error:  # whatever the caller's iterable raises is the caller's
            self._source_error = error
        self._ledger.seal()
        await call.done_writing()

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

    async def _receive(self, call: _Call, ending: Ending) -> None:
        try:
            async for reply in call:
                self._ledger.hear()
                self._events.put_nowait((reply.request_id, _replies.stream_outcome(reply)))
        except grpc.RpcError as error:
            self._events.put_nowait(await ending.error(error))
        except asyncio.CancelledError:
            self._events.put_nowait(CallCancelledError("the stream was cancelled"))
            raise
        except Exception as error:  # a bug must not leave `run` waiting
            self._events.put_nowait(error)
        else:
            self._events.put_nowait(None)


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
