"""What the server knows: own changes at once, those of others soon, answers whatever the store."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from pagesight_server.common.errors import (
    BundleMismatchError,
    NotFoundError,
)
from pagesight_server.gallery import Change, Entry, Gallery
from pagesight_server.gallery.database import Connection
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.knowledge import load_knowledge
from tests.support import WAIT_S
from tests.support.parts import OTHER_BUNDLES
from tests.support.registries import Store, following, happens, registry_of
from tests.support.serving import until
from tests.support.stores import enrol, put


async def test_an_own_change_is_known_after_a_refresh(store: Store) -> None:
    registry = registry_of(store)
    await registry.refresh()
    with pytest.raises(NotFoundError, match="no gallery 'default': enrol a picture"):
        registry.get("default")
    enrol(store, {"one": "a"})
    await registry.refresh()
    assert registry.get("default").snapshot.labels == ("a",)
    enrol(store, {"two": "b"})
    assert registry.get("default").snapshot.labels == ("a",)
    await registry.refresh()
    assert registry.get("default").snapshot.labels == ("a", "b")
    assert registry.get("default").snapshot.revision == 2


async def test_a_gallery_that_did_not_change_is_not_read_again(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    enrol(store, {"one": "a"}, gallery="second")
    await registry.refresh()
    known = registry.get("default")
    enrol(store, {"two": "a"}, gallery="second")
    await registry.refresh()
    assert registry.get("default") is known
    assert registry.get("second").snapshot.revision == 2


async def test_a_look_at_a_store_that_did_not_change_is_two_reads_however_many_galleries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(store)
    for number in range(5):
        enrol(store, {"one": "a"}, gallery=f"g{number}")
    await registry.refresh()
    await registry.settled()
    await registry.refresh()
    reads: list[int] = []
    read = store.database.reading

    def counted() -> AbstractContextManager[Connection]:
        reads.append(1)
        return read()

    monkeypatch.setattr(store.database, "reading", counted)
    await registry.refresh()
    assert len(reads) == 2


async def test_a_change_by_another_process_is_followed(store: Store, tmp_path: Path) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    await registry.refresh()
    store.read.clear()
    other = Gallery(tmp_path / "gallery.db")
    async with following(registry):
        enrol(other, {"two": "b"})
        await happens(store.read)
        async with registry._table.writing:  # the refresh that read it has ended
            assert registry.get("default").snapshot.labels == ("a", "b")
    other.close()


async def test_a_store_that_cannot_be_read_does_not_stop_the_answers(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    await registry.refresh()
    enrol(store, {"two": "b"})
    store.read.clear()
    store.broken = True
    with caplog.at_level(logging.ERROR):
        async with following(registry):
            await happens(store.failed)
            assert registry.get("default").snapshot.labels == ("a",)
            store.broken = False
            await happens(store.read)
            async with registry._table.writing:
                assert registry.get("default").snapshot.labels == ("a", "b")
    assert "the store is away: disk I/O error" in caplog.text


async def test_a_store_that_is_away_is_not_asked_by_those_who_wait_for_a_revision(
    store: Store,
) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    await registry.refresh()
    store.broken = True
    with pytest.raises(sqlite3.OperationalError):
        await registry.refresh()
    store.failed.clear()
    assert not await registry.wait_for_revision("default", 2, 0.01)
    assert not store.failed.is_set()
    waiting = asyncio.create_task(registry.wait_for_revision("default", 2, WAIT_S))
    store.broken = False
    enrol(store, {"two": "b"})
    async with following(registry):
        assert await waiting  # the follower brings it, once the store is back


async def test_a_change_counts_although_the_store_goes_away_right_after_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    store.broken = True
    await registry.refresh_after_change("default")
    assert "a change of gallery default is made and not seen yet" in caplog.text
    store.broken = False
    await registry.refresh_after_change("default")
    assert registry.get("default").snapshot.revision == 1


async def test_a_refresh_that_fails_on_the_same_again_and_again_is_told_of_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def fails(_store: Gallery, name: str, *_: Any, **_more: Any) -> Knowledge:
        tries.append(name)
        raise ValueError("a bug")

    registry = registry_of(store)
    enrol(store, {"one": "a"})
    monkeypatch.setattr("pagesight_server.workflows.refresh.load_knowledge", fails)
    async with following(registry):
        await until(lambda: len(tries) > 2)
    assert caplog.text.count("cannot follow the store") == 1


async def test_a_full_disk_does_not_keep_an_enrolled_page_from_being_found(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    store.full = True
    await registry.refresh()
    assert registry.get("default").snapshot.labels == ("a",)
    assert "the calibration of gallery default is not kept" in caplog.text


async def test_a_gallery_made_by_other_bundles_is_refused_and_the_rest_answer(
    store: Store,
) -> None:
    enrol(store, {"one": "a"})
    image_id = put(store, "two", OTHER_BUNDLES)
    entry = Entry(image_id=image_id, label="b")
    store.enrol(Change(gallery="foreign"), [entry], OTHER_BUNDLES)
    registry = registry_of(store)
    await registry.refresh()
    assert registry.get("default").snapshot.labels == ("a",)
    with pytest.raises(BundleMismatchError, match="gallery 'foreign' was made with"):
        registry.get("foreign")


async def test_refreshes_at_the_same_time_end_at_the_newest_revision(store: Store) -> None:
    registry = registry_of(store)

    async def change(name: str) -> None:
        await asyncio.to_thread(enrol, store, {name: name})
        await registry.refresh()
        assert name in registry.get("default").snapshot.labels

    await asyncio.gather(*(change(name) for name in "abcdefgh"))
    assert registry.get("default").snapshot.revision == 8


def test_the_calibration_is_made_once_for_each_revision_method_and_epsilon(store: Store) -> None:
    enrol(store, {"one": "a", "two": "a"})
    first = load_knowledge(store, "default", "pagesight", 0.05)
    assert (
        store.calibration("default", 1, f"pagesight 0.05 v{CALIBRATION_VERSION}")
        == first.calibration.to_json()
    )
    assert store.calibration("default", 1, f"seed 0.05 v{CALIBRATION_VERSION}") is None
    store.put_calibration(
        "default",
        1,
        f"pagesight 0.05 v{CALIBRATION_VERSION}",
        first.calibration.to_json().replace('"pictures": 2', '"pictures": 7'),
    )
    assert load_knowledge(store, "default", "pagesight", 0.05).calibration.pictures == 7
    assert load_knowledge(store, "default", "pagesight", 0.1).calibration.pictures == 2
    assert load_knowledge(store, "default", "seed", 0.05).calibration.pictures == 2


def test_an_unknown_gallery_is_told(store: Store) -> None:
    with pytest.raises(NotFoundError):
        load_knowledge(store, "none", "seed", 0.05)


async def test_a_query_keeps_the_knowledge_it_began_with(store: Store) -> None:
    enrol(store, {"one": "a"})
    registry = registry_of(store)
    await registry.refresh()
    begun: Knowledge = registry.get("default")
    enrol(store, {"two": "b"})
    await registry.refresh()
    assert begun.snapshot.revision == 1
    assert len(begun.snapshot.pictures) == len(begun.snapshot.embeddings) == 1


async def test_a_change_is_answered_by_the_calibration_before_until_it_has_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    enrol(store, {"a1": "a", "a2": "a", "b1": "b"})
    registry = registry_of(store)
    await registry.refresh()
    await registry.settled()
    before = registry.get("default").calibration
    store.calibrated.clear()
    enrol(store, {"b2": "b"})
    await asyncio.wait_for(registry.refresh(), WAIT_S)
    meanwhile = registry.get("default")
    assert (len(meanwhile.snapshot.pictures), meanwhile.calibration) == (4, before)
    store.calibrated.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    after = registry.get("default")
    assert after.snapshot.revision == 2
    assert (before.pictures, after.calibration.pictures) == (2, 4)


async def test_closing_ends_the_background_work(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    store.calibrated.clear()
    waiting = asyncio.create_task(registry.wait_for_revision("default", 1, WAIT_S))
    await asyncio.sleep(0)
    await registry.close()
    store.calibrated.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert not registry._refreshes
    waiting.cancel()
