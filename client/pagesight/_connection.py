"""One channel to one server, its stubs, and how a single call is made over it.

    Connection      <── GalleryCalls      <── Client
    AsyncConnection <── AsyncGalleryCalls <── AsyncClient

What happens to every call (the timeout, retries, errors becoming ours) happens here, once
for threads and once for event loops.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import grpc

from pagesight import _replies
from pagesight._channel import ChannelOptions, Endpoint
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._replies import ProgressCallback
from pagesight._retry import DEFAULT_RETRY, RetryPolicy
from pagesight._security import TlsConfig
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub
from pagesight.v1.gallery_pb2_grpc import GalleryServiceStub

if TYPE_CHECKING:
    from typing import Self

    from pagesight.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub
    from pagesight.v1.gallery_pb2_grpc import GalleryServiceAsyncStub

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 60.0

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")
_Value = TypeVar("_Value")


class OpenStream(Protocol):
    """A stream that ends with its client."""

    async def give_up(self) -> None:
        """Hangs up."""


class Connection:
    """An open channel, to be closed."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsConfig | None = None,
        token: str | None = None,
        retry: RetryPolicy = DEFAULT_RETRY,
        keepalive_s: float = 300.0,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: ChannelOptions = (),
        connections: int = 1,
    ) -> None:
        """Prepares the channel; the first call connects.

        Args:
            address: "host:port" of the server.
            timeout_s: Longest wait for an answer, in seconds; on a stream, for the next
                one. What is owed then fails with `DeadlineExceededError`.
            tls: How the two sides prove who they are. None: no TLS.
            token: Bearer token, sent with every call; without TLS to this machine alone.
            retry: How often a call is repeated that failed on a server that is away or has
                no room. `RetryPolicy(attempts=1)`: never.
            keepalive_s: How often a silent connection is probed while calls wait on it. A
                stock server takes less than 300 for an attack.
            credentials: In place of `tls`: gRPC's own channel credentials.
            channel_options: gRPC channel arguments that override ours.
            connections: Connections that calls and streams take turns at. A stream stays on
                its connection, and a connection with one process of the server: for a server
                of several processes, open as many streams and connections, or more.
        """
        self._endpoint = Endpoint(
            address=address,
            timeout_s=timeout_s,
            tls=tls,
            token=token,
            retry=retry,
            keepalive_s=keepalive_s,
            credentials=credentials,
            options=channel_options,
            connections=connections,
        )
        self._closed = threading.Event()
        self._channel = self._endpoint.connect()
        self._classifier = ClassifierServiceStub(self._channel)
        self._gallery = GalleryServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channel; calls under way end with `CallCancelledError`."""
        self._closed.set()
        self._channel.close()

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Reply],
        request: _Request,
        read: Callable[[_Reply], _Value],
        timeout_s: float | None = None,
    ) -> _Value:
        metadata = self._endpoint.metadata()

        def attempt(left_s: float) -> _Value:
            try:
                return read(method(request, timeout=left_s, metadata=metadata))
            except grpc.RpcError as error:
                raise self._endpoint.error(error) from error

        return self._repeated(attempt, timeout_s or self._endpoint.timeout_s)

    def _call_with_progress(
        self,
        method: Callable[..., Iterable[Any]],
        request: object,
        read: Callable[[Any], _Value],
        progress: ProgressCallback | None,
    ) -> _Value:
        metadata = self._endpoint.metadata()

        def attempt(left_s: float) -> _Value:
            try:
                replies = method(request, timeout=left_s, metadata=metadata)
                return read(_replies.last(replies, progress))
            except grpc.RpcError as error:
                raise self._endpoint.error(error) from error

        return self._repeated(attempt, self._endpoint.timeout_s)

    def _repeated(self, attempt: Callable[[float], _Value], timeout_s: float) -> _Value:
        """Makes a call, given the seconds that are left for it, until it need not be repeated."""
        give_up_s = time.monotonic() + timeout_s
        for failures in count(1):
            try:
                return attempt(max(0.0, give_up_s - time.monotonic()))
            except PagesightError as failure:
                wait_s = self._endpoint.retry.delay_s(failure, failures)
                if wait_s is None or time.monotonic() + wait_s >= give_up_s:
                    raise
            if self._closed.wait(wait_s):
                raise CallCancelledError("the client was closed")
        raise AssertionError("count never ends")


class AsyncConnection:
    """A channel of the event loop in which it is first used, to be closed."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsConfig | None = None,
        token: str | None = None,
        retry: RetryPolicy = DEFAULT_RETRY,
        keepalive_s: float = 300.0,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: ChannelOptions = (),
        connections: int = 1,
    ) -> None:
        """Notes where the server is; the first call opens the channel and connects.

        Args:
            address: "host:port" of the server.
            timeout_s: Longest wait for an answer, in seconds; on a stream, for the next
                one. What is owed then fails with `DeadlineExceededError`.
            tls: How the two sides prove who they are. None: no TLS.
            token: Bearer token, sent with every call; without TLS to this machine alone.
            retry: How often a call is repeated that failed on a server that is away or has
                no room. `RetryPolicy(attempts=1)`: never.
            keepalive_s: How often a silent connection is probed while calls wait on it. A
                stock server takes less than 300 for an attack.
            credentials: In place of `tls`: gRPC's own channel credentials.
            channel_options: gRPC channel arguments that override ours.
            connections: Connections that calls and streams take turns at. A stream stays on
                its connection, and a connection with one process of the server: for a server
                of several processes, open as many streams and connections, or more.
        """
        self._endpoint = Endpoint(
            address=address,
            timeout_s=timeout_s,
            tls=tls,
            token=token,
            retry=retry,
            keepalive_s=keepalive_s,
            credentials=credentials,
            options=channel_options,
            connections=connections,
        )
        self._closed = False
        self._opened: grpc.aio.Channel | None = None
        self._streams: set[OpenStream] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel; calls under way end with `CallCancelledError`."""
        self._closed = True
        # Older channels do not find all of their own streams when they close, and no connection is
        # hung up while somebody holds a call on it.
        for stream in tuple(self._streams):
            await stream.give_up()
        if self._opened is not None:
            await self._opened.close()

    @property
    def _channel(self) -> grpc.aio.Channel:
        # Not before it is needed: a channel belongs to the loop that runs when it opens.
        if self._opened is None:
            self._opened = self._endpoint.connect_async()
        return self._opened

    @property
    def _classifier(self) -> ClassifierServiceAsyncStub:
        return cast("ClassifierServiceAsyncStub", ClassifierServiceStub(self._channel))

    @property
    def _gallery(self) -> GalleryServiceAsyncStub:
        return cast("GalleryServiceAsyncStub", GalleryServiceStub(self._channel))

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Reply],
        request: _Request,
        read: Callable[[_Reply], _Value],
        timeout_s: float | None = None,
    ) -> _Value:
        metadata = self._endpoint.metadata()

        async def attempt(left_s: float) -> _Value:
            try:
                return read(await method(request, timeout=left_s, metadata=metadata))
            except grpc.RpcError as error:
                raise self._endpoint.error(error) from error

        return await self._repeated(attempt, timeout_s or self._endpoint.timeout_s)

    async def _call_with_progress(
        self,
        method: Callable[..., AsyncIterable[Any]],
        request: object,
        read: Callable[[Any], _Value],
        progress: ProgressCallback | None,
    ) -> _Value:
        metadata = self._endpoint.metadata()

        async def attempt(left_s: float) -> _Value:
            try:
                replies = method(request, timeout=left_s, metadata=metadata)
                return read(await _replies.last_async(replies, progress))
            except grpc.RpcError as error:
                raise self._endpoint.error(error) from error

        return await self._repeated(attempt, self._endpoint.timeout_s)

    async def _repeated(
        self, attempt: Callable[[float], Awaitable[_Value]], timeout_s: float
    ) -> _Value:
        """Makes a call, given the seconds that are left for it, until it need not be repeated."""
        give_up_s = time.monotonic() + timeout_s
        for failures in count(1):
            try:
                return await attempt(max(0.0, give_up_s - time.monotonic()))
            except PagesightError as failure:
                wait_s = self._endpoint.retry.delay_s(failure, failures)
                if wait_s is None or time.monotonic() + wait_s >= give_up_s:
                    raise
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and task is not None and not task.cancelling():
                    # Not our caller's: grpc.aio's, of a call whose channel was closed.
                    raise CallCancelledError("the client was closed") from None
                raise
            await asyncio.sleep(wait_s)
            if self._closed:
                raise CallCancelledError("the client was closed")
        raise AssertionError("count never ends")
