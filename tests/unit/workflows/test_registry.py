"""What the server knows: own changes at once, those of others soon, answers whatever the store."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pagesight_server.common.errors import (
    BehindError,
    BundleMismatchError,
    NotFoundError,
    StorageError,
    StoreAwayError,
)
from pagesight_server.gallery import Change, Entry, Gallery
from pagesight_server.gallery.snapshot import Changes, Snapshot
from pagesight_server.index import ivf
from pagesight_server.index.ivf import IvfBase
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.policy import IndexSettings
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import left_out_scores
from pagesight_server.workflows.knowledge import load_knowledge
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.codes import fill, only_codes
from tests.support.parts import BUNDLES, OTHER_BUNDLES
from tests.support.serving import until
from tests.support.stores import enrol, file_of, put


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
        self.held: str | None = None
        """The only gallery whose calibration is held up; None: whichever."""
        self.deleted_next: set[str] = set()
        """Deleted right after the revisions were read the next time."""
        self.readable = threading.Event()
        """Unset: reading the revisions takes until it is set."""
        self.readable.set()

    def revisions(self) -> dict[str, int]:
        assert self.readable.wait(WAIT_S)
        if self.broken:
            self.failed.set()
            raise sqlite3.OperationalError("disk I/O error")
        revisions = super().revisions()
        for name in self.deleted_next:
            self.delete(Change(gallery=name))
        self.deleted_next = set()
        return revisions

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
        assert self.held not in (None, name) or self.calibrated.wait(WAIT_S)
        super().put_calibration(name, revision, method, calibration)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "gallery.db")
    yield opened
    opened.close()


def registry_of(store: Gallery) -> Registry:
    return Registry(store, BUNDLES, method="pagesight", epsilon=0.05)


@asynccontextmanager
async def following(registry: Registry) -> AsyncIterator[None]:
    task = asyncio.create_task(registry.follow(0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, WAIT_S)


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


@pytest.fixture
def large(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A gallery of four pictures, which counts as large, and a small one."""
    monkeypatch.setattr("pagesight_server.workflows.refresh.LARGE_PICTURES", 4)
    monkeypatch.setattr("pagesight_server.recognition.calibration.STEP_PICTURES", 1)
    monkeypatch.setattr("pagesight_server.workflows.knowledge.STEPS_EVERY_S", 0.0)
    enrol(store, {"a1": "a", "a2": "a", "b1": "b", "b2": "b"})
    enrol(store, {"one": "c"}, gallery="small")
    store.held = "default"
    return store


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
    enrol(large, {"b3": "b"})
    await asyncio.wait_for(registry.refresh(), WAIT_S)
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


def indexed(store: Store) -> tuple[Registry, Path]:
    """A registry whose indexes are kept in files, and their folder."""
    folder = file_of(store).with_name("gallery.db.index")
    index_manager = IndexManager(IndexSettings(kind="ivfpq", device="cpu"), folder)
    registry = Registry(store, BUNDLES, method="seed", epsilon=0.05, index_manager=index_manager)
    return registry, folder


def kept_files(folder: Path) -> list[str]:
    """The files of all generations, by their suffix."""
    return sorted(path.suffix for path in folder.iterdir() if path.name != "lock")


async def test_a_deleted_gallery_is_forgotten_with_its_index_and_the_others_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_codes(monkeypatch)
    fill(tmp_path / "gallery.db")
    store = Store(tmp_path / "gallery.db")
    registry, folder = indexed(store)
    enrol(store, {"one": "a"}, gallery="second")
    await registry.refresh()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert kept_files(folder) == [".codes", ".json", ".vectors"]
    store.delete(Change())
    await registry.refresh()
    assert list(registry.known()) == ["second"]
    assert kept_files(folder) == []
    with pytest.raises(NotFoundError, match="no gallery 'default'"):
        registry.get("default")
    store.close()


async def test_a_gallery_deleted_while_no_server_ran_leaves_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_codes(monkeypatch)
    fill(tmp_path / "gallery.db")
    store = Store(tmp_path / "gallery.db")
    registry, folder = indexed(store)
    await registry.refresh()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    store.delete(Change())
    started_anew, _ = indexed(store)
    await started_anew.refresh()
    assert kept_files(folder) == []
    store.close()


async def test_an_index_that_was_being_built_of_a_deleted_gallery_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_codes(monkeypatch)
    fill(tmp_path / "gallery.db")
    store = Store(tmp_path / "gallery.db")
    registry, folder = indexed(store)
    begun, go_on = threading.Event(), threading.Event()

    def slow_build(*arguments: Any, **options: Any) -> IvfBase:
        begun.set()
        assert go_on.wait(WAIT_S)
        return ivf.build(*arguments, **options)

    monkeypatch.setattr("pagesight_server.index.manager.build", slow_build)
    await registry.refresh()
    await happens(begun)
    store.delete(Change())
    await registry.refresh()
    go_on.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert registry.known() == {}
    assert kept_files(folder) == []
    store.close()


async def test_a_gallery_deleted_in_the_middle_of_a_refresh_does_not_stop_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    enrol(store, {"one": "a"})
    enrol(store, {"one": "a"}, gallery="second")
    registry = registry_of(store)
    await registry.refresh()
    await registry.settled()
    enrol(store, {"two": "a"})
    enrol(store, {"two": "a"}, gallery="second")
    store.deleted_next = {"default"}
    await registry.refresh()
    await registry.settled()
    assert list(registry.known()) == ["second"]
    assert registry.get("second").snapshot.revision == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_gallery_deleted_before_it_was_calibrated_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    enrol(store, {"a1": "a", "a2": "a", "b1": "b"})
    registry = registry_of(store)
    await registry.refresh()
    await registry.settled()
    store.calibrated.clear()
    enrol(store, {"b2": "b"})
    await registry.refresh()
    store.delete(Change())
    store.calibrated.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_deleted_gallery_may_be_enrolled_anew(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    await registry.refresh()
    store.delete(Change())
    await registry.refresh()
    enrol(store, {"two": "b"})
    await registry.refresh()
    assert registry.get("default").snapshot.labels == ("b",)


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


def process_of(path: Path, *, calibrates: bool) -> tuple[Store, Registry]:
    """Store and registry of one of several processes that serve the same store."""
    store = Store(path)
    return store, Registry(store, BUNDLES, method="pagesight", epsilon=0.05, calibrates=calibrates)


async def test_of_several_processes_one_calibrates_a_large_gallery_and_the_others_wait_for_it(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    monkeypatch.setattr("pagesight_server.workflows.knowledge.ELSEWHERE_POLL_S", 0.01)
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
    monkeypatch.setattr("pagesight_server.workflows.knowledge.ELSEWHERE_S", 0.0)
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
