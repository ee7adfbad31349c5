"""ClassifierService: streams, deadlines, admission. The work is the pipeline's.

ClassifyStream:  read ──place in the stream──> task per message ──> replies
                  ^ stops while the stream holds max_in_flight

A stream ends before its caller wants it to when the server drains, or when it has lived for as long
as it may. Then nothing more is read, and what was read is answered: what has no answer at the end
was not begun, so that its caller sends it again elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import classifier_pb2_grpc
from pagesight_server.common.errors import (
    BehindError,
    DeadlineError,
    InvalidRequestError,
    RequestError,
    ShuttingDownError,
)
from pagesight_server.common.priority import urgent_as
from pagesight_server.config_sections import SecurityConfig
from pagesight_server.recognition.answer import Answer
from pagesight_server.service import convert, statuses
from pagesight_server.service.admission import Gate
from pagesight_server.service.codec import Context, Malformed, answer, parsed, refuse, write
from pagesight_server.service.gates import in_stoppable_thread
from pagesight_server.service.rate_limits import CallerLimits, caller_of
from pagesight_server.service.waiters import Waiters
from pagesight_server.telemetry import Message, Telemetry
from pagesight_server.workflows.pipeline import Pipeline

Reply: TypeAlias = "asyncio.Task[pb.ClassifyStreamResponse]"


SHUTTING_DOWN = "the server is shutting down: ask another replica"

CLASSIFY, CLASSIFY_STREAM = (
    f"{pb.DESCRIPTOR.services_by_name['ClassifierService'].full_name}/{name}"
    for name in ("Classify", "ClassifyStream")
)
"""The two ways in, as telemetry names them."""

BEHIND_S = 5.0
"""How long a screenshot without a budget waits for a revision. Servers see a change within a
second, unless something is wrong. So long, too, one waits for a gallery that is being prepared."""

BEHIND_RETRY_MS = 1_000
"""When to ask again for a revision that did not come: another replica may know it."""

LINGER_S = 1.0
"""How long a stream that is being ended stays open with nothing in flight: whoever has sent all
ends in peace."""

AGE_SPREAD = 0.1
"""By which share streams are ended earlier or later than the rest, as gRPC does with connections:
those that began together, after a restart, do not all move at once."""


def _message(received: pb.ClassifyStreamRequest | Malformed) -> pb.ClassifyStreamRequest:
    """What came, or an empty message in place of what was none."""
    return pb.ClassifyStreamRequest() if isinstance(received, Malformed) else received


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who sends a screenshot."""

    name: str
    """See `caller_of`."""
    stream: Hashable
    """Which of its streams; of unary calls, which connection."""
    time_remaining: Callable[[], float | None]
    """Seconds until the deadline of the call; None without one."""


class _End(enum.Enum):
    """Why no more replies follow."""

    SENT_ALL = enum.auto()
    CUT = enum.auto()
    """By this side: the caller may have sent more than was read."""


