"""A deleted gallery is found nowhere, and may be created anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery import Change, Entry, Gallery, backup
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.purge import UNUSED_MS
from pagesight_server.gallery.snapshot import LabelFacts
from tests.support.parts import BUNDLES, OTHER_BUNDLES, held
from tests.support.stores import enrol, picture_id, put

ONE, TWO = picture_id("one"), picture_id("two")


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=iter(range(1000, 9000)).__next__)
    yield opened
    opened.close()


def test_a_deleted_gallery_is_found_nowhere(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "other_x"})
    enrol(store, {"one": "b"}, gallery="theirs")
    deleted = store.delete(Change(author="mei", request_id="d"))
    assert (deleted.revision, deleted.counts) == (2, {"removed": 2})
    assert store.revisions() == {"theirs": 1}
    assert [info.name for info in store.galleries()] == ["theirs"]
    for call in (store.snapshot, store.images, store.labels, store.history, store.gallery):
        with pytest.raises(NotFoundError, match="no gallery 'default'"):
            call("default")
    for change in (store.delete, lambda change: store.rollback(change, 1)):
        with pytest.raises(NotFoundError):
            change(Change())
    # What it was told is told again; another gallery keeps its picture.
    assert store.delete(Change(request_id="d")) == deleted
    assert held(store.snapshot("theirs")) == {ONE: "b"}


def test_enrolling_creates_a_deleted_gallery_anew_at_a_higher_revision(store: Gallery) -> None:
    change = Change(request_id="r", author="mei")
    put(store, "one")
    entries = [Entry(image_id=ONE, label="a")]
    store.enrol(change, entries, BUNDLES)
    store.set_facts(Change(), {"a": LabelFacts(brands=("A",))})
    store.delete(Change())
    # The request_id of before is that of a change that nobody sees any more.
    again = store.enrol(replace(change, expected_revision=0), entries, OTHER_BUNDLES)
    assert again.outcomes[0].error is not None  # Those bundles have not seen it.
    assert store.revisions() == {}
    assert store.last_revisions() == {"default": 3}
    assert store.enrol(change, entries, BUNDLES).revision == 4
    assert dict(store.snapshot().facts) == {}
    kinds = [made.kind for made in store.history("default")]
    assert kinds == ["enrol", "delete", "labels", "enrol"]
    assert store.rollback(Change(), 2).revision == 5
    assert dict(store.snapshot().facts) == {"a": LabelFacts(brands=("A",))}


def test_pictures_that_were_never_enrolled_expire_by_the_clock_of_the_store(
    location: StoreLocation,
) -> None:
    now = [1_000_000_000_000]
    with closing(Gallery(location, now_ms=lambda: now[0])) as timed:
        put(timed, "one")
        assert timed.expire(0).unused == 0
        now[0] += UNUSED_MS + 1
        assert timed.expire(0).unused == 1


def test_pictures_of_a_deleted_gallery_expire_and_are_purged_as_removed_ones(
    location: StoreLocation,
) -> None:
    now = [1_000_000_000_000]
    with closing(Gallery(location, now_ms=lambda: now[0])) as timed:
        enrol(timed, {"one": "a", "two": "a"})
        enrol(timed, {"two": "b"}, gallery="theirs")
        timed.delete(Change())
        assert timed.expire(30).removed == 0
        now[0] += 31 * 24 * 3600 * 1000
        assert timed.expire(30).removed == 1  # The other gallery still holds the second.
        assert not timed.has_content(ONE, BUNDLES)
        assert timed.purge([TWO], author="li").revisions == {"theirs": 2}
        assert backup.check(timed) == []
