"""Streams of screenshots: what is sent over them, and how they go on and end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from pagesight.v1 import classifier_pb2 as pb
from tests.support import WAIT_S
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.serving import Serving, details, request, status_of

Stream = Any


async def teach(served: Serving) -> None:
    """Teaches a red, a green and a blue page."""
    await served.enrol(("red_page", solid(RED)), ("green_page", solid(GREEN)))
    await served.enrol(("blue_page", solid(BLUE)))


async def read(stream: Stream) -> pb.ClassifyStreamResponse:
    """The next reply of a stream that goes on."""
    reply = await asyncio.wait_for(stream.read(), WAIT_S)
    assert reply is not grpc.aio.EOF, "the stream ended"
    assert isinstance(reply, pb.ClassifyStreamResponse)
    return reply


async def finished(stream: Stream) -> None:
    """Ends the requests and sees the stream end well."""
    await stream.done_writing()
    assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


def failed(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, float | None]:
    """Code, reason and seconds to wait of a failed call; both ways of telling must agree."""
    status = status_of(error)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return error.code(), *details(status)


async def send(stream: Stream, colours: list[tuple[int, int, int]]) -> None:
    """Sends a screenshot of each colour, numbered from 0."""
    await send_all(stream, [request(str(i), colour) for i, colour in enumerate(colours)])


async def send_all(stream: Stream, messages: list[pb.ClassifyStreamRequest]) -> None:
    """Sends requests, one after the other."""
    for message in messages:
        await stream.write(message)
