"""A change under a request_id is made once, and one that expects a revision at that alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pagesight_server.common.errors import (
    ImageError,
    InvalidRequestError,
    NotFoundError,
    RevisionError,
)
from pagesight_server.gallery import Change, Entry, Gallery
from pagesight_server.gallery.location import StoreLocation
from tests.support import WAIT_S
from tests.support.parts import BUNDLES, held
from tests.support.stores import enrol, picture_id, put

ONE, TWO = picture_id("one"), picture_id("two")


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=iter(range(1000, 9000)).__next__)
    yield opened
    opened.close()


def test_a_repeated_change_is_told_the_first_answer(store: Gallery) -> None:
    put(store, "one")
    put(store, "two")
    change = Change(request_id="r1")
    entries = [Entry(image_id=ONE, label="a")]
    first = store.enrol(change, entries, BUNDLES)
    enrol(store, {"two": "b"})
    assert store.enrol(change, entries, BUNDLES) == first
    # Whatever the repeat carries: it is the first change that is meant.
    assert store.enrol(change, [Entry(image_id=TWO, label="c")], BUNDLES) == first
    assert store.snapshot().revision == 2
    assert store.answered(change, "enrol") == first


def test_a_repeat_is_answered_after_the_revision_has_moved(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    change = Change(request_id="r1", expected_revision=1)
    first = store.remove(change, [ONE])
    assert first.revision == 2
    assert store.remove(change, [ONE]) == first


def test_an_enrolment_with_failing_entries_is_repeated_word_for_word(store: Gallery) -> None:
    put(store, "one")
    change = Change(request_id="r1")
    entries = [
        Entry(image_id="", label="a", error=ImageError("damaged")),
        Entry(image_id=ONE, label="a"),
        Entry(image_id=ONE, label="b"),
    ]
    first = store.enrol(change, entries, BUNDLES)
    assert [outcome.error is not None for outcome in first.outcomes] == [True, False, True]
    assert store.enrol(change, [], BUNDLES) == first


def test_a_change_that_changed_nothing_is_repeated_too(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    change = Change(request_id="r1")
    first = store.relabel(change, [ONE], "a")
    store.relabel(Change(), [ONE], "b")
    assert store.relabel(change, [ONE], "a") == first
    assert held(store.snapshot()) == {ONE: "b"}


def test_a_change_that_failed_can_be_tried_again_under_its_request_id(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    change = Change(request_id="r1")
    with pytest.raises(NotFoundError):
        store.remove(change, [TWO])
    assert store.remove(change, [ONE]).revision == 2


def test_a_request_id_is_for_one_kind_of_change(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.relabel(Change(request_id="r1"), [ONE], "b")
    with pytest.raises(InvalidRequestError, match="'r1' was used for a change of kind relabel"):
        store.remove(Change(request_id="r1"), [ONE])
    assert store.snapshot().revision == 2


def test_a_request_id_belongs_to_its_gallery(store: Gallery) -> None:
    for gallery in ("first", "second"):
        put(store, "one")
        change = Change(gallery=gallery, request_id="r1")
        assert store.enrol(change, [Entry(image_id=ONE, label="a")], BUNDLES).revision == 1
    assert store.revisions() == {"first": 1, "second": 1}


def test_a_change_expects_the_revision_it_has_seen(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    enrol(store, {"two": "a"})
    with pytest.raises(RevisionError, match="is at revision 2, not 1: list it again"):
        store.remove(Change(expected_revision=1), [ONE])
    assert store.remove(Change(expected_revision=2), [ONE]).revision == 3


def test_a_gallery_that_is_not_there_yet_is_at_no_expected_revision(store: Gallery) -> None:
    with pytest.raises(RevisionError):
        store.enrol(Change(expected_revision=1), [], BUNDLES)
    assert store.revisions() == {}


def test_a_change_may_expect_that_the_gallery_is_new(store: Gallery) -> None:
    put(store, "one")
    new = Change(expected_revision=0)
    assert store.enrol(new, [Entry(image_id=ONE, label="a")], BUNDLES).revision == 1
    with pytest.raises(RevisionError, match="at revision 1: it is not new"):
        store.enrol(new, [Entry(image_id=ONE, label="a")], BUNDLES)
    with pytest.raises(RevisionError, match="it is not new"):
        store.remove(new, [ONE])
    with pytest.raises(NotFoundError):
        store.remove(Change(gallery="none", expected_revision=0), [ONE])


def test_of_many_threads_that_expect_a_revision_one_succeeds(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    together = threading.Barrier(8)

    def attempt(number: int) -> int | None:
        together.wait(WAIT_S)
        try:
            return store.relabel(Change(expected_revision=1), [ONE], f"b{number}").revision
        except RevisionError:
            return None

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(attempt, range(8)))
    assert sorted(answers, key=str) == [2, *[None] * 7]
