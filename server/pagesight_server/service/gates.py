"""How much is done for galleries at once, beside the screenshots: gates over one mechanism.

    Enrol ───────────────────────────────────> EnrolmentGate ─────place──> read, see, one revision
    Diagnose, SuggestBrands, smaller GetImage ─> ExaminationGate ──place──> a thread ──> answer
    Discover, Preview, DismissClusters ────────> CallGate ────────place──> read, see, a thread
                                                 └──as many wait as may──> OverloadedError

A place is worth what the work holds: an enrolment the pictures of its call, an examination a
thread for seconds, and threads are what screenshots are decoded in. Without places a few callers
could keep all others waiting. A call that waits for its place is not read from.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.common.errors import DeadlineError, InvalidRequestError, LimitError
from pagesight_server.config_sections import ServerConfig
from pagesight_server.service.admission import Gate
from pagesight_server.service.codec import Context, Malformed, parsed
from pagesight_server.service.rate_limits import caller_of
from pagesight_server.workflows.enrolment import Item
from pagesight_server.workflows.knowledge import StoppedError

T = TypeVar("T")


class CallGate:
    """Lets a few calls in at a time, callers in turn; for one event loop.

    Args:
        max_active: Calls at work at the same time.
        max_waiting: Calls that may wait beyond those.
        what: What they are called in what a caller is told.
    """

    def __init__(self, max_active: int, max_waiting: int, what: str) -> None:
        self._gate = Gate(max_active, max_waiting, what=what)

    def place(self, context: Context) -> AbstractAsyncContextManager[None]:
        """Holds a place for a call while its block runs; callers take turns.

        Raises:
            OverloadedError: as many wait as may, and this caller has no fewer than others.
        """
        return self._gate.enter(caller=caller_of(context))


class ExaminationGate(CallGate):
    """Runs what holds a thread for long."""

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config.max_examinations, config.max_waiting_examinations, "examinations")

    async def run(self, context: Context, work: Callable[[], T]) -> T:
        """Runs work in a thread once there is a place.

        Args:
            context: Of the call that asks for it.
            work: What to do; it is not interrupted.

        Raises:
            OverloadedError: as many wait as may, and this caller has no fewer than others.
        """
        async with self.place(context):
            return await in_thread(work)


class EnrolmentGate(CallGate):
    """Lets Enrol calls in, and reads them."""

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config.max_enrolments, config.max_waiting_enrolments, "enrolments")
        self._config = config

    async def receive(
        self, requests: AsyncIterator[pb.EnrolRequest | Malformed]
    ) -> tuple[pb.Change, list[Item]]:
        """Reads a whole call.

        Raises:
            InvalidRequestError: its messages are not a header and items.
            LimitError: more than one call may hold.
            DeadlineError: its sender has fallen silent.
        """
        header: pb.Change | None = None
        items: list[Item] = []
        size = 0
        async for request in prompt(requests, self._config.enrol_silence_seconds):
            if request.WhichOneof("message") != ("item" if header else "header"):
                raise InvalidRequestError(
                    "the first message, and only it, carries the header; every other one an item"
                )
            if header is None:
                header = request.header
                continue
            item = request.item
            size += item.ByteSize()
            if len(items) >= self._config.max_enrol_items or size > self._config.max_enrol_bytes:
                raise LimitError(
                    f"one call enrols at most {self._config.max_enrol_items} pictures and "
                    f"{self._config.max_enrol_bytes:,} bytes: use several calls"
                )
            items.append(Item(data=item.image, label=item.label, source=item.source))
        if header is None:
            raise InvalidRequestError("no message came: send a header, then the pictures")
        return header, items


async def prompt(messages: AsyncIterator[Any], silent_s: float) -> AsyncIterator[Any]:
    """The messages of a call as they come; whoever sends none for long must not hold a place.

    Args:
        messages: Of the call.
        silent_s: How long it may send nothing.

    Raises:
        DeadlineError: its sender has fallen silent.
        InvalidRequestError: a message is none of this contract.
    """
    received = aiter(messages)
    while True:
        try:
            async with asyncio.timeout(silent_s):
                message = await anext(received)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineError(
                f"nothing came for {silent_s:g} s: have the pictures at hand, then send them"
            ) from None
        yield parsed(message)


STORE_THREADS = 8
"""Threads that wait for the store, as many as it has connections (gallery.store_connections)."""

_store_threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")


async def in_store_thread(work: Callable[[], T]) -> T:
    """Does what `asyncio.to_thread` does, in threads of which screenshots need none.

    A store that hangs would else hold the threads in which screenshots are decoded, until it is
    known to be away.
    """
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_store_threads, lambda: context.run(work))


async def in_thread(work: Callable[[], T]) -> T:
    """Does what `asyncio.to_thread` does, but a cancelled caller waits until the thread is done.

    So whoever asks, leaves and asks again has no more threads at work than who stays.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def in_stoppable_thread(work: Callable[[Callable[[], None]], T]) -> T:
    """Does what `in_thread` does for longer work, which ends at its next step once cancelled.

    Args:
        work: Is given what to call between its steps; that raises when the work should end.
    """
    stopped = threading.Event()

    def step() -> None:
        if stopped.is_set():
            raise StoppedError

    running = asyncio.ensure_future(in_thread(lambda: work(step)))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait([running])
        # What it ended with is nobody's business any more.
        running.exception()
        raise
