"""Moving to other bundles: resumable, beside the old ones, switched in one revision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pagesight_server.common.errors import BundleMismatchError, ImageError, NotFoundError
from pagesight_server.gallery import Change, Entry, Gallery, backup
from pagesight_server.workflows.pipeline import Features
from pagesight_server.workflows.registry import Registry
from pagesight_server.workflows.reindexing import ReindexReport, reindex_gallery
from tests.support.parts import BUNDLES, OTHER_BUNDLES, reading, unit
from tests.support.stores import content, enrol, picture_id

ONE, TWO, THREE = (picture_id(name) for name in ("one", "two", "three"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(tmp_path / "gallery.db")
    yield opened
    opened.close()


class StoppedError(Exception):
    """Stands for whatever ends a run before its time."""


class NewEyes:
    """The new bundles: five values instead of three; fails and does as the test says."""

    def __init__(self, store: Gallery) -> None:
        self.store = store
        self.seen: list[bytes] = []
        self.cannot = b""
        self.stop_after = 1_000
        self.meanwhile: list[str] = []
        """Enrolled with the old bundles while the first picture is looked at."""

    async def extract_features(self, data: bytes) -> Features:
        if data == self.cannot:
            raise ImageError("the picture is damaged")
        if len(self.seen) == self.stop_after:
            raise StoppedError
        while self.meanwhile:
            enrol(self.store, {self.meanwhile.pop(): "late"})
        self.seen.append(data)
        return Features(
            width_px=1, height_px=1, embedding=unit(1, 0, 0, 0, 1), reading=reading("new")
        )

    async def reindex(self, *, switch: bool = True, drop_missing: bool = False) -> ReindexReport:
        return await reindex_gallery(
            self.store,
            "default",
            OTHER_BUNDLES,
            self.extract_features,
            author="li",
            concurrency=1,
            switch=switch,
            drop_missing=drop_missing,
        )


async def test_a_gallery_moves_in_one_revision_and_rolls_back_within_the_new_bundles(
    store: Gallery,
) -> None:
    enrol(store, {"one": "a", "two": "b"})
    store.remove(Change(), [TWO])
    report = await NewEyes(store).reindex()
    assert (report.revision, report.computed, report.switched, report.missing) == (3, 2, True, [])
    snapshot = store.snapshot()
    assert snapshot.bundles == OTHER_BUNDLES
    assert snapshot.embeddings.shape == (1, 5)
    assert snapshot.pictures[0].reading == reading("new")
    newest = store.history("default")[0]
    assert (newest.kind, newest.author, newest.images) == ("reindex", "li", 1)
    assert store.image_bytes(ONE) == b"one"
    # The removed picture was moved too.
    assert store.rollback(Change(), 1).counts == {"restored": 1, "removed": 0}
    assert backup.check(store) == []


async def test_a_server_of_the_old_bundles_answers_until_the_switch_and_then_says_so(
    store: Gallery,
) -> None:
    enrol(store, {"one": "a"})
    old = Registry(store, BUNDLES, method="pagesight", epsilon=0.05)
    new = Registry(store, OTHER_BUNDLES, method="pagesight", epsilon=0.05)
    report = await NewEyes(store).reindex(switch=False)
    assert (report.computed, report.switched, report.revision) == (1, False, 1)
    await old.refresh()
    await new.refresh()
    assert old.get("default").snapshot.labels == ("a",)
    with pytest.raises(BundleMismatchError):
        new.get("default")
    eyes = NewEyes(store)
    await eyes.reindex()
    assert eyes.seen == []  # all was computed before
    await old.refresh()
    await new.refresh()
    assert new.get("default").snapshot.labels == ("a",)
    with pytest.raises(BundleMismatchError, match="was made with colour@111111111111"):
        old.get("default")
    with pytest.raises(BundleMismatchError):
        store.enrol(Change(), [Entry(image_id=TWO, label="a")], BUNDLES)


async def test_a_run_that_was_stopped_goes_on_where_it_was(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b", "three": "c"})
    first = NewEyes(store)
    first.stop_after = 2
    with pytest.raises(StoppedError):
        await first.reindex()
    assert store.snapshot().bundles == BUNDLES
    second = NewEyes(store)
    report = await second.reindex()
    assert report.switched
    assert sorted(first.seen + second.seen) == [b"one", b"three", b"two"]


async def test_what_is_enrolled_meanwhile_is_moved_too(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    eyes = NewEyes(store)
    eyes.meanwhile = ["late"]
    report = await eyes.reindex()
    assert (report.computed, report.switched) == (2, True)
    assert store.snapshot().labels == ("a", "late")


async def test_pictures_without_originals_are_listed_and_keep_the_gallery_where_it_is(
    store: Gallery,
) -> None:
    store.put_content(replace(content("two"), data=b"small", is_thumbnail=True), BUNDLES)
    enrol(store, {"one": "a", "three": "c"})
    store.enrol(Change(), [Entry(image_id=TWO, label="b")], BUNDLES)
    eyes = NewEyes(store)
    eyes.cannot = b"three"
    report = await eyes.reindex()
    assert not report.switched
    assert dict(report.missing) == {
        TWO: "only a thumbnail is kept (gallery.keep_images)",
        THREE: "the picture is damaged",
    }
    assert (store.snapshot().bundles, store.snapshot().revision) == (BUNDLES, 2)
    report = await eyes.reindex(drop_missing=True)
    assert (report.switched, report.revision, len(report.missing)) == (True, 3, 2)
    assert [picture.image_id for picture in store.snapshot().pictures] == [ONE]
    lost = {outcome.image_id for outcome in store.rollback(Change(), 2).outcomes}
    assert lost == {TWO, THREE}
    assert backup.check(store) == []


async def test_other_galleries_stay_with_their_bundles(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    enrol(store, {"one": "b"}, gallery="second")
    await NewEyes(store).reindex()
    assert store.snapshot("second").bundles == BUNDLES
    assert store.snapshot("second").embeddings.shape == (1, 3)
    assert store.revisions() == {"default": 2, "second": 1}


async def test_a_gallery_that_is_not_there_cannot_move(store: Gallery) -> None:
    with pytest.raises(NotFoundError, match="no gallery 'default'"):
        await NewEyes(store).reindex()


async def test_moving_to_the_bundles_it_has_changes_nothing(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    report = await reindex_gallery(
        store, "default", BUNDLES, NewEyes(store).extract_features, author="li"
    )
    assert (report.revision, report.computed) == (1, 0)
