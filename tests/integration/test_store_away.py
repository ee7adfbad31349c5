"""A store that goes away under a server: screenshots are answered, the rest is refused at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as pb
from pagesight.v1 import review_pb2
from pagesight_server.common.errors import StoreAwayError
from pagesight_server.gallery import ListedImage
from tests.support import WAIT_S
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import Serving, details, serving, status_of, until
from tests.support.stores import enrol, picture_id


@pytest.fixture
async def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    """A server that knows one page, and has noticed that its store is away."""
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))

        def gone() -> dict[str, int]:
            raise StoreAwayError("connection refused")

        def asked(*_: Any, **_more: Any) -> Any:
            raise AssertionError("a call came as far as the store")

        monkeypatch.setattr(served.store, "revisions", gone)
        for call in ("answered", "remove", "images", "unsettle", "kept", "record_decisions"):
            monkeypatch.setattr(served.store, call, asked)
        with pytest.raises(StoreAwayError):
            await served.registry.refresh()
        yield served
        monkeypatch.undo()


async def refusal(call: Any) -> tuple[str, str, float | None]:
    """Code, reason and delay of the RetryInfo of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code().name, *details(status_of(error.value))


async def test_while_the_store_is_away_screenshots_are_answered(away: Serving) -> None:
    found = await away.classify(solid(RED))
    assert (found.label, found.revision) == ("a", 1)


async def test_while_the_store_is_away_changes_are_refused_with_when_to_repeat(
    away: Serving,
) -> None:
    for call in (
        away.enrol(("b", solid(GREEN))),
        away.gallery.Remove(pb.RemoveRequest(image_ids=[picture_id("x")])),
        away.gallery.ListImages(pb.ListImagesRequest()),
        away.gallery.UnsettleFindings(pb.UnsettleFindingsRequest(keys=["3fa9c1d24b0785e6"])),
        away.reviews.ListKept(review_pb2.ListKeptRequest()),
        away.reviews.RecordDecisions(review_pb2.RecordDecisionsRequest()),
        away.reviews.GetReviewFigures(review_pb2.GetReviewFiguresRequest()),
        away.reviews.DismissClusters(review_pb2.DismissClustersRequest()),
    ):
        assert await refusal(call) == ("UNAVAILABLE", "STORE_AWAY", 1.0)


async def test_while_the_store_is_away_a_revision_is_waited_for_and_its_time_told(
    away: Serving,
) -> None:
    code, reason, _ = await refusal(away.classify(solid(RED), min_revision=2, deadline_ms=20))
    assert (code, reason) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")
    assert (await away.classify(solid(RED), min_revision=1)).revision == 1


async def test_calls_that_hang_in_the_store_keep_no_screenshot_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = 2
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
    answers, hanging = threading.Event(), []

    def hangs(*_: Any, **_more: Any) -> tuple[int, list[ListedImage]]:
        hanging.append("one more")
        assert answers.wait(WAIT_S)
        return 1, []

    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))
        monkeypatch.setattr(served.store, "images", hangs)
        calls = [served.gallery.ListImages(pb.ListImagesRequest()) for _ in range(2 * threads)]
        try:
            await until(lambda: len(hanging) >= threads)
            async with asyncio.timeout(WAIT_S / 2):
                assert (await served.classify(solid(RED))).label == "a"
        finally:
            answers.set()
        assert [(await call).revision for call in calls] == [1] * len(calls)


async def test_when_the_store_is_back_a_server_catches_up(
    away: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    enrol(away.store, {"theirs": "b"})
    await away.registry.refresh()
    assert away.registry.get("default").snapshot.labels == ("a", "b")
    assert (await away.enrol(("c", solid(GREEN)))).revision == 3
