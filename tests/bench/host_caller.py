"""A caller that takes as little CPU time as gRPC lets it: one thread, messages encoded beforehand.

    encoded messages ──in turn──> streams, a connection each ──> the server
                          ^            └── a reply makes room for the next message

It stands on the cores whose server is measured, or beside them; what the SDK does for its callers
(retries, results, moving to other servers) would be charged to the measurement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import grpc

from pagesight.v1 import classifier_pb2 as pb

_METHOD = "/pagesight.v1.ClassifierService/ClassifyStream"
_OPTIONS = (
    # A connection of its own for each channel, and no probes of the proxy's variables.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


def encoded(images: Sequence[bytes]) -> list[bytes]:
    """The message of each picture, as it goes over the wire."""
    return [
        pb.ClassifyStreamRequest(request_id=str(i), query=pb.Query(image=image)).SerializeToString()
        for i, image in enumerate(images)
    ]


def send(address: str, messages: Sequence[bytes], *, streams: int, in_flight: int) -> int:
    """Sends all messages over so many streams; returns how many were answered.

    Args:
        address: Of the server, "host:port".
        messages: From `encoded`.
        streams: Over connections of their own.
        in_flight: Messages without an answer on each stream.

    Raises:
        RuntimeError: a screenshot was not answered.
        grpc.aio.AioRpcError: a stream failed.
    """
    return asyncio.run(_send(address, iter(messages), streams, in_flight))


async def _send(address: str, messages: Iterator[bytes], streams: int, in_flight: int) -> int:
    return sum(
        await asyncio.gather(*(_stream(address, messages, in_flight) for _ in range(streams)))
    )


async def _stream(address: str, messages: Iterator[bytes], in_flight: int) -> int:
    """Sends what of the messages others leave it; returns how many of them were answered."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        call: grpc.aio.StreamStreamCall[bytes, pb.ClassifyStreamResponse] = channel.stream_stream(
            _METHOD, response_deserializer=pb.ClassifyStreamResponse.FromString
        )()
        sent = answered = 0
        while True:
            while sent - answered < in_flight and (message := next(messages, None)) is not None:
                await call.write(message)
                sent += 1
            if sent == answered:
                break
            reply = await call.read()
            if not isinstance(reply, pb.ClassifyStreamResponse) or not reply.HasField(
                "classification"
            ):
                raise RuntimeError(f"screenshot {answered + 1} of {sent} was not answered: {reply}")
            answered += 1
        await call.done_writing()
        await call.read()
    return answered
