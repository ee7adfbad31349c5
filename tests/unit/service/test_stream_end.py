"""A stream that is being ended begins nothing that its caller will send elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight_server.common.errors import ImageError
from pagesight_server.service.admission import Gate
from pagesight_server.service.classifier import LINGER_S, ClassifierService
from tests.support.virtual_time import run_virtually


class AbortedError(Exception):
    """The call was ended."""


class Pipeline:
    """Notes each screenshot that is begun, and can use none."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []

    def knowledge(self, _gallery: str) -> None:
        """Every gallery is there."""

    async def classify(self, image: bytes, **_: object) -> None:
        self.begun.append(image)
        raise ImageError("it is no picture")


class SlowReader:
    """A call whose caller reads each reply a while after it was written."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.replied: list[str] = []

    async def write(self, reply: pb.ClassifyStreamResponse) -> None:
        await asyncio.sleep(self._seconds)
        self.replied.append(reply.request_id)

    async def abort(self, code: grpc.StatusCode, _details: str) -> None:
        raise AbortedError(code.name)

    def set_trailing_metadata(self, _metadata: object) -> None:
        """Takes what says more of an error."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def peer_identities(self) -> None:
        """Nobody has a certificate."""

    def time_remaining(self) -> None:
        """There is no deadline."""


async def three(after_s: float) -> AsyncIterator[pb.ClassifyStreamRequest]:
    """Three screenshots at once, and nothing more for a while."""
    for name in ("a", "b", "c"):
        yield pb.ClassifyStreamRequest(request_id=name, query=pb.Query(image=name.encode()))
    await asyncio.sleep(after_s)


async def no_revision(_gallery: str, _revision: int, _wait_s: float) -> bool:
    return True


def test_what_waits_for_a_place_when_the_server_drains_is_not_begun() -> None:
    async def main() -> None:
        pipeline: Any = Pipeline()
        service = ClassifierService(pipeline, Gate(2, 2), no_revision, max_in_flight=2, ocr=False)
        context: Any = SlowReader(2 * LINGER_S)
        call = asyncio.create_task(service.ClassifyStream(three(100 * LINGER_S), context))
        await asyncio.sleep(0.5 * LINGER_S)
        assert pipeline.begun == [b"a", b"b"]
        service.drain()
        with pytest.raises(AbortedError, match="UNAVAILABLE"):
            await call
        assert context.replied == ["a", "b"]
        assert pipeline.begun == [b"a", b"b"]

    run_virtually(main())
