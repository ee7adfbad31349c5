"""Large galleries are prepared beside the answers, and go on after a break."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pagesight_server.common.errors import BehindError, NotFoundError, StoreAwayError
from pagesight_server.gallery import Change, Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import left_out_scores
from pagesight_server.workflows.knowledge import load_knowledge
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.registries import Store, happens, registry_of
from tests.support.stores import enrol


async def test_while_a_large_gallery_is_prepared_others_are_answered_and_changed(
    large: Store,
) -> None:
    registry = registry_of(large)
    large.calibrated.clear()
    loading = asyncio.create_task(registry.load())
    assert await registry.wait_for_revision("small", 1, WAIT_S)
    with pytest.raises(BehindError, match="'default' is being prepared") as behind:
        registry.get("default")
    assert behind.value.retry_after_ms > 0
    with pytest.raises(NotFoundError):
        registry.get("none")
    assert not await registry.wait_for_revision("default", 0, 0.01)
    enrol(large, {"two": "d"}, gallery="small")
    await asyncio.wait_for(registry.refresh("small"), WAIT_S)
    assert registry.get("small").snapshot.labels == ("c", "d")
    # Neither does whoever changes it wait for what nobody can be answered from.
    enrol(large, {"c1": "e"})
    await asyncio.wait_for(registry.refresh("default"), WAIT_S)
    waiting = asyncio.create_task(registry.wait_for_revision("default", 0, WAIT_S))
    large.calibrated.set()
    await asyncio.wait_for(loading, WAIT_S)
    assert await waiting
    # What was enrolled meanwhile is known from the first answer.
    assert registry.get("default").snapshot.labels == ("a", "b", "e")
    await registry.settled()
    assert registry.get("default").calibration.pictures == 4
    await registry.close()


async def test_before_the_store_was_looked_through_any_gallery_may_come(large: Store) -> None:
    registry = registry_of(large)
    large.readable.clear()
    loading = asyncio.create_task(registry.load())
    await asyncio.sleep(0)
    with pytest.raises(BehindError, match="'none' is being prepared"):
        registry.get("none")
    large.readable.set()
    await asyncio.wait_for(loading, WAIT_S)
    with pytest.raises(NotFoundError):
        registry.get("none")
    await registry.close()


async def test_a_large_gallery_that_comes_into_being_is_waited_for_by_its_caller_alone(
    large: Store,
) -> None:
    registry = registry_of(large)
    await registry.load()
    large.held = "new"
    large.calibrated.clear()
    enrol(large, {f"n{number}": "n" for number in range(4)}, gallery="new")
    own = asyncio.create_task(registry.refresh("new"))
    enrol(large, {"two": "d"}, gallery="small")
    await asyncio.wait_for(registry.refresh("small"), WAIT_S)
    assert registry.get("small").snapshot.revision == 2
    assert not own.done()
    large.calibrated.set()
    await asyncio.wait_for(own, WAIT_S)
    assert registry.get("new").snapshot.labels == ("n",)
    await registry.close()


async def test_a_preparation_that_was_broken_off_goes_on_after_the_next_start(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out: list[int] = []
    whole = load_knowledge(large, "default", "pagesight", 0.1).calibration

    def watched(method: Any, snapshot: Snapshot, rows: list[int], *, with_text: bool) -> Any:
        if with_text and snapshot.gallery == "default":
            left_out.extend(rows)
            if len(left_out) == 3:
                first._stop.set()
        return left_out_scores(method, snapshot, rows, with_text=with_text)

    monkeypatch.setattr("pagesight_server.recognition.calibration.left_out_scores", watched)
    first = Registry(large, BUNDLES, method="pagesight", epsilon=0.1)
    large.drop_calibrations("default", f"pagesight 0.1 v{CALIBRATION_VERSION}")
    await asyncio.wait_for(first.load(), WAIT_S)
    assert list(first.known()) == ["small"]
    await first.close()
    kept = f"pagesight 0.1 v{CALIBRATION_VERSION} begun"
    assert large.calibration("default", 1, kept) is not None

    again = Registry(large, BUNDLES, method="pagesight", epsilon=0.1)
    await asyncio.wait_for(again.load(), WAIT_S)
    assert again.get("default").calibration == whole
    assert left_out == [0, 1, 2, 3]
    assert large.calibration("default", 1, kept) is None
    await again.close()


async def test_closing_ends_a_preparation_at_its_next_step(
    large: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = registry_of(large)
    large.calibrated.clear()
    loading = asyncio.create_task(registry.load())
    assert await registry.wait_for_revision("small", 1, WAIT_S)
    closing = asyncio.create_task(registry.close())
    await asyncio.sleep(0)
    large.calibrated.set()
    await asyncio.wait_for(closing, WAIT_S)
    await asyncio.wait_for(loading, WAIT_S)
    assert "default" not in registry.known()
    assert "gallery default: calibrated by 1 of 4 pictures" in caplog.text
    assert "gallery default is prepared further after the next start" in caplog.text


async def test_a_server_that_is_to_end_follows_its_store_and_refits_no_more(
    large: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    caplog.set_level(logging.INFO)
    registry = registry_of(large)
    await asyncio.wait_for(registry.load(), WAIT_S)
    await asyncio.wait_for(registry.settled(), WAIT_S)
    before = registry.get("default").calibration
    large.calibrated.clear()
    large.storing.clear()
    enrol(large, {"b3": "b"})
    await asyncio.wait_for(registry.refresh(), WAIT_S)
    await happens(large.storing)
    registry.stop_recalibrating()
    large.calibrated.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert "gallery default: calibrated by 1 of 5 pictures" in caplog.text
    assert "gallery default is calibrated further after the next start" in caplog.text

    caplog.clear()
    enrol(large, {"b4": "b"})
    await asyncio.wait_for(registry.refresh(), WAIT_S)
    await asyncio.wait_for(registry.settled(), WAIT_S)
    known = registry.get("default")
    assert (len(known.snapshot.pictures), known.calibration) == (6, before)
    assert "calibrated" not in caplog.text
    await registry.close()


async def test_a_gallery_that_cannot_be_prepared_is_told_and_not_tried_again_as_it_is(
    large: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def broken(store: Gallery, name: str, *rest: Any, **more: Any) -> Knowledge:
        if name == "default":
            tried.append(name)
            if len(tried) == 1:
                raise ValueError("broken")
        return load_knowledge(store, name, *rest, **more)

    monkeypatch.setattr("pagesight_server.workflows.refresh.load_knowledge", broken)
    registry = registry_of(large)
    with pytest.raises(ValueError, match="broken"):
        await registry.load()
    assert "gallery default cannot be answered from" in caplog.text
    with pytest.raises(BehindError):
        registry.get("default")
    await registry.refresh("small")
    assert tried == ["default"]
    enrol(large, {"c1": "c"})
    await asyncio.wait_for(registry.refresh("default"), WAIT_S)
    assert registry.get("default").snapshot.revision == 2
    await registry.close()


async def test_a_gallery_deleted_while_it_is_prepared_is_no_fault(
    large: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(large)
    large.calibrated.clear()
    loading = asyncio.create_task(registry.load())
    assert await registry.wait_for_revision("small", 1, WAIT_S)
    large.delete(Change())
    large.calibrated.set()
    await asyncio.wait_for(loading, WAIT_S)
    with pytest.raises(NotFoundError):
        registry.get("default")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    await registry.close()


async def test_what_the_store_interrupts_goes_on_when_it_is_back(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = iter([True, True, False])

    def load(store: Gallery, name: str, *rest: Any, **more: Any) -> Knowledge:
        if name == "default" and next(interrupted):
            raise StoreAwayError("the server closed the connection")
        return load_knowledge(store, name, *rest, **more)

    monkeypatch.setattr("pagesight_server.workflows.refresh.load_knowledge", load)
    monkeypatch.setattr("pagesight_server.workflows.knowledge.ELSEWHERE_POLL_S", 0.001)
    registry = registry_of(large)
    await asyncio.wait_for(registry.load(), WAIT_S)
    assert registry.get("default").snapshot.revision == 1


async def test_galleries_are_not_read_before_it_is_their_turn(large: Store) -> None:
    registry = registry_of(large)
    turn = asyncio.Event()
    loading = asyncio.create_task(registry.load(turn.wait))
    await asyncio.sleep(0)
    assert not large.read.is_set()
    with pytest.raises(BehindError):
        registry.get("small")
    turn.set()
    await asyncio.wait_for(loading, WAIT_S)
    assert registry.get("small").snapshot.labels == ("c",)
    await registry.close()
