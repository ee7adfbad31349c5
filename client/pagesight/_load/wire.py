"""Transport of messages: the SDK's channels, requests and errors, without its conveniences.

    send(item) ──> Lane with the fewest in flight ──> reply, with its time of arrival
                    ├── UnaryLane    a call for each
                    └── StreamLane   outbox ─> one ClassifyStream call ─> futures by request_id

The stubs are used directly: the SDK retries, reopens broken streams and converts replies, while a
load test must see each failure once and cost as little as possible. A stream that breaks fails all
messages that wait for replies, and the next message opens another one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc

from pagesight import _requests
from pagesight._aio_status import Ending
from pagesight._channel import Endpoint
from pagesight._errors import PagesightError, UnavailableError, from_status
from pagesight._inputs import ClassifyOptions, Priority
from pagesight._load.mix import Item
from pagesight._load.plan import Plan
from pagesight._load.tally import Reply
from pagesight._security import TlsConfig
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub

if TYPE_CHECKING:
    from pagesight.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub

Send: TypeAlias = Callable[[Item], Awaitable[Reply]]
"""Sends a message and returns its reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The server's address and the credentials; kept out of plans, which are stored in reports."""

    address: str
    token: str | None = field(default=None, repr=False)
    """Bearer token; None: none is sent."""
    tls: TlsConfig | None = None
    """Certificates by their paths, as a worker process is told of them in JSON. None: no TLS."""

    def plain(self) -> dict[str, Any]:
        """Returns what JSON can say; `from_plain` is its inverse."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Access:
        """Reads what `plain` returned."""
        tls = plain["tls"]
        return cls(**plain | {"tls": None if tls is None else TlsConfig(**tls)})

    def endpoint(self, timeout_s: float) -> Endpoint:
        """Returns the endpoint that connections are made to.

        Raises:
            OSError: A file of a certificate, key or authority cannot be read.
            ValueError: Token, address or one of these files cannot be used.
        """
        # By default, gRPC channels to the same address share one connection.
        own = [("grpc.use_local_subchannel_pool", 1)]
        return Endpoint(
            address=self.address, timeout_s=timeout_s, token=self.token, tls=self.tls, options=own
        )


class Queries:
    """Builds the queries of messages, one for each priority and deadline, for reuse."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._built: dict[tuple[str, int], classifier.Query] = {}

    def of(self, item: Item) -> classifier.Query:
        """Returns the query of a message, without its picture."""
        key = (item.priority, item.deadline_ms)
        if key not in self._built:
            options = ClassifyOptions(
                gallery=self._plan.gallery,
                ocr=self._plan.ocr,
                priority=cast("Priority", item.priority),
                deadline_ms=item.deadline_ms or None,
            )
            self._built[key] = _requests.query(options)
        return self._built[key]


class Lane(ABC):
    """A connection over which messages are sent."""

    def __init__(self, endpoint: Endpoint, queries: Queries, name: str) -> None:
        self.in_flight = 0
        self._endpoint = endpoint
        self._queries = queries
        self._name = name
        self._number = 0
        self._channel = endpoint.connect_async()
        stub = ClassifierServiceStub(self._channel)
        self._stub = cast("ClassifierServiceAsyncStub", stub)

    async def send(self, item: Item) -> Reply:
        """Sends a message and waits for its reply; errors are replies, only cancellation raises."""
        self._number += 1
        timeout_s = self._endpoint.answer_timeout_s(item.deadline_ms)
        self.in_flight += 1
        try:
            return await self._ask(item, f"{self._name}-{self._number}", timeout_s)
        finally:
            self.in_flight -= 1

    @abstractmethod
    async def _ask(self, item: Item, request_id: str, timeout_s: float) -> Reply: ...

    async def renew(self) -> None:
        """Cancels what was given up; gRPC has done so with a call that timed out."""
        return

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()


class UnaryLane(Lane):
    """A connection that makes a Classify call for each message."""

    async def _ask(self, item: Item, request_id: str, timeout_s: float) -> Reply:
        request = _requests.classify(self._queries.of(item), item.image)
        request.request_id = request_id
        endpoint, loop = self._endpoint, asyncio.get_running_loop()
        try:
            reply = await self._stub.Classify(
                request, timeout=timeout_s, metadata=endpoint.metadata()
            )
        except grpc.RpcError as error:
            return _failed(endpoint.error(error), loop.time())
        return _answered(reply.classification, loop.time())


class StreamLane(Lane):
    """A connection with one stream, opened by the first message and again after it breaks."""

    _stream: _Stream | None = None

    async def _ask(self, item: Item, request_id: str, timeout_s: float) -> Reply:
        request = _requests.classify_stream(self._queries.of(item), request_id, item.image)
        if self._stream is None or self._stream.is_over:
            self._stream = _Stream(self._stub, self._endpoint)
        return await self._stream.ask(request, timeout_s)

    async def renew(self) -> None:
        """Cancels the stream if a message on it was given up; the next message opens another."""
        if self._stream is not None and self._stream.gave_up:
            await self._stream.close()
            self._stream = None

    async def close(self) -> None:
        """Cancels the stream and closes the connection."""
        if self._stream is not None:
            await self._stream.close()
        await super().close()