class ClassifierService(classifier_pb2_grpc.ClassifierServiceServicer):
    """Sorts screenshots.

    Args:
        pipeline: Does the work.
        gate: Shared by all calls.
        wait_for_revision: Whether a gallery is at a revision, once it is or so many seconds are
            over.
        max_in_flight: Requests of one stream without a reply.
        ocr: Whether text is read when a request does not say.
        telemetry: Told of each screenshot.
        limits: What one caller may ask for; no limit unless given.
        max_stream_age_s: Seconds after which a stream is ended, so that its caller opens another,
            perhaps elsewhere. 0: never.
        keep: Given each screenshot and its answer, for review; must neither wait nor raise.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        gate: Gate,
        wait_for_revision: Callable[[str, int, float], Awaitable[bool]],
        *,
        max_in_flight: int,
        ocr: bool,
        telemetry: Telemetry | None = None,
        limits: CallerLimits | None = None,
        max_stream_age_s: float = 0.0,
        keep: Callable[[bytes, Answer], None] = lambda _image, _answer: None,
    ) -> None:
        self._pipeline = pipeline
        self._gate = gate
        self._wait_for_revision = wait_for_revision
        self._behind = Waiters(gate.max_waiting, "screenshots for a revision")
        """Screenshots that wait for a revision."""
        self._max_in_flight = max_in_flight
        self._ocr = ocr
        self._telemetry = telemetry or Telemetry()
        self._limits = limits or CallerLimits(SecurityConfig())
        self._max_stream_age_s = max_stream_age_s
        self._keep = keep
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Refuses calls from now on; streams are read from no more, answered, and ended."""
        self._draining.set()

    async def Classify(  # noqa: N802
        self, request: pb.ClassifyRequest, context: Context
    ) -> pb.ClassifyResponse:
        """Answers one screenshot."""
        image = request.query.image
        with self._watched(CLASSIFY, request, image) as message:
            if self._draining.is_set():
                problem = ShuttingDownError(SHUTTING_DOWN)
                message.failed(problem)
                await refuse(context, problem)
            caller = _Caller(caller_of(context), context.peer(), context.time_remaining)
            work = self._classify(request.query, image, message, caller)
            classification = await answer(context, work)
        return pb.ClassifyResponse(request_id=request.request_id, classification=classification)

    async def ClassifyStream(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.ClassifyStreamRequest | Malformed],
        context: Context,
    ) -> None:
        """Answers many screenshots, of which each fails alone.

        A place is free again when its reply is written, so whoever reads replies
        slowly slows its own sending and nobody else's. A stream that this side ends has status
        UNAVAILABLE when the server shuts down, and OK when it was only old.
        """
        places = asyncio.Semaphore(self._max_in_flight)
        finished: asyncio.Queue[Reply | _End] = asyncio.Queue()
        tasks: set[Reply] = set()
        caller = _Caller(caller_of(context), object(), context.time_remaining)
        ending = asyncio.Event()

        async def read() -> None:
            as_sent: bool | None = None
            end = _End.SENT_ALL
            try:
                async for request in request_iterator:
                    if as_sent is None:
                        as_sent = _message(request).reply_order == pb.REPLY_ORDER_AS_SENT
                    if not ending.is_set():
                        await places.acquire()
                    if ending.is_set():  # It is not begun, and its caller sends it elsewhere.
                        end = _End.CUT
                        break
                    task = asyncio.create_task(self._reply(request, caller))
                    tasks.add(task)
                    if as_sent:
                        finished.put_nowait(task)
                    else:
                        task.add_done_callback(finished.put_nowait)
                if tasks:
                    await asyncio.wait(tasks)
                # Done callbacks run in the next turn of the loop: let them queue first.
                await asyncio.sleep(0)
            finally:
                finished.put_nowait(end)

        async def cut() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._stream_age_s()):
                    await self._draining.wait()
            ending.set()
            while under_way := [task for task in tasks if not task.done()]:
                await asyncio.wait(under_way)
            await asyncio.wait([reader], timeout=LINGER_S)
            if not reader.done():
                finished.put_nowait(_End.CUT)

        reader = asyncio.create_task(read())
        cutter = asyncio.create_task(cut())
        try:
            while not isinstance(task := await finished.get(), _End):
                reply = await task
                tasks.discard(task)
                await write(context, reply)
                places.release()
            if task is _End.SENT_ALL:
                await reader
            elif self._draining.is_set():
                await refuse(context, ShuttingDownError(SHUTTING_DOWN))
        finally:
            for left in (reader, cutter, *tasks):
                left.cancel()
            await asyncio.gather(reader, cutter, *tasks, return_exceptions=True)

    def _stream_age_s(self) -> float | None:
        """Seconds after which a stream that begins now is ended; None: never."""
        if not self._max_stream_age_s:
            return None
        return self._max_stream_age_s * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)

    async def _reply(
        self, received: pb.ClassifyStreamRequest | Malformed, caller: _Caller
    ) -> pb.ClassifyStreamResponse:
        request = _message(received)
        # Each access to a field of bytes makes a copy.
        image = request.query.image
        with self._watched(CLASSIFY_STREAM, request, image) as message:
            try:
                parsed(received)
                if not request.request_id:
                    raise InvalidRequestError(
                        "request_id is empty: replies of a stream are matched by it"
                    )
                classification = await self._classify(request.query, image, message, caller)
            except Exception as error:
                message.failed(error)
                return pb.ClassifyStreamResponse(
                    request_id=request.request_id, error=statuses.status_of(error)
                )
        return pb.ClassifyStreamResponse(
            request_id=request.request_id, classification=classification
        )

    def _watched(
        self, method: str, request: pb.ClassifyRequest | pb.ClassifyStreamRequest, image: bytes
    ) -> AbstractContextManager[Message]:
        return self._telemetry.message(
            method,
            traceparent=request.query.traceparent,
            request_id=request.request_id,
            image_bytes=len(image),
        )

    async def _classify(
        self, query: pb.Query, image: bytes, message: Message, caller: _Caller
    ) -> pb.Classification:
        try:
            return await self._answer(query, image, message, caller)
        except BaseException as error:
            # Here, while it is what was raised and not yet a status.
            message.failed(error)
            raise

    async def _answer(
        self, query: pb.Query, image: bytes, message: Message, caller: _Caller
    ) -> pb.Classification:
        options = convert.options_of(query, default_ocr=self._ocr)
        self._limits.spend(caller.name, len(image))
        budget_s = _budget_s(query, caller)
        began_s = asyncio.get_running_loop().time()
        if options.min_revision or self._is_preparing(options.gallery):
            await self._until(options, caller, budget_s, own_budget=bool(query.deadline_ms))
        left_s = None
        if budget_s is not None:
            left_s = max(0.0, began_s + budget_s - asyncio.get_running_loop().time())
        try:
            async with (
                asyncio.timeout(left_s),
                self._gate.enter(
                    options.priority, caller=caller.name, stream=caller.stream, budget_s=left_s
                ),
            ):
                message.admitted()
                with urgent_as(options.priority):
                    answered = await self._pipeline.classify(
                        image, gallery=options.gallery, ocr=options.ocr
                    )
                answered.stage_ms["total"] += answered.stage_ms["queue"]
                reply = await self._converted(answered, options)
        except TimeoutError:
            raise DeadlineError(
                f"no answer within the {1000 * (budget_s or 0):.0f} ms that the request allowed"
            ) from None
        message.answered(answered)
        if options.keep:
            self._keep(image, answered)
        return reply

    @staticmethod
    async def _converted(answered: Answer, options: convert.Options) -> pb.Classification:
        """The reply; matching lines and reasons are not found in the event loop."""
        if not options.explain:
            return convert.classification(answered, options)
        return await in_stoppable_thread(partial(convert.classification, answered, options))

    def _is_preparing(self, gallery: str) -> bool:
        """Whether a gallery is there, or may be, and cannot be answered from yet."""
        try:
            self._pipeline.knowledge(gallery)
        except BehindError:
            return True
        except RequestError:
            pass  # raised again by whoever asks for the answer
        return False

    async def _until(
        self, options: convert.Options, caller: _Caller, budget_s: float | None, *, own_budget: bool
    ) -> None:
        """Waits for a revision of a gallery, or any, before it takes a place from others.

        Args:
            options: Which gallery, and which revision.
            caller: Who asks.
            budget_s: Seconds until the answer is of no use; None: no limit but `BEHIND_S`.
            own_budget: Whether the screenshot has a budget, and not only its call: then it may
                wait for as long as that lasts.

        Raises:
            OverloadedError: as many wait as may wait for a place.
            DeadlineError: the budget ran out before.
            NotFoundError: there is no such gallery at all.
            BehindError: it did not come in `BEHIND_S`, or the gallery is still being prepared.
        """
        gallery, revision = options.gallery, options.min_revision
        most_s = math.inf if own_budget and revision else BEHIND_S
        wait_s = most_s if budget_s is None else min(most_s, budget_s)
        # Each of them holds its picture.
        waiter = self._behind.join(options.priority, caller.name, retry_after_ms=BEHIND_RETRY_MS)
        came = asyncio.ensure_future(self._wait_for_revision(gallery, revision, wait_s))
        try:
            either: set[asyncio.Future[Any]] = {came, waiter.future}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if waiter.future.done():
                waiter.future.result()
            if came.result():
                return
        finally:
            came.cancel()
            self._behind.leave(waiter)
        if not revision:
            self._pipeline.knowledge(gallery)
            return
        message = f"gallery {gallery!r} is not at revision {revision} here yet"
        if own_budget:
            raise DeadlineError(f"{message}, within the {1000 * wait_s:.0f} ms that were allowed")
        self._pipeline.knowledge(gallery)
        raise BehindError(
            f"{message}: ask again, or another replica", retry_after_ms=BEHIND_RETRY_MS
        )


def _budget_s(query: pb.Query, caller: _Caller) -> float | None:
    """Seconds until the answer is of no use: the message's budget, or what the call has left."""
    budgets = [query.deadline_ms / 1000] if query.deadline_ms else []
    if (left_s := caller.time_remaining()) is not None:
        budgets.append(left_s)
    return min(budgets, default=None)
