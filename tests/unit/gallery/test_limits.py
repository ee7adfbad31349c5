"""What a store bounds: pictures and bytes of a gallery, remembered answers, removed content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pagesight_server.common.errors import ImageError, LimitError
from pagesight_server.gallery import Change, Entry, Expired, Gallery, Limits, backup, unix_ms
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.store import KEPT_ANSWERS
from tests.support.parts import BUNDLES
from tests.support.stores import content, enrol, picture_id, put, sqlite

DAY_MS = 86_400_000


@pytest.fixture
def small(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, limits=Limits(max_pictures=2, max_bytes=8))
    yield opened
    opened.close()


def held(store: Gallery, gallery: str = "default") -> set[str]:
    return {picture.image_id for picture in store.snapshot(gallery).pictures}


def test_an_enrolment_beyond_the_pictures_of_a_gallery_changes_nothing(small: Gallery) -> None:
    enrol(small, {"a": "x", "b": "x"})
    with pytest.raises(LimitError, match="'default' may hold 2 pictures and this would make 3"):
        enrol(small, {"c": "x"})
    assert held(small) == {picture_id("a"), picture_id("b")}
    small.remove(Change(), [picture_id("a")])
    assert enrol(small, {"c": "x"}).revision == 3
    with pytest.raises(LimitError, match="would make 3"):
        enrol(small, {"a": "x"})


def test_an_enrolment_beyond_the_bytes_of_a_gallery_changes_nothing(small: Gallery) -> None:
    enrol(small, {"12345": "x"})
    with pytest.raises(LimitError, match="may keep 8 bytes of pictures and this would make 9"):
        enrol(small, {"1234": "x"})
    assert enrol(small, {"123": "x"}).revision == 2


def test_each_gallery_has_the_limit_for_itself(small: Gallery) -> None:
    enrol(small, {"a": "x", "b": "x"}, gallery="first")
    enrol(small, {"a": "x", "b": "x"}, gallery="second")
    with pytest.raises(LimitError, match="'second'"):
        enrol(small, {"c": "x"}, gallery="second")


def test_a_rollback_may_not_exceed_the_limit_either(location: StoreLocation) -> None:
    store = Gallery(location)
    enrol(store, {"a": "x", "b": "x", "c": "x"})
    store.remove(Change(), [picture_id("a"), picture_id("b")])
    store.close()
    store = Gallery(location, limits=Limits(max_pictures=2))
    with pytest.raises(LimitError):
        store.rollback(Change(), 1)
    assert held(store) == {picture_id("c")}
    store.close()


def test_a_gallery_over_a_lowered_limit_still_shrinks_and_is_relabelled(
    location: StoreLocation,
) -> None:
    store = Gallery(location)
    enrol(store, {"a": "x", "b": "x", "c": "x"})
    store.close()
    store = Gallery(location, limits=Limits(max_pictures=1))
    store.relabel(Change(), [picture_id("a")], "y")
    assert store.remove(Change(), [picture_id("a")]).revision == 3
    store.close()


def test_a_full_gallery_says_so_before_any_work(small: Gallery) -> None:
    one, two, new = (picture_id(name) for name in ("a", "b", "new"))
    small.check_full("none yet", [new])
    enrol(small, {"a": "x"})
    small.check_full("default", [new])
    enrol(small, {"b": "x"})
    small.check_full("default", [one, two])  # it has them already
    with pytest.raises(LimitError):
        small.check_full("default", [one, new])


def test_the_newest_answers_are_remembered_and_older_ones_forgotten(
    location: StoreLocation,
) -> None:
    store = Gallery(location)
    if isinstance(location, Path):
        sqlite(store).execute("PRAGMA synchronous = OFF")
    enrol(store, {"a": "x"})
    enrol(store, {"a": "x"}, gallery="second")
    store.relabel(Change(gallery="second", request_id="r0"), [picture_id("a")], "x")
    for i in range(KEPT_ANSWERS + 5):
        store.relabel(Change(request_id=f"r{i}"), [picture_id("a")], "x")
    told = [store.answered(Change(request_id=f"r{i}"), "relabel") for i in range(KEPT_ANSWERS + 5)]
    assert [answer is None for answer in told] == [True] * 5 + [False] * KEPT_ANSWERS
    assert store.answered(Change(gallery="second", request_id="r0"), "relabel") is not None
    store.close()


def test_an_enrolment_whose_pictures_all_fail_makes_no_gallery(location: StoreLocation) -> None:
    store = Gallery(location)
    bad = Entry(image_id="", label="a", error=ImageError("damaged"))
    applied = store.enrol(Change(request_id="r1"), [bad], BUNDLES)
    assert (applied.revision, applied.outcomes[0].error is None) == (0, False)
    assert store.revisions() == {}
    # The next one is the first that counts, under the same request_id too.
    put(store, "one")
    entries = [Entry(image_id=picture_id("one"), label="a")]
    assert store.enrol(Change(request_id="r1"), entries, BUNDLES).revision == 1
    store.close()


def test_content_of_long_removed_pictures_expires_and_their_history_stays(
    location: StoreLocation,
) -> None:
    clock = [unix_ms()]
    store = Gallery(location, now_ms=lambda: clock[0])
    enrol(store, {"old": "x", "new": "x", "kept": "x"})
    enrol(store, {"old": "x"}, gallery="second")
    store.remove(Change(), [picture_id("old")])
    clock[0] += 10 * DAY_MS
    store.remove(Change(), [picture_id("new")])
    assert store.expire(7) == Expired(removed=0, unused=0)  # the other gallery holds it
    store.remove(Change(gallery="second"), [picture_id("old")])
    clock[0] += 8 * DAY_MS
    enrol(store, {"late": "x"})
    store.remove(Change(), [picture_id("late")])
    assert store.expire(0) == Expired(removed=0, unused=0)
    assert store.expire(7) == Expired(removed=2, unused=0)
    assert store.image_bytes(picture_id("old")) is None
    assert backup.check(store) == []
    applied = store.rollback(Change(), 1)
    assert applied.counts == {"restored": 0, "removed": 0}
    lost = {outcome.image_id for outcome in applied.outcomes}
    assert lost == {picture_id("old"), picture_id("new")}
    # From its file it can be enrolled again.
    assert not store.has_content(picture_id("old"), BUNDLES)
    enrol(store, {"old": "x"})
    assert store.image_bytes(picture_id("old")) == b"old"
    store.close()


def test_content_that_was_never_enrolled_goes_after_a_day(location: StoreLocation) -> None:
    store = Gallery(location)
    put(store, "unused")
    enrol(store, {"used": "x"})
    assert store.expire(0) == Expired(removed=0, unused=0)
    store.close()
    store = Gallery(location, now_ms=lambda: unix_ms() + 2 * DAY_MS)
    assert store.expire(0) == Expired(removed=0, unused=1)
    assert held(store) == {picture_id("used")}
    store.close()


def test_a_better_form_of_a_picture_replaces_a_worse_one_only(location: StoreLocation) -> None:
    store = Gallery(location)
    original = content("one")
    nothing = replace(original, data=None)
    small = replace(original, data=b"small", is_thumbnail=True)
    for put_, kept in [
        (nothing, None),
        (small, b"small"),
        (nothing, b"small"),
        (original, b"one"),
        (small, b"one"),
    ]:
        store.put_content(put_, BUNDLES)
        assert store.image_bytes(original.image_id) == kept
        assert backup.check(store) == []
    store.close()
