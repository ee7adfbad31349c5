"""What is known after changes, one upon the other, is what is known when all is read anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.gallery.snapshot import LabelFacts, Snapshot
from pagesight_server.recognition import templates
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.templates import Templates
from tests.support.parts import image_id, reading, snapshot, unit

Page = tuple[str, tuple[str, ...]]
"""Label and lines of text."""

ALL_SAME = Calibration(
    epsilon=0.05,
    pictures=1,
    guaranteed=True,
    threshold_with_text=0.5,
    threshold_without_text=0.5,
)

TEXTS = (
    "姓名",
    "可用额度",
    "可用额庹",
    "满月借由三湘银行提供",
    "满月借由云帆银行提供",
    "还款",
    "abc",
)
pages = st.tuples(
    st.sampled_from(["a", "b", "c", "other_x"]),
    st.lists(st.sampled_from(TEXTS), max_size=6).map(tuple),
)
galleries = st.dictionaries(st.integers(0, 30), pages, min_size=1, max_size=25)
facts = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["满月借", "三湘"]))


def gallery(held: Mapping[int, Page], brands: Mapping[str, str]) -> Snapshot:
    """Pictures by number, which also says where they look."""
    ordered = sorted(held.items(), key=lambda item: (item[1][0], item[0]))
    made = snapshot(
        *((label, direction(number), texts) for number, (label, texts) in ordered),
        facts={label: LabelFacts(brands=(brand,)) for label, brand in brands.items()},
    )
    return replace(
        made,
        pictures=tuple(
            replace(picture, image_id=image_id(number))
            for picture, (number, _) in zip(made.pictures, ordered, strict=True)
        ),
    )


def direction(number: int) -> tuple[float, float, float]:
    return (1 + number % 7, 1 + number % 5, 1 + number % 3)


def all_candidates(known: Knowledge) -> list[tuple[Candidate, ...]]:
    """Candidates for some queries, and for every picture left out: all to the last bit."""
    method = known.method
    queries = [
        Query(embedding=unit(1, 2, 3), reading=reading(*TEXTS[:4])),
        Query(embedding=unit(3, 2, 1), reading=reading("满月借由九州银行提供", "还款")),
    ]
    candidates = [method.weigh(query, method.search(query.embedding)) for query in queries]
    for row, picture in enumerate(known.snapshot.pictures):
        query = Query(embedding=known.snapshot.embeddings[row], reading=picture.reading)
        hits = method.search(query.embedding, without=row)
        candidates.append(method.weigh(query, hits, without=row))
    return candidates


@given(
    steps=st.lists(st.tuples(galleries, facts), min_size=2, max_size=4),
    texts_per_label=st.sampled_from([2, 5, 64]),
)
def test_changes_lead_to_the_same_bits_as_reading_all_anew(
    steps: list[tuple[dict[int, Page], dict[str, str]]], texts_per_label: int
) -> None:
    def at(held: dict[int, Page], brands: dict[str, str]) -> Snapshot:
        return replace(gallery(held, brands), texts_per_label=texts_per_label)

    known = Knowledge.of(at(*steps[0]), calibration=ALL_SAME)
    for held, brands in steps[1:]:
        now = at(held, brands)
        known = Knowledge.of(now, calibration=ALL_SAME, before=known)
        assert known.settled
        assert all_candidates(known) == all_candidates(Knowledge.of(now, calibration=ALL_SAME))


@given(held=galleries, brands=facts)
def test_labels_with_no_more_pictures_than_the_sample_are_answered_to_the_same_bits(
    held: dict[int, Page], brands: dict[str, str]
) -> None:
    whole = gallery(held, brands)
    most = max(whole.sample.counts.values())
    sampled = Knowledge.of(replace(whole, texts_per_label=most))
    read_whole = Knowledge.of(replace(whole, texts_per_label=None))
    assert sampled.calibration == read_whole.calibration
    assert all_candidates(sampled) == all_candidates(read_whole)


def test_a_metric_of_an_earlier_revision_serves_until_it_is_learnt_anew() -> None:
    held: dict[int, Page] = {n: ("ab"[n % 2], TEXTS[: n % 4]) for n in range(24)}
    before = Knowledge.of(gallery(held, {}), calibration=ALL_SAME)
    now = gallery({**held, 24: ("c", ("还款",))}, {})
    quick = Knowledge.of(now, calibration=ALL_SAME, before=before, refit=False)
    whole = Knowledge.of(now, calibration=ALL_SAME)
    assert not quick.settled
    assert all_candidates(quick) != all_candidates(whole)
    query = Query(embedding=unit(*direction(24)), reading=reading("还款"))
    best = quick.method.weigh(query, quick.method.search(query.embedding))[0]
    assert best.label == "c"
    again = Knowledge.of(now, calibration=ALL_SAME, before=quick)
    assert again.settled
    assert all_candidates(again) == all_candidates(whole)


def test_a_label_costs_no_more_than_its_sample() -> None:
    held: dict[int, Page] = {n: ("a", (f"第{chr(0x4E00 + n)}行文字",)) for n in range(8)}
    few = replace(gallery(held, {}), texts_per_label=8)
    held[8] = ("a", ("还款",))  # Its id comes last, and all were enrolled at once.
    many = replace(gallery(held, {}), texts_per_label=8)
    query = reading("还款")
    assert Templates(few).weigh(query).explained.tolist() == [0.0]
    assert Templates(many).weigh(query).explained.tolist() == [0.0]
    # A picture that is not counted can be left out as well.
    assert Templates(many).weigh(query, without=8).explained.tolist() == [0.0]
    # Had it been enrolled later it would count at once.
    *older, last = many.pictures
    later = replace(many, pictures=(*older, replace(last, added_revision=2)))
    assert Templates(later).weigh(query).explained.tolist() == [1.0]


def test_ids_of_strings_that_are_gone_are_given_out_anew() -> None:
    known = Templates(gallery({0: ("a", ("还款",))}, {}))
    sizes = []
    for n in range(20):
        held: dict[int, Page] = {0: ("a", ("还款",)), 1: ("a", (f"第{chr(0x4E00 + n)}行",))}
        known = Templates(gallery(held, {}), known)
        sizes.append(known.id_count)
        assert known.weigh(reading("还款")).explained.tolist() == [1.0]
    assert max(sizes) <= templates.MAX_IDS_A_STRING * 2 + 1


def test_what_is_not_text_is_no_line() -> None:
    known = Knowledge.of(gallery({0: ("a", ("***", "#"))}, {}), calibration=ALL_SAME)
    candidates = known.method.weigh(
        Query(embedding=unit(1, 1, 1), reading=reading("***")),
        known.method.search(np.asarray(unit(1, 1, 1))),
    )
    assert [c.label for c in candidates] == ["a"]
