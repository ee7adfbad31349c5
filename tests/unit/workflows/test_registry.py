"""What the server knows: own changes at once, those of others soon, answers whatever the store."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pagesight_server.common.errors import BundleMismatchError, NotFoundError, StorageError
from pagesight_server.gallery import Change, Entry, Gallery
from pagesight_server.gallery.snapshot import Changes, Snapshot
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.registry import Live, know
from tests.support import WAIT_S
from tests.support.parts import BUNDLES, OTHER_BUNDLES
from tests.support.stores import enrol, put


class Store(Gallery):
    """A store that tells when it is asked, and fails as the test says."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read = threading.Event()
        """Set after a snapshot was taken."""
        self.failed = threading.Event()
        self.broken = False
        self.full = False
        self.calibrated = threading.Event()
        """Unset: the calibration of the next revision is held up before it is stored."""
        self.calibrated.set()

    def revisions(self) -> dict[str, int]:
        if self.broken:
            self.failed.set()
            raise sqlite3.OperationalError("disk I/O error")
        return super().revisions()

    def snapshot(
        self, name: str = "default", revision: int | None = None, *, rounded: bool = False
    ) -> Snapshot:
        taken = super().snapshot(name, revision, rounded=rounded)
        self.read.set()
        return taken

    def changes(self, name: str, revision: int) -> Changes | None:
        found = super().changes(name, revision)
        self.read.set()
        return found

    def put_calibration(self, name: str, revision: int, method: str, calibration: str) -> None:
        if self.full:
            raise StorageError("the store could not be written and is unchanged: disk is full")
        assert self.calibrated.wait(WAIT_S)
        super().put_calibration(name, revision, method, calibration)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "gallery.db")
    yield opened
    opened.close()


def live_of(store: Gallery) -> Live:
    return Live(store, BUNDLES, method="pagesight", epsilon=0.05)


@asynccontextmanager
async def following(live: Live) -> AsyncIterator[None]:
    task = asyncio.create_task(live.follow(0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, WAIT_S)


async def test_an_own_change_is_known_after_a_refresh(store: Store) -> None:
    live = live_of(store)
    await live.refresh()
    with pytest.raises(NotFoundError, match="no gallery 'default': enrol a picture"):
        live.get("default")
    enrol(store, {"one": "a"})
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a",)
    enrol(store, {"two": "b"})
    assert live.get("default").snapshot.labels == ("a",)
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a", "b")
    assert live.get("default").snapshot.revision == 2


async def test_a_gallery_that_did_not_change_is_not_read_again(store: Store) -> None:
    live = live_of(store)
    enrol(store, {"one": "a"})
    enrol(store, {"one": "a"}, gallery="second")
    await live.refresh()
    known = live.get("default")
    enrol(store, {"two": "a"}, gallery="second")
    await live.refresh()
    assert live.get("default") is known
    assert live.get("second").snapshot.revision == 2


async def test_a_change_by_another_process_is_followed(store: Store, tmp_path: Path) -> None:
    live = live_of(store)
    enrol(store, {"one": "a"})
    await live.refresh()
    store.read.clear()
    other = Gallery(tmp_path / "gallery.db")
    async with following(live):
        enrol(other, {"two": "b"})
        await happens(store.read)
        async with live._refreshing:  # the refresh that read it has ended
            assert live.get("default").snapshot.labels == ("a", "b")
    other.close()


async def test_a_store_that_cannot_be_read_does_not_stop_the_answers(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    live = live_of(store)
    enrol(store, {"one": "a"})
    await live.refresh()
    enrol(store, {"two": "b"})
    store.read.clear()
    store.broken = True
    with caplog.at_level(logging.ERROR):
        async with following(live):
            await happens(store.failed)
            assert live.get("default").snapshot.labels == ("a",)
            store.broken = False
            await happens(store.read)
            async with live._refreshing:
                assert live.get("default").snapshot.labels == ("a", "b")
    assert "cannot follow the store" in caplog.text


async def test_a_full_disk_does_not_keep_an_enrolled_page_from_being_found(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    live = live_of(store)
    enrol(store, {"one": "a"})
    store.full = True
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a",)
    assert "the calibration of gallery default is not kept" in caplog.text


async def test_a_gallery_made_by_other_bundles_is_refused_and_the_rest_answer(
    store: Store,
) -> None:
    enrol(store, {"one": "a"})
    image_id = put(store, "two", OTHER_BUNDLES)
    entry = Entry(image_id=image_id, label="b")
    store.enrol(Change(gallery="foreign"), [entry], OTHER_BUNDLES)
    live = live_of(store)
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a",)
    with pytest.raises(BundleMismatchError, match="gallery 'foreign' was made with"):
        live.get("foreign")


async def test_refreshes_at_the_same_time_end_at_the_newest_revision(store: Store) -> None:
    live = live_of(store)

    async def change(name: str) -> None:
        await asyncio.to_thread(enrol, store, {name: name})
        await live.refresh()
        assert name in live.get("default").snapshot.labels

    await asyncio.gather(*(change(name) for name in "abcdefgh"))
    assert live.get("default").snapshot.revision == 8


def test_the_calibration_is_made_once_for_each_revision_method_and_epsilon(store: Store) -> None:
    enrol(store, {"one": "a", "two": "a"})
    first = know(store, "default", "pagesight", 0.05)
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
    assert know(store, "default", "pagesight", 0.05).calibration.pictures == 7
    assert know(store, "default", "pagesight", 0.1).calibration.pictures == 2
    assert know(store, "default", "seed", 0.05).calibration.pictures == 2


def test_an_unknown_gallery_is_told(store: Store) -> None:
    with pytest.raises(NotFoundError):
        know(store, "none", "seed", 0.05)


async def test_a_query_keeps_the_knowledge_it_began_with(store: Store) -> None:
    enrol(store, {"one": "a"})
    live = live_of(store)
    await live.refresh()
    begun: Knowledge = live.get("default")
    enrol(store, {"two": "b"})
    await live.refresh()
    assert begun.snapshot.revision == 1
    assert len(begun.snapshot.pictures) == len(begun.snapshot.embeddings) == 1


async def test_a_change_is_answered_by_the_calibration_before_until_it_has_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.registry.MEANWHILE_PICTURES", 2)
    enrol(store, {"a1": "a", "a2": "a", "b1": "b"})
    live = live_of(store)
    await live.refresh()
    await live.settled()
    before = live.get("default").calibration
    store.calibrated.clear()
    enrol(store, {"b2": "b"})
    await asyncio.wait_for(live.refresh(), WAIT_S)
    meanwhile = live.get("default")
    assert (len(meanwhile.snapshot.pictures), meanwhile.calibration) == (4, before)
    store.calibrated.set()
    await asyncio.wait_for(live.settled(), WAIT_S)
    after = live.get("default")
    assert after.snapshot.revision == 2
    assert (before.pictures, after.calibration.pictures) == (2, 4)
