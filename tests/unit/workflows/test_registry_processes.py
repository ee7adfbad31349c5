"""One of several processes of a store calibrates, the others wait for what it finds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pagesight_server.common.errors import BehindError, NotFoundError
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.registries import Store, registry_of
from tests.support.stores import enrol, file_of


def process_of(path: Path, *, calibrates: bool) -> tuple[Store, Registry]:
    """Store and registry of one of several processes that serve the same store."""
    store = Store(path)
    return store, Registry(store, BUNDLES, method="pagesight", epsilon=0.05, calibrates=calibrates)


async def test_of_several_processes_one_calibrates_a_large_gallery_and_the_others_wait_for_it(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    monkeypatch.setattr("pagesight_server.workflows.calibration_turns.ELSEWHERE_POLL_S", 0.01)
    leading = registry_of(large)
    other_store, other = process_of(file_of(large), calibrates=False)
    made: list[int] = []
    monkeypatch.setattr(
        other_store, "put_calibration", lambda _name, revision, *_: made.append(revision)
    )
    large.calibrated.clear()
    loading = [asyncio.create_task(registry.load()) for registry in (leading, other)]
    for registry in (leading, other):
        assert await registry.wait_for_revision("small", 1, WAIT_S)
        with pytest.raises(BehindError):
            registry.get("default")
    large.calibrated.set()
    await asyncio.wait_for(asyncio.gather(*loading), WAIT_S)
    assert other.get("default").calibration == leading.get("default").calibration
    made.clear()  # of the small gallery, which takes no time

    # A change: answered by the calibration before, until the leader has made the next.
    enrol(large, {"b3": "b"})
    await other.refresh()
    before = other.get("default").calibration
    assert (other.get("default").snapshot.revision, before.pictures) == (2, 4)
    await leading.refresh()
    for registry in (leading, other):
        await asyncio.wait_for(registry.settled(), WAIT_S)
    assert other.get("default").calibration == leading.get("default").calibration
    assert other.get("default").calibration.pictures == 5
    assert made == []
    await other.close()
    await leading.close()
    other_store.close()


async def test_a_process_does_not_wait_for_ever_for_the_one_that_calibrates(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.calibration_turns.ELSEWHERE_S", 0.0)
    store, alone = process_of(file_of(large), calibrates=False)
    await asyncio.wait_for(alone.load(), WAIT_S)
    assert alone.get("default").calibration.pictures == 4
    await alone.close()
    store.close()


async def test_a_process_that_waits_for_a_calibration_ends_when_it_is_told_to(
    large: Store,
) -> None:
    store, waiting = process_of(file_of(large), calibrates=False)
    loading = asyncio.create_task(waiting.load())
    assert await waiting.wait_for_revision("small", 1, WAIT_S)
    await asyncio.wait_for(waiting.close(), WAIT_S)
    await loading
    with pytest.raises(NotFoundError):
        waiting.get("default")
    store.close()
