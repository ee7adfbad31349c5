"""An interceptor over every call of the two services; health checks and reflection have no span.

call ──> SERVER span, parent from its metadata ──> the service ──> status, duration
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from pagesight_server.telemetry.messages import Metadata, Telemetry

Behaviour: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class WatchCalls(grpc.aio.ServerInterceptor):
    """Gives each call a SERVER span and records its duration."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.lstrip("/")
        if handler is None or not method.startswith("pagesight."):
            return handler
        metadata = {
            key: value
            for key, value in handler_call_details.invocation_metadata
            if isinstance(value, str)
        }
        codecs = (handler.request_deserializer, handler.response_serializer)
        kinds: tuple[tuple[Any, Any], ...] = (
            (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        )
        for make, behaviour in kinds:
            if behaviour is not None:
                watched: Handler = make(self._watched(behaviour, method, metadata), *codecs)
                return watched
        return handler

    def _watched(self, behaviour: Behaviour, method: str, metadata: Metadata) -> Behaviour:
        """A handler that does the same within the span of its call."""

        async def watched(request: Any, context: Any) -> Any:
            began_s = time.perf_counter()
            code = "UNKNOWN"
            with self._telemetry.call(method, metadata) as span:
                try:
                    reply = await behaviour(request, context)
                    code = _code(context, "OK")
                except asyncio.CancelledError:
                    code = "CANCELLED"
                    raise
                except BaseException:
                    code = _code(context, "UNKNOWN")
                    raise
                finally:
                    self._telemetry.called(span, method, code, time.perf_counter() - began_s)
            return reply

        return watched


def _code(context: Any, default: str) -> str:
    """The status that the service set, if it set one."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODES.get(code, default) if code else default
