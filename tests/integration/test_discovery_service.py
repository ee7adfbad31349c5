"""Discovery and previews of a running server: limits, turns, who leaves, what is promised."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

import pagesight
from pagesight.v1 import review_pb2 as pb
from pagesight_server.common.arrays import Pixels
from pagesight_server.common.priority import Priority, present
from pagesight_server.config_sections import ReviewConfig, ServerConfig
from pagesight_server.gallery.snapshot import Picture
from pagesight_server.service import discovering
from pagesight_server.text.reading import Reading
from tests.support import WAIT_S
from tests.support.parts import FakeModels
from tests.support.party import fails
from tests.support.pictures import BLUE, GREEN, GREY, RED, WHITE, Colour, solid
from tests.support.serving import Serving, details, serving, status_of, until

ONCE = pagesight.RetryPolicy(attempts=1)
REDDISH: tuple[Colour, ...] = (RED, (250, 30, 10), (250, 10, 40))
BLUISH: tuple[Colour, ...] = ((10, 10, 240), (30, 10, 240), (10, 40, 240), (20, 20, 240))


def header(**fields: Any) -> pb.DiscoverRequest:
    return pb.DiscoverRequest(header=pb.DiscoverHeader(**fields))


def picture(colour: Colour) -> pb.DiscoverRequest:
    return pb.DiscoverRequest(picture=pb.DiscoverPicture(image=solid(colour)))


async def taught(served: Serving) -> None:
    """Enrols two pages."""
    greens: tuple[Colour, ...] = (GREEN, (30, 250, 10), (10, 250, 40))
    pictures = [("red", solid(colour)) for colour in REDDISH]
    await served.enrol(*pictures, *(("green", solid(colour)) for colour in greens))


async def result(call: Any) -> Any:
    return [reply async for reply in call][-1].result


async def test_more_pictures_than_a_call_may_send_are_refused_before_they_are_encoded(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, review=ReviewConfig(max_pictures=2)) as served:
        await taught(served)
        encoded = served.models.encoded
        announced = served.reviews.Discover(iter([header(pictures=3)]), timeout=WAIT_S)
        assert await fails(result(announced)) == ("RESOURCE_EXHAUSTED", "LIMIT_REACHED")
        assert served.models.encoded == encoded
        sent = iter([header(), *map(picture, (RED, GREEN, BLUE))])
        call = served.reviews.Discover(sent, timeout=WAIT_S)
        assert await fails(result(call)) == ("RESOURCE_EXHAUSTED", "LIMIT_REACHED")
        assert served.models.encoded == encoded + 2
        items = [pagesight.PreviewPicture(image=solid(colour)) for colour in (RED, GREEN, BLUE)]
        async with pagesight.AsyncClient(served.address, retry=ONCE) as client:
            with pytest.raises(pagesight.ResourceExhaustedError, match="at most 2 pictures"):
                await client.preview([], items)


async def test_a_preview_of_more_than_one_call_enrols_is_refused(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_enrol_items=1)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("red", solid(RED)))
        items = [pagesight.EnrolItem(image=solid(colour), label="b") for colour in (BLUE, GREEN)]
        async with pagesight.AsyncClient(served.address, retry=ONCE) as client:
            with pytest.raises(pagesight.ResourceExhaustedError, match="enrols at most 1"):
                await client.preview(items)


async def test_a_caller_who_falls_silent_loses_the_place(tmp_path: Path) -> None:
    config = ServerConfig(port=0, enrol_silence_seconds=0.05)
    async with serving(tmp_path, config=config) as served:
        await taught(served)

        async def silent() -> AsyncIterator[pb.DiscoverRequest]:
            yield header()
            await asyncio.Event().wait()

        call = served.reviews.Discover(silent(), timeout=WAIT_S)
        assert await fails(result(call)) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")


async def test_one_works_at_a_time_one_waits_and_a_third_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    config = ServerConfig(port=0, max_waiting_examinations=1)
    async with serving(tmp_path, config=config) as served:
        await taught(served)
        served.models.hold(BLUE)
        first = served.reviews.Discover(iter([header(), picture(BLUE)]), timeout=WAIT_S)
        await served.models.until_active(1)
        # Dismissals and previews are of the same kind.
        others = {
            asyncio.ensure_future(
                result(served.reviews.Preview(iter([preview_header()]), timeout=WAIT_S))
            ),
            asyncio.ensure_future(
                served.reviews.DismissClusters(
                    pb.DismissClustersRequest(clusters=[pb.DismissedCluster(images=[solid(GREY)])]),
                    timeout=WAIT_S,
                )
            ),
        }
        (refused,), (waiting,) = await asyncio.wait(others, return_when="FIRST_COMPLETED")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        reason, retry_s = details(status_of(error.value))
        assert reason == "OVERLOADED"
        assert retry_s is not None
        # Screenshots do not wait for it, and whoever leaves frees the place.
        assert (await served.classify(solid(RED))).label == "red"
        first.cancel()
        await waiting


def preview_header() -> pb.PreviewRequest:
    return pb.PreviewRequest(header=pb.PreviewHeader())


@pytest.mark.parametrize("asked", ["Discover", "Preview"])
async def test_the_work_ends_when_its_caller_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(*_: object, step: Callable[[], None], **__: object) -> None:
        begun.set()
        try:
            while True:
                step()
        finally:
            ended.set()

    monkeypatch.setattr(discovering, asked.lower(), endless)
    async with serving(tmp_path) as served:
        await taught(served)
        first = header() if asked == "Discover" else preview_header()
        call = getattr(served.reviews, asked)(iter([first]), timeout=WAIT_S)
        await until(begun.is_set)
        call.cancel()
        await until(ended.is_set)


async def test_pictures_are_seen_behind_screenshots(tmp_path: Path) -> None:
    priorities: list[Priority] = []

    class Watched(FakeModels):
        async def read(self, pixels: Pixels) -> Reading:
            priorities.append(present())
            return await super().read(pixels)

    async with serving(tmp_path, models=Watched()) as served:
        await taught(served)
        priorities.clear()
        await result(served.reviews.Discover(iter([header(), picture(BLUE)]), timeout=WAIT_S))
        gone = pb.DismissedCluster(images=[solid(GREY)])
        request = pb.DismissClustersRequest(clusters=[gone])
        await served.reviews.DismissClusters(request, timeout=WAIT_S)
        assert priorities == [Priority.LOW, Priority.LOW]
        await served.classify(solid(WHITE))
        assert priorities[-1] is Priority.NORMAL


async def test_a_preview_walks_the_pictures_of_a_gallery_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walking: set[threading.Thread] = set()

    class Walked(tuple[Picture, ...]):
        def __iter__(self) -> Iterator[Picture]:
            walking.add(threading.current_thread())
            return super().__iter__()

    async with serving(tmp_path) as served:
        await taught(served)
        known = served.registry.get("default")
        pictures = Walked(known.snapshot.pictures)
        walked = replace(known, snapshot=replace(known.snapshot, pictures=pictures))
        monkeypatch.setattr(served.registry, "get", lambda _gallery: walked)
        async with pagesight.AsyncClient(served.address) as client:
            item = pagesight.EnrolItem(image=solid(BLUE), label="blue")
            told = await client.preview([item], [pagesight.PreviewPicture(image=solid(BLUE))])
        assert told.right_after == told.right_before == 0
    assert walking
    assert threading.current_thread() not in walking


async def test_enrolling_really_gives_the_answers_that_the_preview_told(tmp_path: Path) -> None:
    asked = [*REDDISH, *BLUISH, GREY, WHITE]
    async with serving(tmp_path) as served:
        await taught(served)
        truth = {RED: "red", BLUISH[0]: "blue", GREY: pagesight.OTHER}
        items = [pagesight.EnrolItem(image=solid(colour), label="blue") for colour in BLUISH]
        pictures = [
            pagesight.PreviewPicture(image=solid(colour), truth=truth.get(colour, ""))
            for colour in asked
        ]
        before = {colour: (await served.classify(solid(colour))).label for colour in asked}
        async with pagesight.AsyncClient(served.address) as client:
            told = await client.preview(items, pictures)
            assert served.store.revisions() == {"default": 1}
            enrolled = await client.enrol(items)
        assert enrolled.revision == 2
        await served.registry.settled()
        after = {colour: (await served.classify(solid(colour))).label for colour in asked}
        turned = [(before[c], after[c], truth.get(c, "")) for c in asked if before[c] != after[c]]
        assert [(t.label_before, t.label_after, t.truth) for t in told.turned] == turned
        assert "blue" in {new for _, new, _ in turned}
        assert told.answered == len(asked)
        assert told.right_before == sum(before[c] == label for c, label in truth.items())
        assert told.right_after == sum(after[c] == label for c, label in truth.items())


async def test_both_clients_discover_dismiss_and_tell_what_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "missing.png"
    images: list[Any] = [missing, *map(solid, BLUISH[:3]), b"no picture", solid(WHITE)]
    async with serving(tmp_path) as served:
        await taught(served)
        heard: list[pagesight.Progress] = []
        async with pagesight.AsyncClient(served.address) as client:
            found = await client.discover(images, progress=heard.append)
            with pagesight.Client(served.address) as waiting:
                again = await asyncio.to_thread(waiting.discover, iter(images))
            assert [one.index for one in found.unreadable] == [0, 4]
            assert isinstance(found.unreadable[0].error, pagesight.UnreadableFileError)
            assert isinstance(found.unreadable[1].error, pagesight.InvalidImageError)
            assert [(u.index, type(u.error)) for u in again.unreadable] == [
                (u.index, type(u.error)) for u in found.unreadable
            ]
            assert again.clusters == found.clusters
            # The file that is missing here is announced, and never comes.
            assert heard[-1].done == 5
            (cluster,) = (one for one in found.clusters if len(one.image_ids) > 1)
            gone = pagesight.DismissedCluster(images=tuple(map(solid, BLUISH[:3])))
            with caplog.at_level(logging.INFO, "pagesight_server.audit"):
                keys = await client.dismiss_clusters([gone], author="mei")
            assert keys == (cluster.key,)
            assert "clusters dismissed by 'anybody' (author 'mei')" in caplog.text
            assert cluster.key in caplog.text
            with pagesight.Client(served.address) as waiting:
                later = await asyncio.to_thread(waiting.discover, images)
            assert cluster.key not in {one.key for one in later.clusters}
            assert later.left_out >= 3


async def test_an_exception_of_the_pictures_is_raised_to_their_caller(tmp_path: Path) -> None:
    class OursError(Exception):
        pass

    def images() -> Any:
        yield solid(BLUE)
        raise OursError

    async with serving(tmp_path) as served:
        await taught(served)
        async with pagesight.AsyncClient(served.address) as client:
            with pytest.raises(OursError):
                await client.discover(images())
        with (
            pagesight.Client(served.address) as waiting,
            pytest.raises(OursError),
        ):
            await asyncio.to_thread(waiting.discover, images())
