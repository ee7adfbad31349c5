"""Between bytes and services: what is no message is refused, what is raised becomes a status.

    bytes ──parse──> message ────> service ──raises──> status, with google.rpc.Status beside it
              └────> Malformed ──> INVALID_ARGUMENT; within a stream, for that message alone

gRPC itself answers what cannot be parsed with UNKNOWN and a traceback in our log, and ends a stream
with all that is in flight on it. Honest callers send such bytes: C++ stubs write strings that are
no UTF-8 with no more than a line in their own log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.service import statuses

R = TypeVar("R")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


async def answer(context: Context, work: Awaitable[R]) -> R:
    """Awaits the work of a call; whatever it raises becomes the status of the call."""
    try:
        return await work
    except Exception as error:
        await refuse(context, error)


async def refuse(context: Context, error: Exception) -> NoReturn:
    """Ends a call with an error, told in its status and in google.rpc.Status beside it."""
    status = statuses.status_of(error)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(statuses.code_of(status), status.message)
    raise AssertionError("abort raises")


async def write(context: Context, reply: Any) -> None:
    """Writes a message of a stream; a caller who vanished meanwhile cancels the call."""
    try:
        await context.write(reply)
    except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
        # Both say that the call is over. gRPC would log them as errors of ours.
        raise asyncio.CancelledError from error


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands where a message should be."""

    problem: str


def parsed(request: Any) -> Any:
    """The message; raises InvalidRequestError for bytes that were none."""
    if isinstance(request, Malformed):
        raise InvalidRequestError(
            f"the bytes are no message of this contract: {request.problem}; strings must be UTF-8"
        )
    return request


class RefuseMalformed(grpc.aio.ServerInterceptor):
    """Parses requests without raising. Our services ask `parsed` of each message of a stream."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        codecs = (_tolerant(handler.request_deserializer), handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_checked(handler.unary_unary), *codecs)
        if handler.unary_stream:  # Ours and Health's write their replies: coroutines as well.
            return grpc.unary_stream_rpc_method_handler(_checked(handler.unary_stream), *codecs)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(handler.stream_unary, *codecs)
        ours = handler_call_details.method.startswith("/pagesight.")
        behaviour = handler.stream_stream if ours else _checked_stream(handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(behaviour, *codecs)


def _tolerant(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def tolerant(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return Malformed(str(error))

    return tolerant


def _checked(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    async def checked(request: Any, context: Context) -> Any:
        async def check() -> Any:
            return parsed(request)

        return await behaviour(await answer(context, check()), context)

    return checked


def _checked_stream(behaviour: Callable[[Any, Any], AsyncIterator[Any]]) -> Any:
    """Passes the messages of a service that knows nothing of this; a bad one ends its stream."""

    async def checked(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async def messages() -> AsyncIterator[Any]:
            async for request in requests:
                yield parsed(request)

        try:
            async for reply in behaviour(messages(), context):
                yield reply
        except InvalidRequestError as error:
            await refuse(context, error)

    return checked
