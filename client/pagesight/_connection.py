"""One channel to a server or several, its stubs, and how a single call is made over it.

    Connection      <── GalleryCalls, ReviewCalls, DiscoveryCalls <── Client
    AsyncConnection <── the same with Async before each           <── AsyncClient

What happens to every call (the timeout, retries, errors becoming ours) happens here, once
for threads and once for event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import grpc

from pagesight import _replies
from pagesight._channel import ChannelOptions, Endpoint
from pagesight._environment import check_process
from pagesight._errors import CallCancelledError, PagesightError
from pagesight._replies import ProgressCallback
from pagesight._retry import DEFAULT_RETRY, DEFAULT_RETRY_FOR_S, Attempts, RetryPolicy
from pagesight._security import TlsConfig
from pagesight._spread import places_of
from pagesight._stubs import Opened
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub
from pagesight.v1.gallery_pb2_grpc import GalleryServiceStub
from pagesight.v1.review_pb2_grpc import ReviewServiceStub

if TYPE_CHECKING:
    from typing import Self

    from pagesight.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub
    from pagesight.v1.gallery_pb2_grpc import GalleryServiceAsyncStub
    from pagesight.v1.review_pb2_grpc import ReviewServiceAsyncStub

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
    """A channel to be closed; of the process in which it is first used."""

    def __init__(
        self,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsConfig | None = None,
        token: str | None = None,
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
        retry: RetryPolicy = DEFAULT_RETRY,
        keepalive_s: float | None = None,
        use_proxy: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: ChannelOptions = (),
        connections: int = 1,
    ) -> None:
        """Notes where the servers are; the first call opens the channel and connects.

        Args:
            address: "host:port" of the server. 0.0.0.0, on which a server listens, is
                this machine. Several servers of the same galleries: a list, or a text with
                commas between; or "dns:///name:port", for all that the name stands for. Calls go
                to those in turn that serve, by grpc.health.v1; a stream is spread over them.
            timeout_s: Longest wait for an answer, in seconds; on a stream, for the next
                one. What is owed then fails with `DeadlineExceededError`.
            tls: How the two sides prove who they are. None: no TLS.
            token: Bearer token, sent with every call; without TLS to this machine alone.
            retry_for_s: For how many seconds after its first failure a call is repeated that
                failed on a server that is away or has no room, though not beyond its timeout;
                a stream, after its last answer. The default outlasts a restart; that a server is
                overloaded is told as late, so say 2 or so where a person waits. 0: never.
            retry: How patiently, within that time.
            keepalive_s: How often a silent connection is probed while calls wait on it, in
                seconds; one that does not answer for as long again, 5 to 20 s, is given up. A
                pagesight server hangs up on those who probe more often than every 10
                (`server.min_ping_interval_seconds`), other gRPC servers below 300. None: 300, and
                10 where there are several servers, of which others can answer.
            use_proxy: Whether the proxy of the environment (`grpc_proxy`, `https_proxy`,
                `http_proxy`, less the hosts of `no_proxy`) is gone through. To this machine
                it never is.
            credentials: In place of `tls`: gRPC's own channel credentials.
            channel_options: gRPC channel arguments that override ours.
            connections: Connections to each address, at which calls take turns and over which a
                stream is spread. A connection ends at one process of a server: for one of several
                processes, as many connections, or more.
        """
        self._endpoint = Endpoint(
            address=address if isinstance(address, str) else ",".join(address),
            timeout_s=timeout_s,
            tls=tls,
            token=token,
            retry_for_s=retry_for_s,
            retry=retry,
            keepalive_s=keepalive_s,
            use_proxy=use_proxy,
            credentials=credentials,
            options=channel_options,
            connections=connections,
        )
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._opened: Opened | None = None

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
        with self._lock:
            # A fork's copy of a channel is left alone: closing it waits for threads it lacks.
            if self._opened is not None and self._opened.process == os.getpid():
                self._opened.channel.close()
                self._opened.places.close()  # Streams may be waiting, none of their calls open.

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CallCancelledError("the client was closed")

    def _open(self) -> Opened:
        self._check_open()
        if self._opened is None:
            # Not before it is needed: whoever makes a client and forks can use it in the fork.
            with self._lock:
                self._check_open()  # Nobody closes what is opened after `close`.
                if self._opened is None:
                    self._opened = Opened.of(self._endpoint.connect())
        check_process(self._opened.process)
        return self._opened

    def _can_connect(self, timeout_s: float) -> bool:
        """Tells whether a connection comes about, as soon as that is known."""
        known: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()

        def note(state: grpc.ChannelConnectivity) -> None:
            if state in (
                grpc.ChannelConnectivity.READY,
                grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            ):
                known.put(state)

        channel = self._open().channel
        channel.subscribe(note, try_to_connect=True)
        try:
            return known.get(timeout=timeout_s) is grpc.ChannelConnectivity.READY
        except queue.Empty:
            return False
        finally:
            channel.unsubscribe(note)

    @property
    def _classifier(self) -> ClassifierServiceStub:
        return self._open().classifier

    @property
    def _gallery(self) -> GalleryServiceStub:
        return self._open().gallery

    @property
    def _review(self) -> ReviewServiceStub:
        return self._open().review

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

    def _repeated(
        self, attempt: Callable[[float], _Value], timeout_s: float, *, once: bool = False
    ) -> _Value:
        """Makes a call, given the seconds that are left for it, until it need not be repeated.

        Args:
            attempt: Makes it.
            timeout_s: For all attempts together.
            once: It cannot be made a second time, as where what it sends came from a generator.
        """
        give_up_s = time.monotonic() + timeout_s
        attempts = Attempts(self._endpoint.retries)
        while True:
            self._open().places.wait(give_up_s - time.monotonic())
            self._check_open()
            try:
                value = attempt(max(0.0, give_up_s - time.monotonic()))
            except PagesightError as failure:
                wait_s = None if once else attempts.wait_s(failure, give_up_s)
                if wait_s is None:
                    raise
            except ValueError:
                self._check_open()  # What gRPC says of a channel that was closed just now.
                raise
            else:
                self._endpoint.retries.answered()
                return value
            self._closed.wait(wait_s)


class AsyncConnection:
    """A channel to be closed; of the process and event loop in which it is first used."""

    def __init__(
        self,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsConfig | None = None,
        token: str | None = None,
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
        retry: RetryPolicy = DEFAULT_RETRY,
        keepalive_s: float | None = None,
        use_proxy: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: ChannelOptions = (),
        connections: int = 1,
    ) -> None:
        """Notes where the servers are; the first call opens the channel and connects.

        Args:
            address: "host:port" of the server. 0.0.0.0, on which a server listens, is
                this machine. Several servers of the same galleries: a list, or a text with
                commas between; or "dns:///name:port", for all that the name stands for. Calls go
                to those in turn that serve, by grpc.health.v1; a stream is spread over them.
            timeout_s: Longest wait for an answer, in seconds; on a stream, for the next
                one. What is owed then fails with `DeadlineExceededError`.
            tls: How the two sides prove who they are. None: no TLS.
            token: Bearer token, sent with every call; without TLS to this machine alone.
            retry_for_s: For how many seconds after its first failure a call is repeated that
                failed on a server that is away or has no room, though not beyond its timeout;
                a stream, after its last answer. The default outlasts a restart; that a server is
                overloaded is told as late, so say 2 or so where a person waits. 0: never.
            retry: How patiently, within that time.
            keepalive_s: How often a silent connection is probed while calls wait on it, in
                seconds; one that does not answer for as long again, 5 to 20 s, is given up. A
                pagesight server hangs up on those who probe more often than every 10
                (`server.min_ping_interval_seconds`), other gRPC servers below 300. None: 300, and
                10 where there are several servers, of which others can answer.
            use_proxy: Whether the proxy of the environment (`grpc_proxy`, `https_proxy`,
                `http_proxy`, less the hosts of `no_proxy`) is gone through. To this machine
                it never is.
            credentials: In place of `tls`: gRPC's own channel credentials.
            channel_options: gRPC channel arguments that override ours.
            connections: Connections to each address, at which calls take turns and over which a
                stream is spread. A connection ends at one process of a server: for one of several
                processes, as many connections, or more.
        """
        self._endpoint = Endpoint(
            address=address if isinstance(address, str) else ",".join(address),
            timeout_s=timeout_s,
            tls=tls,
            token=token,
            retry_for_s=retry_for_s,
            retry=retry,
            keepalive_s=keepalive_s,
            use_proxy=use_proxy,
            credentials=credentials,
            options=channel_options,
            connections=connections,
        )
        self._closed = asyncio.Event()
        self._opened: grpc.aio.Channel | None = None
        self._process = 0
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
        self._closed.set()
        # Older channels do not find all of their own streams when they close, and no connection is
        # hung up while somebody holds a call on it.
        for stream in tuple(self._streams):
            await stream.give_up()
        if self._opened is not None and self._process == os.getpid():
            await self._opened.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CallCancelledError("the client was closed")

    @property
    def _channel(self) -> grpc.aio.Channel:
        self._check_open()
        # Not before it is needed: a channel belongs to the loop that runs when it opens.
        if self._opened is None:
            self._opened, self._process = self._endpoint.connect_async(), os.getpid()
        check_process(self._process)
        return self._opened

    @property
    def _classifier(self) -> ClassifierServiceAsyncStub:
        return cast("ClassifierServiceAsyncStub", ClassifierServiceStub(self._channel))

    @property
    def _gallery(self) -> GalleryServiceAsyncStub:
        return cast("GalleryServiceAsyncStub", GalleryServiceStub(self._channel))

    @property
    def _review(self) -> ReviewServiceAsyncStub:
        return cast("ReviewServiceAsyncStub", ReviewServiceStub(self._channel))

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
        self,
        attempt: Callable[[float], Awaitable[_Value]],
        timeout_s: float,
        *,
        once: bool = False,
    ) -> _Value:
        """Makes a call as `Connection._repeated` does."""
        give_up_s = time.monotonic() + timeout_s
        attempts = Attempts(self._endpoint.retries)
        while True:
            await places_of(self._channel).wait_async(give_up_s - time.monotonic())
            self._check_open()
            try:
                value = await attempt(max(0.0, give_up_s - time.monotonic()))
            except PagesightError as failure:
                wait_s = None if once else attempts.wait_s(failure, give_up_s)
                if wait_s is None:
                    raise
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed.is_set() and task is not None and not task.cancelling():
                    # Not our caller's: grpc.aio's, of a call whose channel was closed.
                    raise CallCancelledError("the client was closed") from None
                raise
            else:
                self._endpoint.retries.answered()
                return value
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._closed.wait()
