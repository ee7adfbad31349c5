"""The store: changes, revisions, repeats, other processes, kills, full disks and odd clocks."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import (
    BundleMismatchError,
    ImageError,
    InvalidRequestError,
    NotFoundError,
    RevisionError,
    SetupError,
    StorageError,
)
from pagesight_server.gallery import Applied, Change, Entry, Gallery, Outcome, Revision, backup
from pagesight_server.gallery.location import PostgresUrl, StoreLocation
from pagesight_server.gallery.snapshot import LabelFacts, LabelUpdate, Snapshot
from tests.support import WAIT_S
from tests.support.parts import BUNDLES, OTHER_BUNDLES, reading, unit
from tests.support.stores import content, enrol, picture_id, put, sqlite

ONE, TWO, THREE = (picture_id(name) for name in ("one", "two", "three"))
NOBODY = "00" * 32


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=iter(range(1000, 9000)).__next__)
    yield opened
    opened.close()


def held(snapshot: Snapshot) -> dict[str, str]:
    """Label by image id."""
    return {picture.image_id: picture.label for picture in snapshot.pictures}


# --- enrol ----------------------------------------------------------------------------


def test_enrolled_pictures_are_in_the_snapshot_with_all_that_is_known_of_them(
    store: Gallery,
) -> None:
    applied = enrol(store, {"one": "b", "two": "a"})
    assert applied == Applied(
        revision=1,
        counts={"added": 2},
        outcomes=(Outcome(image_id=ONE, added=True), Outcome(image_id=TWO, added=True)),
    )
    snapshot = store.snapshot()
    assert (snapshot.gallery, snapshot.revision, snapshot.bundles) == ("default", 1, BUNDLES)
    first, second = snapshot.pictures
    assert (first.label, second.label) == ("a", "b")
    assert (first.image_id, first.source, first.author) == (TWO, "two.png", "mei")
    assert (first.added_at_ms, first.added_revision) == (1000, 1)
    assert first.reading == reading("额度", "首页")
    # fp16 keeps 11 bits: 1/3 is off by at most 2^-13.
    np.testing.assert_allclose(snapshot.embeddings[0], unit(1, 2, 2), atol=2**-12)
    assert snapshot.embeddings[:].dtype == np.float32
    assert store.image_bytes(ONE) == b"one"


def test_a_picture_that_is_there_already_makes_no_revision(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    applied = enrol(store, {"one": "a"})
    assert applied.revision == 1
    assert applied.outcomes == (Outcome(image_id=ONE, added=False),)
    assert [made.revision for made in store.history("default")] == [1]


def test_a_picture_under_another_label_is_told_and_keeps_no_other_out(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    told, added = enrol(store, {"one": "b", "two": "b"}).outcomes
    assert told.error is not None
    assert told.error[:2] == ("ALREADY_EXISTS", "OTHER_LABEL")
    assert "enrolled as 'a'" in told.error[2]
    assert added.added
    assert held(store.snapshot()) == {ONE: "a", TWO: "b"}


def test_the_same_picture_twice_in_one_call_counts_once(store: Gallery) -> None:
    put(store, "one")
    entries = [Entry(image_id=ONE, label=label) for label in ("a", "a", "b")]
    applied = store.enrol(Change(), entries, BUNDLES)
    assert [outcome.added for outcome in applied.outcomes] == [True, False, False]
    assert [outcome.error is None for outcome in applied.outcomes] == [True, True, False]


def test_a_picture_that_failed_before_is_told_in_its_outcome(store: Gallery) -> None:
    put(store, "one")
    entries = [
        Entry(image_id="", label="a", error=ImageError("damaged")),
        Entry(image_id=ONE, label="a"),
    ]
    failed, added = store.enrol(Change(), entries, BUNDLES).outcomes
    assert failed == Outcome(
        image_id="", added=False, error=("INVALID_ARGUMENT", "IMAGE_UNUSABLE", "damaged")
    )
    assert added.added


def test_what_a_picture_is_belongs_to_no_gallery_until_it_is_enrolled(store: Gallery) -> None:
    assert not store.has_content(ONE, BUNDLES)
    put(store, "one")
    assert store.has_content(ONE, BUNDLES)
    assert not store.has_content(ONE, OTHER_BUNDLES)
    assert store.revisions() == {}


def test_bytes_may_be_left_out_and_come_later(store: Gallery) -> None:
    store.put_content(replace(content("one"), data=None), BUNDLES)
    assert store.image_bytes(ONE) is None
    store.put_content(content("one"), BUNDLES)
    assert store.image_bytes(ONE) == b"one"
    store.put_content(replace(content("one"), data=None), BUNDLES)
    assert store.image_bytes(ONE) == b"one"
    with pytest.raises(NotFoundError):
        store.image_bytes(TWO)


def test_galleries_of_one_store_do_not_know_of_each_other(store: Gallery) -> None:
    enrol(store, {"one": "a"}, gallery="first")
    enrol(store, {"one": "b", "two": "b"}, gallery="second")
    enrol(store, {"three": "b"}, gallery="second")
    assert held(store.snapshot("first")) == {ONE: "a"}
    assert held(store.snapshot("second")) == {ONE: "b", TWO: "b", THREE: "b"}
    assert store.revisions() == {"first": 1, "second": 2}


@pytest.mark.parametrize("name", ["a/b", "", "x" * 129])
def test_a_gallery_needs_a_name(store: Gallery, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        store.enrol(Change(gallery=name), [], BUNDLES)
    assert store.revisions() == {}


def test_a_label_that_cannot_be_changes_nothing(store: Gallery) -> None:
    put(store, "one")
    put(store, "two")
    entries = [Entry(image_id=TWO, label="good"), Entry(image_id=ONE, label="a/b")]
    with pytest.raises(InvalidRequestError):
        store.enrol(Change(), entries, BUNDLES)
    assert store.revisions() == {}


def test_a_gallery_of_other_bundles_is_not_mixed(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    put(store, "two", OTHER_BUNDLES)
    with pytest.raises(BundleMismatchError):
        store.enrol(Change(), [Entry(image_id=TWO, label="a")], OTHER_BUNDLES)
    assert store.snapshot().revision == 1


# --- remove, relabel, facts, rollback ---------------------------------------------------


def test_a_removed_picture_is_gone_from_the_new_revision_only(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "a"})
    applied = store.remove(Change(author="li"), [ONE, ONE])
    assert (applied.revision, applied.counts) == (2, {"removed": 1})
    assert held(store.snapshot()) == {TWO: "a"}
    assert held(store.snapshot(revision=1)) == {ONE: "a", TWO: "a"}
    assert store.history("default")[0] == Revision(
        revision=2, made_at_ms=1001, author="li", kind="remove", summary="removed 1 of a", images=1
    )


def test_a_removed_picture_can_be_enrolled_again_under_another_label(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.remove(Change(), [ONE])
    assert enrol(store, {"one": "b"}).revision == 3
    assert [held(store.snapshot(revision=at)) for at in range(4)] == [
        {},
        {ONE: "a"},
        {},
        {ONE: "b"},
    ]


def test_relabelling_counts_those_that_changed(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b"})
    applied = store.relabel(Change(author="li"), [ONE, TWO, ONE], "b")
    assert (applied.revision, applied.counts) == (2, {"relabelled": 1})
    by_id = {picture.image_id: picture for picture in store.snapshot().pictures}
    assert (by_id[ONE].label, by_id[ONE].source, by_id[ONE].author) == ("b", "one.png", "li")
    assert (by_id[ONE].added_revision, by_id[TWO].added_revision) == (2, 1)


def test_relabelling_to_the_same_label_makes_no_revision(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    applied = store.relabel(Change(), [ONE], "a")
    assert (applied.revision, applied.counts) == (1, {"relabelled": 0})


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.remove(Change(), [ONE, NOBODY]),
        lambda store: store.relabel(Change(), [ONE, NOBODY], "b"),
        lambda store: store.remove(Change(), [ONE, "no id"]),
        lambda store: store.remove(Change(), [ONE, "ab"]),
        lambda store: store.relabel(Change(), [ONE], "a/b"),
        lambda store: store.rollback(Change(), 2),
        lambda store: store.rollback(Change(), -1),
        lambda store: store.set_facts(
            Change(), {"a": LabelFacts(brands=("A",)), "none": LabelFacts()}
        ),
        lambda store: store.remove(Change(gallery="none"), [ONE]),
    ],
)
def test_what_is_unknown_fails_the_change_and_changes_nothing(
    store: Gallery, change: Callable[[Gallery], Applied]
) -> None:
    enrol(store, {"one": "a"})
    with pytest.raises((NotFoundError, InvalidRequestError)):
        change(store)
    assert store.snapshot().revision == 1
    assert held(store.snapshot()) == {ONE: "a"}
    assert store.snapshot().facts == {}
    assert store.revisions() == {"default": 1}


def test_facts_of_labels_are_replaced_and_kept_in_the_history(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b"})
    both = LabelFacts(brands=("招商银行",), outputs=("zsyh", "amount"))
    assert store.set_facts(Change(), {"a": both, "b": LabelFacts()}).counts == {"changed": 1}
    assert store.set_facts(Change(), {"a": both}).revision == 2
    assert store.set_facts(Change(), {"a": LabelFacts()}).revision == 3
    assert [dict(store.snapshot(revision=at).facts) for at in (1, 2, 3)] == [{}, {"a": both}, {}]
    assert store.labels("default") == (3, {"a": 1, "b": 1}, {})


def test_rolling_back_makes_a_new_revision_with_the_old_pictures_and_facts(
    store: Gallery,
) -> None:
    enrol(store, {"one": "a", "two": "b"})  # 1
    store.set_facts(Change(), {"a": LabelFacts(brands=("A",))})  # 2
    store.remove(Change(), [ONE])  # 3
    store.relabel(Change(), [TWO], "c")  # 4
    enrol(store, {"three": "c"})  # 5
    store.set_facts(Change(), {"c": LabelFacts(brands=("C",))})  # 6
    applied = store.rollback(Change(author="li"), 2)
    # one came back, two got its label back; three went.
    assert (applied.revision, applied.counts) == (7, {"restored": 2, "removed": 1})
    assert held(store.snapshot()) == {ONE: "a", TWO: "b"}
    assert dict(store.snapshot().facts) == {"a": LabelFacts(brands=("A",))}
    assert store.history("default")[0].kind == "rollback"
    # The revision that was undone is still there, and so can the undoing be undone.
    assert held(store.snapshot(revision=6)) == {TWO: "c", THREE: "c"}
    store.rollback(Change(), 6)
    assert held(store.snapshot()) == {TWO: "c", THREE: "c"}
    assert store.rollback(Change(), 0).counts == {"restored": 0, "removed": 2}
    assert held(store.snapshot()) == {}


# --- repeats and races ------------------------------------------------------------------


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


# --- deleting ---------------------------------------------------------------------------


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


# --- normal forms -----------------------------------------------------------------------

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_two_spellings_of_a_label_are_one_label(store: Gallery) -> None:
    enrol(store, {"one": NFD})
    assert store.snapshot().labels == (NFC,)
    put(store, "one")
    again = store.enrol(Change(), [Entry(image_id=ONE, label=NFD)], BUNDLES)
    assert again.outcomes[0].error is None
    assert [image.label for image in store.images("default", label=NFD)[1]] == [NFC]
    assert store.relabel(Change(), [ONE], NFD).counts == {"relabelled": 0}
    store.set_facts(Change(), {NFD: LabelFacts(brands=(NFD,), outputs=(NFD,))})
    assert dict(store.snapshot().facts) == {NFC: LabelFacts(brands=(NFC,), outputs=(NFC,))}
    with pytest.raises(InvalidRequestError, match="named twice"):
        store.set_facts(Change(), {NFC: LabelFacts(), NFD: LabelFacts()})


def test_two_spellings_of_a_gallery_are_one_gallery(store: Gallery) -> None:
    enrol(store, {"one": "a"}, gallery=NFD)
    enrol(store, {"two": "a"}, gallery=NFC)
    assert store.revisions() == {NFC: 2}
    assert store.snapshot(NFD).revision == 2


def test_what_is_not_set_of_a_label_stays(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.set_facts(Change(), {"a": LabelFacts(brands=("A",), outputs=("x",))})
    store.set_facts(Change(), {"a": LabelUpdate(brands=("B",))})
    assert store.snapshot().facts["a"] == LabelFacts(brands=("B",), outputs=("x",))
    store.set_facts(Change(), {"a": LabelUpdate(outputs=())})
    assert store.snapshot().facts["a"] == LabelFacts(brands=("B",))
    assert store.set_facts(Change(), {"a": LabelUpdate()}).counts == {"changed": 0}


def test_a_source_is_bounded(store: Gallery) -> None:
    put(store, "one")
    with pytest.raises(InvalidRequestError, match="source has 1,025 characters, at most 1,024"):
        store.enrol(Change(), [Entry(image_id=ONE, label="a", source="x" * 1025)], BUNDLES)
    store.enrol(Change(), [Entry(image_id=ONE, label="a", source="x" * 1024)], BUNDLES)


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


# --- reading ----------------------------------------------------------------------------


def test_listing_goes_page_by_page_by_label_and_id_at_one_revision(store: Gallery) -> None:
    names = [f"p{i}" for i in range(7)]
    enrol(store, {name: "ab"[i % 2] for i, name in enumerate(names)})
    everything = sorted((("ab"[i % 2], picture_id(name)) for i, name in enumerate(names)))
    listed: list[tuple[str, str]] = []
    after = ("", "")
    while True:
        at, page = store.images("default", revision=1, after=after, limit=3)
        assert at == 1
        if not page:
            break
        assert len(page) <= 3
        listed += [(image.label, image.image_id) for image in page]
        after = listed[-1]
        # A change in the midst does not disturb the listing of its revision.
        enrol(store, {f"new {len(listed)}": "a"})
    assert listed == everything


def test_a_listing_shows_sizes_and_lines_and_may_keep_to_a_label(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b"})
    at, (image,) = store.images("default", label="b")
    assert at == 1
    assert (image.image_id, image.label, image.text_lines) == (TWO, "b", 2)
    assert (image.width_px, image.height_px, image.source) == (108, 240, "two.png")
    assert store.images("default", label="none") == (1, [])


def test_a_position_that_is_none_is_refused(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    with pytest.raises(InvalidRequestError):
        store.images("default", after=("a", "zz"))


def test_the_history_is_newest_first_and_comes_in_pages(store: Gallery) -> None:
    for i in range(5):
        enrol(store, {f"p{i}": "a"})
    assert [made.revision for made in store.history("default", limit=2)] == [5, 4]
    assert [made.revision for made in store.history("default", before=4)] == [3, 2, 1]
    assert [made.images for made in store.history("default")] == [5, 4, 3, 2, 1]
    assert store.history("default")[4] == Revision(
        revision=1,
        made_at_ms=1000,
        author="mei",
        kind="enrol",
        summary="enrolled 1 of a",
        images=1,
    )


def test_a_long_change_is_summed_up_in_a_line(store: Gallery) -> None:
    enrol(store, {f"p{i}": f"label{i}" for i in range(8)})
    assert store.history("default")[0].summary == (
        "enrolled 8 of label0, label1, label2, label3, label4 and 3 more"
    )


@pytest.mark.parametrize("revision", [-1, 2])
def test_a_revision_that_never_was_is_not_found(store: Gallery, revision: int) -> None:
    enrol(store, {"one": "a"})
    with pytest.raises(NotFoundError, match=f"no revision {revision}"):
        store.snapshot(revision=revision)
    with pytest.raises(NotFoundError):
        store.images("default", revision=revision)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.snapshot("none"),
        lambda store: store.images("none"),
        lambda store: store.labels("none"),
        lambda store: store.history("none"),
        lambda store: store.calibration("none", 1, "seed"),
        lambda store: store.put_calibration("none", 1, "seed", "{}"),
    ],
)
def test_a_gallery_that_never_was_is_not_found(
    store: Gallery, read: Callable[[Gallery], object]
) -> None:
    with pytest.raises(NotFoundError, match="no gallery 'none': enrol a picture to create it"):
        read(store)


def test_calibrations_are_kept_by_revision_and_method(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.put_calibration("default", 1, "seed", "first")
    store.put_calibration("default", 1, "seed", "second")
    store.put_calibration("default", 1, "pagesight", "ours")
    assert store.calibration("default", 1, "seed") == "second"
    assert store.calibration("default", 1, "pagesight") == "ours"
    assert store.calibration("default", 2, "seed") is None


def test_clocks_that_jump_backwards_keep_the_history_in_order(location: StoreLocation) -> None:
    store = Gallery(location, now_ms=iter([5000, -7, 3000]).__next__)
    for name in ("one", "two", "three"):
        enrol(store, {name: "a"})
    history = store.history("default")
    assert [(made.revision, made.made_at_ms) for made in history] == [
        (3, 3000),
        (2, -7),
        (1, 5000),
    ]
    assert held(store.snapshot(revision=2)) == {ONE: "a", TWO: "a"}
    store.close()


# --- the file ---------------------------------------------------------------------------


def test_everything_is_there_after_closing_and_opening(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.close()
    again = Gallery(store.location)
    assert held(again.snapshot()) == {ONE: "a"}
    assert again.image_bytes(ONE) == b"one"
    again.close()


def test_another_connection_sees_a_change_at_once(store: Gallery) -> None:
    other = Gallery(store.location)
    enrol(store, {"one": "a"})
    assert other.revisions() == {"default": 1}
    enrol(other, {"two": "a"})
    assert held(store.snapshot()) == {ONE: "a", TWO: "a"}
    other.close()


def foreign(file: Path) -> None:
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE notes (text)")
    database.execute("INSERT INTO notes VALUES ('mine')")
    database.commit()
    database.close()


def newer(file: Path) -> None:
    Gallery(file).close()
    database = sqlite3.connect(file)
    database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(foreign, "is a database of another program", id="foreign"),
        pytest.param(newer, r"newer pagesight \(schema 99, this one reads \d+\)", id="newer"),
        pytest.param(lambda f: f.write_text("a text, not a database\n" * 99), "not a database"),
        pytest.param(lambda f: f.mkdir(), "unable to open", id="a folder"),
    ],
)
def test_a_file_that_is_no_store_of_ours_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    file = tmp_path / "it.db"
    make(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(SetupError, match=problem):
        Gallery(file)
    if before is not None:
        assert file.read_bytes() == before


def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot open the store .*none/gallery\.db"):
        Gallery(tmp_path / "none" / "gallery.db")


def test_a_full_disk_fails_the_change_and_leaves_the_old_state(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"one": "a"})
    pages = sqlite(store).execute("PRAGMA page_count").fetchone()[0]
    sqlite(store).execute(f"PRAGMA max_page_count = {pages}")

    def enrol_many() -> None:
        for i in range(1000):
            enrol(store, {f"p{i}": "b" * 100})

    def roll_back_many() -> None:
        for i in range(1000):
            store.rollback(Change(author="x" * 250), i % 2)

    with pytest.raises(StorageError, match="unchanged: database or disk is full"):
        enrol_many()
    full_at = store.snapshot().revision
    assert len(store.snapshot().pictures) == full_at
    with pytest.raises(StorageError):
        roll_back_many()
    # Reading goes on, here and elsewhere; with room again, so does writing.
    now = store.snapshot()
    other = Gallery(tmp_path / "gallery.db")
    assert held(other.snapshot()) == held(now)
    other.close()
    sqlite(store).execute("PRAGMA max_page_count = 1000000")
    assert enrol(store, {"last": "z"}).revision == now.revision + 1
    store.close()


ENROL_FOR_EVER = """
import sys
from pagesight_server.gallery import Change, Gallery
from pagesight_server.gallery.location import store_location
from tests.support.stores import enrol
store = Gallery(store_location(sys.argv[1]))
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    applied = enrol(store, {f"{sys.argv[2]} {i}": sys.argv[2]})
    print(applied.revision, i, flush=True)
