"""Calls that send pictures one by one and answer with progress, then with one result.

messages of an iterable ──as the server takes them──> call ──> progress ..., result
└──it raises──> the call is cancelled, and the caller gets what was raised
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import Any

import grpc

from pagesight import _replies
from pagesight._aio_status import Ending
from pagesight._channel import Endpoint
from pagesight._replies import ProgressCallback


def upload(
    endpoint: Endpoint,
    method: Callable[..., Any],
    messages: Iterable[Any],
    timeout_s: float,
    progress: ProgressCallback | None,
) -> Any:
    """Sends messages from a thread of gRPC's and returns the result.

    Args:
        endpoint: Of the connection.
        method: The call of its stub.
        messages: What to send; whatever reading them raises is raised here.
        timeout_s: For the whole; infinity: as long as it takes.
        progress: Is told how far the server is.
    """
    source_error: list[Exception] = []
    begun = threading.Event()

    def requests() -> Iterator[Any]:
        try:
            yield from messages
        except Exception as error:  # whatever the caller's iterable raises is the caller's
            source_error.append(error)
            begun.wait()
            call.cancel()

    call = method(
        requests(),
        timeout=None if timeout_s == math.inf else timeout_s,
        metadata=endpoint.metadata(),
    )
    begun.set()
    try:
        return _replies.last(call, progress)
    except grpc.RpcError as error:
        if source_error:
            raise source_error[0] from None
        raise endpoint.error(error) from error
    finally:
        call.cancel()


async def upload_async(
    endpoint: Endpoint,
    method: Callable[..., Any],
    messages: AsyncIterable[Any],
    timeout_s: float,
    progress: ProgressCallback | None,
) -> Any:
    """Does what `upload` does, for event loops."""
    call = method(
        timeout=None if timeout_s == math.inf else timeout_s, metadata=endpoint.metadata()
    )
    ending = Ending(call, endpoint)
    try:
        try:
            async for message in messages:
                await call.write(message)
            await call.done_writing()
        except asyncio.InvalidStateError:
            pass  # The call is over already; its result says why.
        return await _replies.last_async(call, progress)
    except grpc.RpcError as error:
        raise await ending.error(error) from error
    finally:
        call.cancel()
