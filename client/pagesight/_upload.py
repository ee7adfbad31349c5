"""Calls that send pictures one by one and answer with progress, then with one result.

messages of an iterable ──as the server takes them──> call ──> progress ..., result
└──it raises──> the call is cancelled, and the caller gets what was raised
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
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
    source_error: list[BaseException] = []
    begun = threading.Event()

    def requests() -> Iterator[Any]:
        try:
            yield from messages
        except GeneratorExit:
            raise
        except BaseException as error:  # whatever the caller's iterable raises is the caller's
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
    """Does what `upload` does, for event loops; a task of its own sends the messages."""
    call = method(
        timeout=None if timeout_s == math.inf else timeout_s, metadata=endpoint.metadata()
    )
    ending = Ending(call, endpoint)
    source_error: list[Exception] = []

    async def send() -> None:
        try:
            async for message in messages:
                if not await _written(call.write(message)):
                    return
            await _written(call.done_writing())
        except Exception as error:  # whatever the caller's iterable raises is the caller's
            source_error.append(error)
            call.cancel()
        except asyncio.CancelledError:  # which the iterable may raise too
            call.cancel()
            raise

    sending = asyncio.create_task(send())
    try:
        return await _replies.last_async(call, progress)
    except asyncio.CancelledError:
        if source_error:
            raise source_error[0] from None
        raise
    except grpc.RpcError as error:
        if source_error:
            raise source_error[0] from None
        raise await ending.error(error) or _replies.no_result() from error
    finally:
        call.cancel()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _written(write: Awaitable[None]) -> bool:
    """Tells whether a call took what was written; one that is over says why in its result."""
    try:
        await write
    except (grpc.RpcError, asyncio.InvalidStateError):
        return False
    return True