"""


def writer(location: StoreLocation, name: str, count: int) -> subprocess.Popen[str]:
    """A process that enrols when told to go, and prints each acknowledged revision."""
    return subprocess.Popen(
        [sys.executable, "-c", ENROL_FOR_EVER, str(location), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def test_two_processes_take_turns_and_lose_nothing(location: StoreLocation) -> None:
    writers = [writer(location, name, 25) for name in ("a", "b")]
    for process in writers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=WAIT_S)[0].split("\n")[:-1] for process in writers]
    assert [process.returncode for process in writers] == [0, 0]
    revisions = sorted(int(line.split()[0]) for lines in told for line in lines)
    assert revisions == list(range(1, 51))
    store = Gallery(location)
    assert len(store.snapshot().pictures) == 50
    assert [made.images for made in store.history("default")] == list(range(50, 0, -1))
    store.close()


def killed_midway(location: StoreLocation, rounds: int) -> None:
    """Kills a writing process again and again; what it acknowledged must be there."""
    chance = random.Random(0)
    Gallery(location).close()
    acknowledged: dict[str, int] = {}
    for number in range(rounds):
        process = writer(location, f"r{number}", 10_000)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for line in process.stdout:
            revision, i = map(int, line.split())
            acknowledged[picture_id(f"r{number} {i}")] = revision
            if chance.random() < 0.15:
                process.kill()  # what it had printed before is still read
        process.wait(WAIT_S)
        process.stdin.close()
        process.stdout.close()
        store = Gallery(location)
        added = {p.image_id: p.added_revision for p in store.snapshot().pictures}
        history = store.history("default", limit=100_000)
        store.close()
        assert acknowledged.items() <= added.items()
        # At most the last, killed between its commit and its acknowledgement, is there untold.
        assert len(added) - len(acknowledged) <= number + 1
        assert [made.revision for made in history] == list(range(len(history), 0, -1))
        assert history[0].images == len(history) == len(added)
    with closing(Gallery(location)) as store:
        assert backup.check(store) == []


def test_a_killed_process_loses_nothing_that_was_acknowledged(location: StoreLocation) -> None:
    killed_midway(location, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_killed_processes_lose_nothing_that_was_acknowledged(
    location: StoreLocation,
) -> None:
    killed_midway(location, 100)


OPEN = """
import sys
from pathlib import Path
from pagesight_server.gallery import Gallery
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    Gallery(Path(f"{sys.argv[1]}/{i}.db")).close()
"""


def test_a_change_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    # No test can cut the power: https://sqlite.org/pragma.html says what these two mean.
    assert sqlite(store).execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert sqlite(store).execute("PRAGMA synchronous").fetchone()[0] == 2
    store.close()


def test_a_change_is_on_the_disk_whatever_the_default_of_a_database_is(
    postgres_url: PostgresUrl,
) -> None:
    lazy = PostgresUrl(f"{postgres_url}%20-csynchronous_commit%3Doff")
    with closing(Gallery(lazy)) as store, store.database.writing() as db:
        told = db.execute("SELECT current_setting('synchronous_commit') AS it").fetchone()
        assert told["it"] == "on"
    patient = PostgresUrl(f"{postgres_url}%20-csynchronous_commit%3Dremote_apply")
    with closing(Gallery(patient)) as store, store.database.writing() as db:
        told = db.execute("SELECT current_setting('synchronous_commit') AS it").fetchone()
        assert told["it"] == "remote_apply"


def test_whoever_opens_a_store_while_another_makes_it_waits(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "gallery.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(Gallery, tmp_path / "gallery.db")
        with pytest.raises(TimeoutError):
            opening.result(0.2)
        other.execute("ROLLBACK")
        other.close()
        opening.result(WAIT_S).close()


def test_processes_that_make_the_same_store_at_once_wait_for_each_other(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ended = [process.communicate("go\n", timeout=2 * WAIT_S) for process in processes]
    assert [
        (process.returncode, errors) for process, (_, errors) in zip(processes, ended, strict=True)
    ] == [(0, "")] * 3


def test_a_store_may_be_read_and_written_by_many_threads(store: Gallery) -> None:
    def work(number: int) -> int:
        enrol(store, {f"p{number}": "a"})
        snapshot = store.snapshot()
        assert len(snapshot.pictures) == snapshot.revision == len(snapshot.embeddings)
        return snapshot.revision

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(work, range(40))) == 40