class _Stream:
    """Sends and reads over one ClassifyStream call."""

    def __init__(self, stub: ClassifierServiceAsyncStub, endpoint: Endpoint) -> None:
        self.is_over = False
        self.gave_up = False
        """Whether a message timed out on it. The server does not know, and still works on it."""
        self._endpoint = endpoint
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._outbox: deque[classifier.ClassifyStreamRequest] = deque()
        self._more = asyncio.Event()
        self._call = stub.ClassifyStream(metadata=endpoint.metadata())
        self._tasks = [
            asyncio.create_task(work)
            for work in (self._write(), self._read(Ending(self._call, endpoint)))
        ]

    async def ask(self, request: classifier.ClassifyStreamRequest, timeout_s: float) -> Reply:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._waiting[request.request_id] = reply
        self._outbox.append(request)
        self._more.set()
        timeout = loop.call_later(timeout_s, self._give_up, request.request_id, timeout_s)
        try:
            return await reply
        finally:
            timeout.cancel()
            self._waiting.pop(request.request_id, None)

    def _give_up(self, request_id: str, timeout_s: float) -> None:
        message = f"no answer from {self._endpoint.address} for {timeout_s:g} s"
        at_s = asyncio.get_running_loop().time()
        self.gave_up = True
        self._settle(request_id, Reply(at_s=at_s, code="DEADLINE_EXCEEDED", message=message))

    def _settle(self, request_id: str, reply: Reply) -> None:
        future = self._waiting.pop(request_id, None)
        if future is not None and not future.done():
            future.set_result(reply)

    async def _write(self) -> None:
        while True:
            while self._outbox:
                request = self._outbox.popleft()
                if request.request_id not in self._waiting:
                    continue  # timed out before it was sent
                try:
                    await self._call.write(request)
                except (grpc.RpcError, asyncio.InvalidStateError):
                    return  # the call is over; `_read` gets the error
            self._more.clear()
            await self._more.wait()

    async def _read(self, ending: Ending) -> None:
        loop = asyncio.get_running_loop()
        why: PagesightError = UnavailableError("the server ended the stream")
        try:
            async for message in self._call:
                if message.WhichOneof("outcome") == "error":
                    reply = _failed(from_status(message.error), loop.time())
                else:
                    reply = _answered(message.classification, loop.time())
                self._settle(message.request_id, reply)
        except grpc.RpcError as error:
            why = await ending.error(error) or why
        finally:
            self.is_over = True
            for request_id in tuple(self._waiting):
                self._settle(request_id, _failed(why, loop.time()))

    async def close(self) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _answered(answer: classifier.Classification, at_s: float) -> Reply:
    ocr = f" + {answer.ocr_bundle}" if answer.ocr_bundle else ""
    return Reply(
        at_s=at_s,
        stages_ms=answer.stage_ms,
        server=f"{answer.encoder_bundle}{ocr}, revision {answer.revision}",
    )


def _failed(error: PagesightError, at_s: float) -> Reply:
    return Reply(at_s=at_s, code=error.code, message=error.message)


class Lanes:
    """Spreads messages over all connections of one process."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    @classmethod
    def open(cls, plan: Plan, endpoint: Endpoint, *, name: str, count: int) -> Lanes:
        """Prepares `count` connections; each connects with its first message."""
        queries = Queries(plan)
        kind = StreamLane if plan.calls == "stream" else UnaryLane
        return cls([kind(endpoint, queries, f"{name}-{n}") for n in range(count)])

    async def send(self, item: Item) -> Reply:
        """Sends over the connection with the fewest messages in flight."""
        return await min(self._lanes, key=lambda lane: lane.in_flight).send(item)

    async def renew(self) -> None:
        """Cancels what an earlier load gave up, which would delay the answers of the next one."""
        await asyncio.gather(*(lane.renew() for lane in self._lanes))

    async def close(self) -> None:
        """Closes all of them."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))


REFUSED_S = 1.5
"""How long a server that refuses connections may take to start: gRPC retries after a second."""


async def reach(endpoint: Endpoint, timeout_s: float = 10.0) -> None:
    """Waits until the server accepts a connection.

    Args:
        endpoint: The server.
        timeout_s: Longest wait.

    Raises:
        UnavailableError: It refuses connections, or did not respond in time.
    """
    async with endpoint.connect_async() as channel:
        state = channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(timeout_s):
                while state is not grpc.ChannelConnectivity.READY:
                    refused = state is grpc.ChannelConnectivity.TRANSIENT_FAILURE
                    async with asyncio.timeout(REFUSED_S if refused else None):
                        await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise UnavailableError(f"no server answers at {endpoint.address}") from None
