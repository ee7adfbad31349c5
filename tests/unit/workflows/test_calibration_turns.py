"""One of several servers of a store calibrates; the others take over from one that dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesight_server.common.errors import BehindError, StorageError
from pagesight_server.gallery.replicas import SILENT_MS
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.registries import Store, happens, with_large
from tests.support.stores import enrol, file_of

KEY = f"pagesight 0.05 v{CALIBRATION_VERSION}"


class Watched(Store):
    """A store that tells when it is asked for a claim, and which calibrations are put into it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.made: list[tuple[str, int]] = []
        self.claimed, self.refused = threading.Event(), threading.Event()

    def claim_calibration(self, name: str, revision: int, method: str, replica_id: str) -> bool:
        if self.full:
            raise StorageError("the store could not be written and is unchanged: disk is full")
        claimed = super().claim_calibration(name, revision, method, replica_id)
        (self.claimed if claimed else self.refused).set()
        return claimed

    def put_calibration(self, name: str, revision: int, method: str, calibration: str) -> None:
        super().put_calibration(name, revision, method, calibration)
        if method == KEY:
            self.made.append((name, revision))


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr("pagesight_server.workflows.calibration_turns.ELSEWHERE_POLL_S", 0.01)
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    opened = Watched(tmp_path / "gallery.db")
    with_large(opened, monkeypatch)
    yield opened
    opened.close()


@pytest.fixture
def other_store(large: Watched) -> Iterator[Watched]:
    opened = Watched(file_of(large))
    yield opened
    opened.close()


def server_of(store: Store, name: str) -> Registry:
    """The registry of a server that is noted in its store."""
    store.beat(name, name, {})
    return Registry(store, BUNDLES, method="pagesight", epsilon=0.05, replica_id=name)


async def test_of_several_servers_one_calibrates_and_the_others_take_the_outcome(
    large: Watched, other_store: Watched
) -> None:
    first, second = server_of(large, "first"), server_of(other_store, "second")
    large.calibrated.clear()
    loading = [asyncio.create_task(first.load())]
    await happens(large.claimed)
    loading.append(asyncio.create_task(second.load()))
    await happens(other_store.refused)
    with pytest.raises(BehindError):
        second.get("default")
    large.calibrated.set()
    await asyncio.wait_for(asyncio.gather(*loading), WAIT_S)
    assert second.get("default").calibration == first.get("default").calibration

    # A change is calibrated by whoever sees it first.
    enrol(large, {"b3": "b"})
    other_store.held, other_store.claimed = "default", threading.Event()
    other_store.calibrated.clear()
    large.refused.clear()
    await second.refresh()
    await happens(other_store.claimed)
    await first.refresh()
    await happens(large.refused)
    assert first.get("default").calibration.pictures == 4
    other_store.calibrated.set()
    for registry in (first, second):
        await asyncio.wait_for(registry.settled(), WAIT_S)
        assert registry.get("default").calibration.pictures == 5
    assert large.made.count(("default", 1)) == other_store.made.count(("default", 2)) == 1
    assert ("default", 2) not in large.made
    assert ("default", 1) not in other_store.made
    for registry in (first, second):
        await registry.close()


@pytest.mark.parametrize("dies", ["silent", "left"])
async def test_a_server_takes_over_from_one_that_dies(large: Watched, dies: str) -> None:
    large.beat("dead", "dead", {})
    assert large.claim_calibration("default", 1, KEY, "dead")
    registry = server_of(large, "alive")
    loading = asyncio.create_task(registry.load())
    await happens(large.refused)
    assert not loading.done()
    if dies == "left":
        large.leave("dead")
    else:
        with large.database.writing() as db:
            db.execute(
                "UPDATE replicas SET seen_at_ms = seen_at_ms - :ms WHERE id = 'dead'",
                {"ms": SILENT_MS + 1_000},
            )
    await asyncio.wait_for(loading, WAIT_S)
    assert large.made.count(("default", 1)) == 1
    await registry.close()


async def test_a_server_that_ends_leaves_its_claim_to_another(
    large: Watched, other_store: Watched
) -> None:
    first, second = server_of(large, "first"), server_of(other_store, "second")
    large.calibrated.clear()
    loading = asyncio.create_task(first.load())
    await happens(large.claimed)
    taking_over = asyncio.create_task(second.load())
    await happens(other_store.refused)
    closing = asyncio.create_task(first.close())
    await asyncio.sleep(0)  # it is told to end
    large.calibrated.set()
    await asyncio.wait_for(asyncio.gather(loading, closing), WAIT_S)
    # Its note is still there: what it has claimed, it has taken back.
    assert [replica.name for replica in large.replicas()] == ["first", "second"]
    await asyncio.wait_for(taking_over, WAIT_S)
    assert other_store.made.count(("default", 1)) == 1
    await second.close()


async def test_where_a_claim_cannot_be_written_a_gallery_is_calibrated_all_the_same(
    large: Watched,
) -> None:
    registry = server_of(large, "alone")
    large.full = True
    await asyncio.wait_for(registry.load(), WAIT_S)
    assert registry.get("default").calibration.pictures == 4
    await registry.close()
