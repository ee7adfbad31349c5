"""How much enrolment goes on at once: few calls at work, few that wait, each of bounded size.

    Enrol ──place?──> header, items ──too many, too large, silent──> refused
              │             └──> seen and read, one after the other ──> one revision
              └──too many wait──> OverloadedError, come back later

A call that waits is not read from, so only those at work hold pictures, and beside the screenshots
that are let in no more are seen and read than there are places here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.common.errors import DeadlineError, InvalidRequestError, LimitError
from pagesight_server.config import ServerConfig
from pagesight_server.service.admission import Gate
from pagesight_server.service.codec import Malformed, parsed
from pagesight_server.service.rate_limits import caller_of
from pagesight_server.workflows.enrolment import Item


class Uploads:
    """Lets Enrol calls in and reads them; for one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._gate = Gate(config.max_enrolments, config.max_waiting_enrolments, what="enrolments")

    def place(self, peer: str) -> AbstractAsyncContextManager[None]:
        """Holds a place while its block runs; callers take turns.

        Args:
            peer: Where the call comes from; for callers without a token.

        Raises:
            OverloadedError: as many wait as may.
        """
        return self._gate.enter(caller=caller_of(peer))

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
        async for request in self._prompt(requests):
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

    async def _prompt(
        self, requests: AsyncIterator[pb.EnrolRequest | Malformed]
    ) -> AsyncIterator[pb.EnrolRequest]:
        """The messages as they come; whoever sends none for long must not hold a place."""
        messages, silent_s = aiter(requests), self._config.enrol_silence_seconds
        while True:
            try:
                async with asyncio.timeout(silent_s):
                    received = await anext(messages)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineError(
                    f"nothing came for {silent_s:g} s: have the pictures at hand, then enrol them"
                ) from None
            yield parsed(received)
