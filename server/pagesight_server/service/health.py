"""grpc.health.v1: serving, until the drain begins.

    Check ──> SERVING            ──drain──> NOT_SERVING
    Watch ──> SERVING ... waits  ──drain──> NOT_SERVING, and the stream ends: UNAVAILABLE

The servicer of grpcio-health-checking leaves watchers waiting, so that a server with one health
watcher, such as every client with a health-checking channel, drains for as long as it may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Tells how the server is; it starts when everything is loaded, so it starts serving.

    Args:
        services: Those whose health may be asked; the empty name is the server.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(("", *services))
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """From now on nothing is serving, and whoever watches is told and let go."""
        self._draining.set()

    async def Check(  # noqa: N802
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """How a service is now."""
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
        await context.write(
            self._now() if exists else health_pb2.HealthCheckResponse(status=SERVICE_UNKNOWN)
        )
        if not self._draining.is_set():
            await self._draining.wait()
            if exists:
                await context.write(self._now())
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    def _now(self) -> Any:
        status = NOT_SERVING if self._draining.is_set() else SERVING
        return health_pb2.HealthCheckResponse(status=status)
