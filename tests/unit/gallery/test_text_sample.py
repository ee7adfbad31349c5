"""Which pictures of a label speak for its text, and that no other texts are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.gallery import Change, Gallery
from pagesight_server.gallery import queries as store_queries
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.gallery.text_sample import TextSample
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from tests.support.parts import image_id, reading, snapshot, unit
from tests.support.stores import enrol, picture_id
from tests.unit.gallery.test_digests import flip, of

MOST = 8
"""Pictures of a sample: two of them the newest."""


@dataclass(frozen=True)
class Dated:
    """A labelled picture, as far as a sample is drawn by it."""

    image_id: str
    label: str
    added_revision: int


def pictures(revisions: Sequence[int], label: str = "a") -> list[Dated]:
    return [Dated(image_id(i), label, revision) for i, revision in enumerate(revisions)]


def test_a_label_with_few_pictures_is_read_whole() -> None:
    sample = TextSample(pictures([1] * MOST), MOST)
    assert dict(sample) == {"a": tuple(range(MOST))}
    assert sample.is_whole
    assert dict(TextSample(pictures([1] * 100), None)) == {"a": tuple(range(100))}


def test_of_many_pictures_the_newest_count_and_those_whose_ids_come_first() -> None:
    sample = TextSample(pictures([1] * 9 + [3, 1, 2, 1]), MOST)
    assert dict(sample) == {"a": (0, 1, 2, 3, 4, 5, 9, 11)}
    assert not sample.is_whole
    assert sample.counts == {"a": 13}


def test_of_pictures_that_are_equally_new_those_count_whose_ids_come_first() -> None:
    assert TextSample(pictures([1] * 20), MOST)["a"] == tuple(range(MOST))


def test_labels_come_in_order_and_rows_are_those_of_the_gallery() -> None:
    both = pictures([1] * 10, "a") + pictures([1] * 9 + [2], "b")
    sample = TextSample(both, MOST)
    assert dict(sample) == {"a": tuple(range(8)), "b": (*range(10, 17), 19)}
    assert sample.first(2) == {"a": (0, 1), "b": (10, 11)}


@given(
    revisions=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    place=st.integers(0, 30),
    most=st.integers(4, 12),
)
def test_a_picture_that_joins_brings_none_into_the_sample_but_itself(
    revisions: list[int], place: int, most: int
) -> None:
    old = [Dated(image_id(2 * i), "a", revision) for i, revision in enumerate(revisions)]
    new = Dated(image_id(2 * place + 1), "a", max(revisions) + 1)
    both = sorted([*old, new], key=lambda one: one.image_id)
    before = {old[row].image_id for row in TextSample(old, most)["a"]}
    sample = TextSample(both, most)
    after = {both[row].image_id for row in sample["a"]}
    assert new.image_id in after
    assert after - before == {new.image_id}
    assert len(after) == min(most, len(both))
    # What is known of the label before must not be asked again where it did not change.
    assert dict(TextSample(both, most, before=sample)) == dict(sample)


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    with closing(Gallery(location, texts_per_label=MOST)) as opened:
        yield opened


def held(taken: Snapshot) -> set[str]:
    """The pictures whose text is held."""
    return {picture.image_id for picture in taken.pictures if picture.reading is not None}


def test_a_start_reads_no_text_that_nobody_asks_for(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(store, {f"old {i}": "a" for i in range(12)} | {f"few {i}": "b" for i in range(3)})
    enrol(store, {f"new {i}": "a" for i in range(2)})
    parsed: list[str] = []
    from_json = Reading.from_json

    def parse(data: str) -> Reading:
        parsed.append(data)
        return from_json(data)

    monkeypatch.setattr(Reading, "from_json", staticmethod(parse))
    taken = store.snapshot()
    assert len(taken.pictures) == 17
    assert len(parsed) == MOST + 3
    first = sorted(picture_id(f"old {i}") for i in range(12))[: MOST - 2]
    newest = {picture_id(f"new {i}") for i in range(2)}
    few = {picture_id(f"few {i}") for i in range(3)}
    assert held(taken) == {*first, *newest, *few}
    # Asked for, they are read, those alone that are not held.
    rows = range(len(taken.pictures))
    assert taken.readings(rows) == [reading("额度", "首页")] * 17
    assert len(parsed) == 17


def test_a_store_that_is_asked_for_all_texts_reads_all(location: StoreLocation) -> None:
    with closing(Gallery(location, texts_per_label=None)) as opened:
        enrol(opened, {f"old {i}": "a" for i in range(70)})
        assert len(held(opened.snapshot())) == 70


def test_a_statement_for_each_part_reads_them_all(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queries, "TEXTS_AT_A_TIME", 3)
    enrol(store, {f"old {i}": "a" for i in range(7)})
    assert len(held(store.snapshot())) == 7


def test_a_text_that_has_changed_on_the_disk_gives_its_place_to_another(store: Gallery) -> None:
    enrol(store, {f"old {i}": "a" for i in range(12)})
    ids = sorted(picture_id(f"old {i}") for i in range(12))
    flip(store, "readings", "reading", of(ids[0]), seed=1)
    flip(store, "readings", "reading", of(ids[-1]), seed=1)
    taken = store.snapshot()
    assert taken.damaged == {ids[0]}
    assert held(taken) == set(ids[1 : MOST + 1])
    assert len(taken.pictures) == len(taken.embeddings[:]) == 11
    # Nothing is learnt from the other, so it is found by its looks; of its text nobody knows.
    assert taken.reading(10) is None
    after = store.remove(Change(), ids[1:3])
    changes = store.changes("default", taken.revision)
    assert changes is not None
    followed = store.snapshot(rounded=True, revision=1).after(changes)
    whole = store.snapshot()
    assert (followed.revision, followed.pictures) == (after.revision, whole.pictures)
    assert followed.damaged == whole.damaged == {ids[0]}


def test_when_the_sample_runs_out_what_cannot_be_read_is_left_out(store: Gallery) -> None:
    enrol(store, {f"old {i}": "a" for i in range(9)})
    ids = sorted(picture_id(f"old {i}") for i in range(9))
    flip(store, "readings", "reading", of(ids[-1]), seed=1)
    before = store.snapshot(rounded=True)
    assert before.damaged == frozenset()
    store.remove(Change(), ids[:1])
    changes = store.changes("default", before.revision)
    assert changes is not None
    followed, whole = before.after(changes), store.snapshot()
    assert followed.damaged == whole.damaged == {ids[-1]}
    assert followed.pictures == whole.pictures
    assert len(followed.embeddings[:]) == len(whole.embeddings[:]) == 7


class Recorded:
    """Remembers which texts were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, image_ids: Sequence[str]) -> Mapping[str, Reading]:
        self.asked += image_ids
        return {}


def test_a_picture_without_its_text_is_answered_by_its_looks_and_the_text_of_its_label() -> None:
    texts = Recorded()
    made = snapshot(
        *(("a", (1, 0, n / 100), ["可用额度", "借款"]) for n in range(12)),
        ("b", (0, 1, 0), ["还款记录"]),
        ("b", (0, 1, 0.1), ["还款记录"]),
    )
    capped = replace(
        made,
        pictures=tuple(
            replace(one, reading=None) if MOST <= row < 12 else one
            for row, one in enumerate(made.pictures)
        ),
        texts_per_label=MOST,
        read_texts=texts,
    )
    method = Knowledge.of(capped).method
    looks = unit(1, 0, 0.11)  # Those of a picture whose text is not held.
    for text in (reading("可用额度", "借款"), None):
        query = Query(embedding=looks, reading=text)
        best = method.weigh(query, method.search(query.embedding))[0]
        assert best.label == "a"
        assert best.row == MOST - 1  # Of the sample, as its text is shown to a person.
        assert best.visual == pytest.approx(1.0, abs=1e-6)
        assert best.textual > 0.9 or text is None
    assert texts.asked == []
