"""grpc.health.v1: serving, once all galleries are known and until the server is to stop.

    Check ──> NOT_SERVING ──serve──> SERVING ──step_down──> NOT_SERVING
    Watch ──> NOT_SERVING ──serve──> SERVING ──step_down──> NOT_SERVING ──let_go──> UNAVAILABLE

The servicer of grpcio-health-checking leaves watchers waiting, so that a server with one health
watcher, such as every client with a health-checking channel, drains for as long as it may.

    request ──read in a moment, or while few are read──> Check, Watch
                  └──not, and many are read: the oldest is given up──> RESOURCE_EXHAUSTED

Everybody may ask, so a request may come from anybody, and be as large as a picture, and stop
half way. Ours are read in one moment, whatever others do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pagesight_server.common.errors import InvalidRequestError, OverloadedError
from pagesight_server.service.codec import Context, refuse, write

MOST_READ = 2
"""Requests for health that may take their time to come. A usual one is there with its call; what
comes slowly may be as large as a picture, and is held until it is whole."""

LONGEST_READ_S = 5.0
"""How long one of those may take: probes are given up after a second or a few."""

MOMENT_S = 0.05
"""How long any may take, also where many others come slowly."""

READ_RETRY_MS = 100
"""When to ask again. Whoever is there by then is not the one that was slow."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Tells how the server is.

    Args:
        services: Those whose health may be asked; the empty name is the server.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(("", *services))
        self._ready = asyncio.Event()
        self._stepped_down = asyncio.Event()
        self._over = asyncio.Event()

    def serve(self) -> None:
        """Says from now on that everything is serving, to whoever watches too."""
        self._ready.set()

    def step_down(self) -> None:
        """Says from now on that nothing is serving, to whoever watches too."""
        self._stepped_down.set()
        self._ready.set()  # wakes those who watch

    def let_go(self) -> None:
        """Ends the calls of those who watch, for whom the server would wait else."""
        self.step_down()
        self._over.set()

    async def Check(  # noqa: N802
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """Answers how a service is now."""
        if request.service not in self._services:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}"
            )
        return self._now()

    async def Watch(  # noqa: N802
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """How a service is, now and when that changes."""
        exists = request.service in self._services
        told = self._now() if exists else health_pb2.HealthCheckResponse(status=SERVICE_UNKNOWN)
        await context.write(told)
        for change in (self._ready, self._stepped_down):
            # Set already, it may have been so before the last was written, or meanwhile.
            news = not change.is_set()
            await change.wait()
            if exists and (news or self._now() != told):
                told = self._now()
                await context.write(told)
        await self._over.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    def _now(self) -> Any:
        serving = self._ready.is_set() and not self._stepped_down.is_set()
        status = SERVING if serving else NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)


class ReadBriefly(grpc.aio.ServerInterceptor):
    """Bounds what the requests of a service hold while they are read.

    Args:
        service: Whose; its requests are small, and each call has one.
        most: Requests that may take their time at the same time.
        longest_s: How long that is.
    """

    def __init__(
        self, service: str, *, most: int = MOST_READ, longest_s: float = LONGEST_READ_S
    ) -> None:
        self._service = service
        self._most = most
        self._longest_s = longest_s
        self._reading: dict[asyncio.Timeout, float] = {}
        """When each began, in that order, by the clock of the event loop."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        service = handler_call_details.method.strip("/").partition("/")[0]
        if handler is None or service != self._service:
            return handler
        # gRPC reads the request of such a call before it asks the handler; of a stream it does not.
        return grpc.stream_stream_rpc_method_handler(
            self._reading_first(handler.unary_unary or handler.unary_stream),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _reading_first(self, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        async def read_first(_requests: Any, context: Context) -> None:
            reply = await behaviour(await self._read(context), context)
            if reply is not None:
                await write(context, reply)

        return read_first

    async def _read(self, context: Context) -> Any:
        now_s = asyncio.get_running_loop().time()
        if len(self._reading) >= self._most:
            oldest = next(iter(self._reading))
            began_s = self._reading.pop(oldest)
            if not oldest.expired():  # One whose time ran out just now ends without that.
                oldest.reschedule(max(now_s, began_s + MOMENT_S))
        try:
            async with asyncio.timeout(self._longest_s) as limit:
                self._reading[limit] = now_s
                try:
                    request = await context.read()
                finally:
                    self._reading.pop(limit, None)
        except TimeoutError:
            problem = OverloadedError(
                "the request did not come in one moment: send it again",
                retry_after_ms=READ_RETRY_MS,
            )
            await refuse(context, problem)
        if request is grpc.aio.EOF:
            await refuse(context, InvalidRequestError("the call has no request"))
        return request
