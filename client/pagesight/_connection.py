"""One channel to one server, its stubs, and how a single call is made over it.

    Connection      <── GalleryCalls      <── Client
    AsyncConnection <── AsyncGalleryCalls <── AsyncClient

What happens to every call (the timeout, errors becoming ours) happens here, once
for threads and once for event loops.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from pagesight._channel import ChannelOptions, Endpoint
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


class Connection:
    """An open channel, to be closed."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: ChannelOptions = (),
    ) -> None:
        """Prepares the channel; the first call connects.

        Args:
            address: "host:port" of the server.
            timeout_s: Longest wait for an answer, in seconds; on a stream, for the next
                one. What is owed then fails with `DeadlineExceededError`.
            credentials: From `grpc.ssl_channel_credentials` and the like. None: no TLS.
            channel_options: gRPC channel arguments that override ours.
        """
        self._endpoint = Endpoint(
            address=address, timeout_s=timeout_s, credentials=credentials, options=channel_options
        )
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
        self._channel.close()

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Reply],
        request: _Request,
        read: Callable[[_Reply], _Value],
        timeout_s: float | None = None,
    ) -> _Value:
        try:
            reply = method(request, timeout=timeout_s or self._endpoint.timeout_s)
        except grpc.RpcError as error:
            raise self._endpoint.error(error) from error
        return read(reply)


class AsyncConnection:
    """A channel of the event loop in which it is first used, to be closed."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: ChannelOptions = (),
    ) -> None:
        """Notes where the server is; the first call opens the channel and connects.

        Args:
            address: "host:port" of the server.
            timeout_s: Longest wait for an answer, in seconds; on a stream, for the next
                one. What is owed then fails with `DeadlineExceededError`.
            credentials: From `grpc.ssl_channel_credentials` and the like. None: no TLS.
            channel_options: gRPC channel arguments that override ours.
        """
        self._endpoint = Endpoint(
            address=address, timeout_s=timeout_s, credentials=credentials, options=channel_options
        )
        self._opened: grpc.aio.Channel | None = None
        self._streams: set[grpc.aio.Call] = set()

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
        # Older channels do not find all of their own streams when they close.
        for stream in tuple(self._streams):
            stream.cancel()
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
        try:
            reply = await method(request, timeout=timeout_s or self._endpoint.timeout_s)
        except grpc.RpcError as error:
            raise self._endpoint.error(error) from error
        return read(reply)
