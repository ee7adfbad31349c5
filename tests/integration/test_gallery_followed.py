"""Changes that other processes make, and queries that wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.config_sections import ServerConfig
from pagesight_server.gallery import Change, Gallery
from pagesight_server.service import classifier
from tests.support import WAIT_S
from tests.support.gallery_calls import fails
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import Serving, details, serving, status_of
from tests.support.stores import enrol


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves an empty store."""
    async with serving(tmp_path) as made:
        yield made


async def test_a_change_by_another_process_is_seen_by_the_next_refresh(
    served: Serving, tmp_path: Path
) -> None:
    other = Gallery(tmp_path / "gallery.db")
    enrol(other, {"one": "theirs"})
    other.close()
    await served.enrol(("ours", solid(RED)))
    known = await served.gallery.GetLabels(pb.GetLabelsRequest())
    assert [label.label for label in known.labels] == ["ours", "theirs"]
    assert (await served.classify(solid(RED))).revision == 2


async def test_a_query_waits_for_a_revision_that_another_process_makes(
    served: Serving, tmp_path: Path
) -> None:
    await served.enrol(("a", solid(RED)))
    other = Gallery(tmp_path / "gallery.db")
    enrol(other, {"one": "theirs"})
    # The store has it, this server has not looked: it looks at once.
    found = await served.classify(solid(RED), min_revision=2)
    assert found.revision == 2
    waiting = asyncio.create_task(served.classify(solid(RED), min_revision=3))
    enrol(other, {"two": "theirs"})
    other.close()
    async with asyncio.timeout(WAIT_S):
        while not waiting.done():
            await served.registry.refresh()
    assert (await waiting).revision == 3


async def test_a_query_waits_for_a_gallery_that_another_process_makes(
    served: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Gallery(tmp_path / "gallery.db")
    enrol(other, {"one": "theirs"}, gallery="new")
    other.close()
    assert (await served.classify(solid(RED), gallery="new", min_revision=1)).revision == 1
    code, reason, message = await fails(
        served.classify(solid(RED), gallery="none", min_revision=1, deadline_ms=20)
    )
    assert (code, reason) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")
    assert "'none' is not at revision 1 here yet, within the 20 ms" in message
    monkeypatch.setattr(classifier, "BEHIND_S", 0.02)
    told = await fails(served.classify(solid(RED), gallery="none", min_revision=1))
    assert told[:2] == ("NOT_FOUND", "NOT_FOUND")


async def test_only_so_many_screenshots_wait_for_a_revision(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_waiting=1)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)))
        both = {
            asyncio.create_task(served.classify(solid(RED), min_revision=2, deadline_ms=60_000))
            for _ in range(2)
        }
        (refused,), (waiting,) = await asyncio.wait(both, return_when="FIRST_COMPLETED")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        assert details(status_of(error.value))[0] == "OVERLOADED"
        # Whoever waits keeps nobody from a place.
        assert (await served.classify(solid(RED))).label == "a"
        await served.enrol(("b", solid(GREEN)))
        assert (await waiting).revision == 2


async def test_a_gallery_that_another_process_deletes_is_forgotten_by_the_next_refresh(
    served: Serving, tmp_path: Path
) -> None:
    await served.enrol(("a", solid(RED)))
    other = Gallery(tmp_path / "gallery.db")
    other.delete(Change())
    await served.registry.refresh()
    assert (await fails(served.classify(solid(RED))))[:2] == ("NOT_FOUND", "NOT_FOUND")
    enrol(other, {"one": "theirs"})
    other.close()
    await served.registry.refresh()
    assert (await served.classify(solid(RED))).revision == 3


async def test_a_negative_revision_cannot_be_asked_for(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    told = await fails(served.classify(solid(RED), min_revision=-1))
    assert told[:2] == ("INVALID_ARGUMENT", "REQUEST_INVALID")
