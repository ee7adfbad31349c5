"""Changes of a gallery: what each does, what it refuses, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from pagesight_server.common.errors import (
    BundleMismatchError,
    ImageError,
    InvalidRequestError,
    NotFoundError,
)
from pagesight_server.gallery import Applied, Change, Entry, Gallery, Outcome, Revision
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.snapshot import LabelFacts, LabelUpdate
from tests.support.parts import BUNDLES, OTHER_BUNDLES, held, reading, unit
from tests.support.stores import content, enrol, picture_id, put

ONE, TWO, THREE = (picture_id(name) for name in ("one", "two", "three"))

NOBODY = "00" * 32


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=iter(range(1000, 9000)).__next__)
    yield opened
    opened.close()


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
    assert (first.added_at_ms, first.added_revision) == (1002, 1)  # after the contents
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


def test_a_removed_picture_is_gone_from_the_new_revision_only(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "a"})
    applied = store.remove(Change(author="li"), [ONE, ONE])
    assert (applied.revision, applied.counts) == (2, {"removed": 1})
    assert held(store.snapshot()) == {TWO: "a"}
    assert held(store.snapshot(revision=1)) == {ONE: "a", TWO: "a"}
    assert store.history("default")[0] == Revision(
        revision=2, made_at_ms=1003, author="li", kind="remove", summary="removed 1 of a", images=1
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


def test_longer_names_than_may_be_set_now_are_kept_where_they_are(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b"})  # 1
    both = LabelFacts(brands=("A",))
    store.set_facts(Change(), {"a": both, "b": both})  # 2
    with store.database.writing() as db:  # as an earlier version took it
        db.execute("UPDATE facts SET brands = :brands", {"brands": json.dumps(["x" * 129])})
    longer = LabelFacts(brands=("x" * 129,))
    store.set_facts(Change(), {"a": LabelUpdate(outputs=("y",))})  # 3
    assert store.snapshot().facts == {"a": replace(longer, outputs=("y",)), "b": longer}
    store.rollback(Change(), 2)
    assert store.snapshot().facts == {"a": longer, "b": longer}


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
