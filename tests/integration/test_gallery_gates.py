"""Enrolments and examinations wait for a place, beside the screenshots and never before them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import pagesight
from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.config_sections import ServerConfig
from pagesight_server.curation.diagnostics import diagnose
from pagesight_server.service import convert_curation, galleries
from tests.support import WAIT_S
from tests.support.gallery_calls import RED_ID, fails, header
from tests.support.pictures import BLUE, GREEN, RED, shade, solid
from tests.support.serving import Serving, details, result_of, serving, status_of, until

ONCE = pagesight.RetryPolicy(attempts=1)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves an empty store."""
    async with serving(tmp_path) as made:
        yield made


async def test_only_so_many_enrolments_are_at_work_beside_the_screenshots(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=2, max_enrolments=2)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(BLUE)))
        pictures = [shade(i) for i in range(1, 13)]
        served.models.hold(*pictures)
        # Six calls of two pictures each.
        calls = [
            asyncio.create_task(
                served.enrol(*((f"l{i}", solid(pictures[i])) for i in (first, first + 1)))
            )
            for first in range(0, 12, 2)
        ]
        await served.models.until_active(2)
        # It is answered after the server had its turn, and does not wait for them.
        assert (await served.classify(solid(BLUE))).label == "a"
        assert served.models.active == 2
        await served.models.release()
        assert {(await call).outcomes[1].added for call in calls} == {True}
        assert served.models.most_active <= 3


async def test_an_enrolment_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_enrolments=1, max_waiting_enrolments=1)
    async with serving(tmp_path, config=config) as served:
        served.models.hold(RED)
        first = asyncio.create_task(served.enrol(("a", solid(RED))))
        await served.models.until_active(1)
        # The client's: gRPC's own Enrol may hide what it was told under an error of a write.
        async with pagesight.AsyncClient(served.address, retry=ONCE) as client:
            others = {
                asyncio.create_task(client.enrol([pagesight.EnrolItem(image=data, label=label)]))
                for label, data in {"b": solid(GREEN), "c": solid(BLUE)}.items()
            }
            (refused,), (waiting,) = await asyncio.wait(others, return_when="FIRST_COMPLETED")
            with pytest.raises(
                pagesight.OverloadedError, match="1 enrolments are waiting"
            ) as error:
                await refused
            assert error.value.retry_after_s is not None
            await served.models.release()
            assert {(await first).revision, (await waiting).revision} == {1, 2}


async def test_an_enrolment_that_falls_silent_loses_its_place(tmp_path: Path) -> None:
    config = ServerConfig(port=0, enrol_silence_seconds=0.05)
    async with serving(tmp_path, config=config) as served:

        async def silent() -> AsyncIterator[pb.EnrolRequest]:
            yield header()
            await asyncio.Event().wait()

        # An iterator: a write of ours could come when the call is over already.
        call = served.gallery.Enrol(silent(), timeout=WAIT_S)
        code, reason, message = await fails(result_of(call))
        assert (code, reason) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")
        assert message.startswith("nothing came for 0.05 s")
        assert served.store.revisions() == {}


@pytest.mark.parametrize("asked", ["Diagnose", "SuggestBrands", "GetImage"])
async def test_only_so_many_examinations_are_at_work_and_screenshots_do_not_wait_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    done = threading.Event()
    begun: list[str] = []

    def slowly(true: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **options: Any) -> Any:
            begun.append(asked)
            assert done.wait(WAIT_S)
            return true(*arguments, **options)

        return work

    monkeypatch.setattr(galleries, "diagnose", slowly(diagnose))
    for name in ("suggestions", "picture"):
        monkeypatch.setattr(convert_curation, name, slowly(getattr(convert_curation, name)))
    config = ServerConfig(port=0, max_examinations=1, max_waiting_examinations=1)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))

        def call() -> Any:
            messages: dict[str, Any] = {
                "Diagnose": pb.DiagnoseRequest(),
                "SuggestBrands": pb.SuggestBrandsRequest(),
                "GetImage": pb.GetImageRequest(image_id=RED_ID, max_side_px=8),
            }
            return getattr(served.gallery, asked)(messages[asked], timeout=2 * WAIT_S)

        async def ask() -> Any:
            return await (call() if asked == "GetImage" else result_of(call()))

        first = call()
        await until(lambda: bool(begun))
        others = {asyncio.create_task(ask()), asyncio.create_task(ask())}
        (refused,), (waiting,) = await asyncio.wait(others, return_when="FIRST_COMPLETED")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.value.details() == "1 examinations are waiting already: retry later"
        reason, retry_s = details(status_of(error.value))
        assert reason == "OVERLOADED"
        assert retry_s is not None
        # Its place is not free before its thread is.
        first.cancel()
        assert (await served.classify(solid(RED))).label == "a"
        assert len(begun) == 1
        done.set()
        await waiting
        assert len(begun) == 2
