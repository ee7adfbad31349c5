"""The status with which a call of grpc.aio really ended.

    server's status ── done callback ──> remembered ─┐
    failed write ─> "Internal error from Core" ───────┴─> Ending.of: the server's, if any

Where a server ends a call while a message is being written, grpc.aio raises an
INTERNAL error of its own in place of the server's status, which arrives just before
or just after (https://github.com/grpc/grpc/issues/36066). A server that shuts down
or refuses more pictures would look like a bug, as would one that ends a call in good order; so the
status is remembered here.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from pagesight._channel import Endpoint
from pagesight._errors import PagesightError, UnavailableError

_LOST = "Internal error from Core"
_LOOK_AGAIN_S = (0.0, 0.001, 0.01, 0.1, 0.5)
"""The status follows within a turn or two of the event loop, or never."""

_T = TypeVar("_T")


class Ending:
    """Remembers how a call ends, from before its first message."""

    def __init__(self, call: Any, endpoint: Endpoint) -> None:
        self._call = call
        self._endpoint = endpoint
        self._first: grpc.aio.AioRpcError | None = None
        # Weakly: a call keeps its callbacks, and would keep itself, and its connection, through us.
        note = weakref.WeakMethod(self._note)
        call.add_done_callback(lambda over: (told := note()) and told(over))

    async def error(self, raised: grpc.RpcError) -> PagesightError | None:
        """Returns the error that the server sent, whatever grpc.aio raised; None: it sent OK."""
        if raised.code() is not grpc.StatusCode.INTERNAL or raised.details() != _LOST:
            return self._endpoint.error(raised)
        for wait_s in _LOOK_AGAIN_S:
            await asyncio.sleep(wait_s)
            if (sent := self._first or self._status()) is not None:
                return None if sent.code() is grpc.StatusCode.OK else self._endpoint.error(sent)
        return UnavailableError(
            f"{self._endpoint.address} ended the call while a message was being sent"
        )

    def _note(self, _: object) -> None:
        self._first = self._first or self._status()

    def _status(self) -> grpc.aio.AioRpcError | None:
        """Returns what the server has ended the call with so far, if anything, OK included."""
        code = _at_once(self._call.code())
        details = _at_once(self._call.details())
        if code is None or details == _LOST:
            return None
        trailing = _at_once(self._call.trailing_metadata())
        return grpc.aio.AioRpcError(
            code, grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), details=details
        )


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T | None:
    """Runs what need not wait: a call that is done knows its status."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: _T = done.value
        return value
    finally:
        coroutine.close()
    return None
