"""Queries wait for a revision or a gallery, and never past their time."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import WAIT_S
from tests.support.registries import Store, following, happens, registry_of
from tests.support.stores import enrol


async def test_waiting_for_a_revision_that_the_store_has_refreshes_at_once(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    assert await registry.wait_for_revision("default", 1, WAIT_S)
    assert registry.get("default").snapshot.revision == 1
    store.broken = True  # what is known already needs no store
    assert await registry.wait_for_revision("default", 1, WAIT_S)


async def test_a_revision_that_comes_while_somebody_waits_ends_the_wait(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    await registry.refresh()
    waiting = asyncio.create_task(registry.wait_for_revision("default", 3, WAIT_S))
    enrol(store, {"two": "a"})
    await registry.refresh()
    assert not waiting.done()
    enrol(store, {"three": "a"})
    await registry.refresh()
    assert await waiting


async def test_a_gallery_may_come_into_being_while_somebody_waits_for_it(store: Store) -> None:
    registry = registry_of(store)
    waiting = asyncio.create_task(registry.wait_for_revision("new", 1, WAIT_S))
    async with following(registry):
        enrol(store, {"one": "a"}, gallery="new")
        assert await waiting
    assert registry.get("new").snapshot.labels == ("a",)


async def test_waiting_for_a_revision_that_does_not_come_ends_in_time(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    assert not await registry.wait_for_revision("default", 2, 0.01)
    assert not await registry.wait_for_revision("other-gallery", 1, 0)


async def test_a_wait_ends_in_time_while_a_refresh_takes_long(store: Store) -> None:
    registry = registry_of(store)
    store.readable.clear()
    enrol(store, {"one": "a"})
    assert not await registry.wait_for_revision("default", 1, 0.01)
    store.readable.set()
    # The refresh that it began goes on, and serves the next.
    await asyncio.wait_for(registry._refreshes.settled(), WAIT_S)
    assert registry.get("default").snapshot.revision == 1


async def test_who_gives_up_waiting_leaves_no_more_than_two_refreshes_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(store)
    await registry.refresh()
    looks: list[int] = []
    look = store.revisions

    def counted() -> dict[str, int]:
        looks.append(len(looks))
        return look()

    monkeypatch.setattr(store, "revisions", counted)
    store.readable.clear()
    for _ in range(3):
        waits = [registry.wait_for_revision("default", 10**9, 0.001) for _ in range(20)]
        assert not any(await asyncio.gather(*waits))
    # The last of them finds what was committed after the first had looked at the store.
    enrol(store, {"one": "a"})
    waiting = asyncio.create_task(registry.wait_for_revision("default", 1, WAIT_S))
    await asyncio.sleep(0)
    assert len(registry._refreshes) <= 2
    store.readable.set()
    assert await waiting
    await asyncio.wait_for(registry._refreshes.settled(), WAIT_S)
    assert len(looks) == 2
    # And whoever comes later begins one again.
    enrol(store, {"two": "a"})
    assert await registry.wait_for_revision("default", 2, WAIT_S)


async def test_a_store_that_cannot_be_read_ends_no_wait_but_its_time(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    store.broken = True
    waiting = asyncio.create_task(registry.wait_for_revision("default", 1, WAIT_S))
    await happens(store.failed)
    await registry._refreshes.settled()
    store.broken = False
    await registry.refresh()
    assert await waiting
    assert "the store is away: disk I/O error" in caplog.text
