"""Evidence: the published method to the letter, ours, and the lines that match.

RapidFuzz's ratio of two texts is 2 * common / (length + length), where common is
the length of their longest common subsequence; the figures here follow from it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pagesight_server.gallery.snapshot import LabelFacts, Snapshot
from pagesight_server.index.cosines import Hits
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.evidence import PagesightMethod
from pagesight_server.recognition.leave_one_out import leave_one_out
from pagesight_server.recognition.scorers.all_text import text_ratios
from pagesight_server.recognition.seed import SeedMethod
from pagesight_server.text.matching import normalised_line
from tests.support.parts import reading, snapshot, unit

Row = tuple[str, float, float, float]


def weigh(method: SeedMethod | PagesightMethod, query: Query) -> list[Row]:
    return rows(method.weigh(query, method.search(query.embedding)))


def rows(candidates: tuple[Candidate, ...]) -> list[Row]:
    """Label, cosine, text and score of each, to six places."""
    return [
        (c.label, round(c.visual, 6), round(c.textual, 6), round(c.score, 6)) for c in candidates
    ]


def query(*texts: str, read: bool = True) -> Query:
    """A screenshot in direction (1, 0), with these lines."""
    return Query(embedding=unit(1, 0), reading=reading(*texts) if read else None)


# Cosines with the query: 0.8 and 0.6.
TWO = snapshot(("a", (4, 3), ["abcd"]), ("b", (3, 4), ["abcf"]))


def test_seed_weighs_cosine_and_text_6_to_4() -> None:
    # a: 0.6 * 0.8 + 0.4 * (2 * 3 / 8) = 0.48 + 0.30;  b: 0.6 * 0.6 + 0.4 * 1 = 0.36 + 0.40
    assert weigh(SeedMethod(TWO), query("abcf")) == [
        ("a", 0.8, 0.75, 0.78),
        ("b", 0.6, 1.0, 0.76),
    ]


def test_seed_compares_the_lines_joined_by_one_space_and_changes_nothing() -> None:
    gallery = snapshot(("a", (1, 0), ["ab cd"]), ("b", (1, 0), ["AB CD"]))
    # "ab cd" and "AB CD" share the space only: 2 * 1 / 10.
    assert weigh(SeedMethod(gallery), query("ab", "cd")) == [
        ("a", 1.0, 1.0, 1.0),
        ("b", 1.0, 0.2, 0.68),
    ]


@pytest.mark.parametrize(
    ("texts", "theirs"),
    [
        pytest.param([], [], id="both empty"),
        pytest.param(["x"], [], id="gallery empty"),
        pytest.param([], ["x"], id="query empty"),
    ],
)
@pytest.mark.parametrize("method", [SeedMethod, PagesightMethod])
def test_text_counts_nothing_when_either_side_is_empty(
    method: type[SeedMethod | PagesightMethod], texts: list[str], theirs: list[str]
) -> None:
    gallery = snapshot(("a", (4, 3), theirs))
    assert weigh(method(gallery), query(*texts)) == [("a", 0.8, 0.0, 0.48)]


@pytest.mark.parametrize("method", [SeedMethod, PagesightMethod])
def test_without_reading_the_score_is_the_cosine(
    method: type[SeedMethod | PagesightMethod],
) -> None:
    assert weigh(method(TWO), query(read=False)) == [
        ("a", 0.8, 0.0, 0.8),
        ("b", 0.6, 0.0, 0.6),
    ]


def test_seed_looks_at_the_five_nearest_pictures_only() -> None:
    near = [("near", (10, i), [""]) for i in range(5)]
    far = ("far", (10, 5), ["abcd"])
    found = weigh(SeedMethod(snapshot(*near, far)), query("abcd"))
    assert [label for label, *_ in found] == ["near"]
    # With one fewer nearer, its text would have made it the answer.
    found = weigh(SeedMethod(snapshot(*near[1:], far)), query("abcd"))
    assert [label for label, *_ in found] == ["far", "near"]


def test_each_label_is_spoken_for_by_its_best_picture() -> None:
    gallery = snapshot(("a", (4, 3), [""]), ("a", (3, 4), ["abcd"]), ("b", (1, 0), [""]))
    best, second = SeedMethod(gallery).weigh(query("abcd"), SeedMethod(gallery).search(unit(1, 0)))
    # a's second picture: 0.36 + 0.4 = 0.76; its first: 0.48; b: 0.6.
    assert (best.label, best.row) == ("a", 1)
    assert (second.label, second.row) == ("b", 2)


def without_siblings(known: Snapshot) -> PagesightMethod:
    return PagesightMethod(known, without={"siblings"})


@pytest.mark.parametrize("method", [SeedMethod, without_siblings], ids=["seed", "ours"])
@pytest.mark.parametrize("nearer_first", [True, False])
def test_ties_go_to_the_greater_cosine(
    method: Callable[[Snapshot], SeedMethod | PagesightMethod], nearer_first: bool
) -> None:
    # 0.6 * 1.0 + 0.4 * (2 * 1 / 8) = 0.7 = 0.6 * 0.5 + 0.4 * 1
    pictures = [("near", (1, 0), ["axyz"]), ("far", (1, 0), ["abcd"])]
    hits = Hits(np.array([0, 1]), np.array([1.0, 0.5], np.float32))
    if not nearer_first:
        pictures.reverse()
        hits = Hits(np.array([1, 0]), hits.cosines)
    candidates = method(snapshot(*pictures)).weigh(query("abcd"), hits)
    assert [c.score for c in candidates] == [0.7, 0.7]
    assert [c.label for c in candidates] == ["near", "far"]


def test_seed_does_not_search_examples_of_unknown_pages() -> None:
    gallery = snapshot(("other_x", (1, 0), ["abcd"]), ("a", (3, 4), [""]), ("other", (1, 0), []))
    assert [label for label, *_ in weigh(SeedMethod(gallery), query("abcd"))] == ["a"]


def test_ours_searches_examples_of_unknown_pages() -> None:
    gallery = snapshot(("other_x", (1, 0), ["abcd"]), ("a", (3, 4), [""]))
    assert [label for label, *_ in weigh(PagesightMethod(gallery), query("abcd"))] == [
        "other_x",
        "a",
    ]


def test_many_examples_of_unknown_pages_crowd_out_no_known_page() -> None:
    examples = [("other", (1, 0), [""]) for _ in range(PagesightMethod.K + 10)]
    gallery = snapshot(*examples, ("a", (3, 4), [""]))
    found = weigh(PagesightMethod(gallery), query())
    assert [label for label, *_ in found] == ["other", "a"]


def crowded(label: str, crowd: str) -> tuple[PagesightMethod, int]:
    """One page that reads like the query, its row, and too many that look like it to search all."""
    near = [(crowd, (10, i % 7), ["xyz"]) for i in range(PagesightMethod.K + 10)]
    return PagesightMethod(snapshot(*near, (label, (0, 1), ["abcd", "efgh"]))), len(near)


def test_a_page_that_looks_like_many_others_is_found_by_its_words() -> None:
    known, row = crowded("far", "near")
    asked = query("abcd", "efgh")
    hits = known.search(asked.embedding)
    assert row not in hits.rows
    assert [c.row for c in known.weigh(asked, hits) if c.textual > 0.999] == [row]


def test_a_picture_that_is_left_out_is_not_found_by_its_words() -> None:
    known, row = crowded("far", "near")
    asked = query("abcd", "efgh")
    found = known.weigh(asked, known.search(asked.embedding, without=row), without=row)
    assert [c.label for c in found] == ["near"]


def test_an_example_of_an_unknown_page_is_found_by_its_words() -> None:
    known, row = crowded("other_far", "other_near")
    asked = query("abcd", "efgh")
    assert row in [c.row for c in known.weigh(asked, known.search(asked.embedding))]


def test_the_hits_of_known_and_unknown_pages_come_nearest_first() -> None:
    gallery = snapshot(("other", (4, 3), []), ("a", (3, 4), []), ("b", (1, 0), []))
    hits = PagesightMethod(gallery).search(unit(1, 0))
    assert hits.rows.tolist() == [2, 0, 1]
    assert hits.cosines.tolist() == pytest.approx([1.0, 0.8, 0.6])


@pytest.mark.parametrize("method", [SeedMethod, PagesightMethod])
def test_a_picture_can_be_left_out(method: type[SeedMethod | PagesightMethod]) -> None:
    assert method(TWO).search(unit(1, 0), without=0).rows.tolist() == [1]


@pytest.mark.parametrize("method", [SeedMethod, PagesightMethod])
def test_several_at_once_are_searched_as_one_by_one(
    method: type[SeedMethod | PagesightMethod],
) -> None:
    gallery = snapshot(
        ("a", (4, 3), []), ("a", (1, 0), []), ("b", (3, 4), []), ("other", (1, 1), [])
    )
    embeddings, without = np.stack([unit(1, 0), unit(0, 1), unit(3, 4)]), np.array([1, 0, 2])
    together = method(gallery).search_many(embeddings, without=without)
    for embedding, row, hits in zip(embeddings, without.tolist(), together, strict=True):
        alone = method(gallery).search(embedding, without=row)
        assert hits.rows.tolist() == alone.rows.tolist()
        assert hits.cosines.tolist() == alone.cosines.tolist()
        assert row not in hits.rows.tolist()


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_pictures_left_out_in_parts_have_the_candidates_of_each_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = snapshot(("a", (4, 3), ["abcd"]), ("a", (1, 0), ["abce"]), ("b", (3, 4), ["abcf"]))
    method = PagesightMethod(gallery)
    monkeypatch.setattr("pagesight_server.recognition.leave_one_out.AT_ONCE", at_once)
    for row, asked, candidates in leave_one_out(method, gallery, [2, 0, 1], with_text=True):
        assert asked.reading == gallery.reading(row)
        hits = method.search(asked.embedding, without=row)
        assert candidates == method.weigh(asked, hits, without=row)
        assert row not in [candidate.row for candidate in candidates]
    rows_in_order = leave_one_out(method, gallery, iter([2, 0, 1]), with_text=False)
    assert [row for row, _, _ in rows_in_order] == [2, 0, 1]


@pytest.mark.parametrize("method", [SeedMethod, PagesightMethod])
def test_an_empty_gallery_has_no_candidates(method: type[SeedMethod | PagesightMethod]) -> None:
    empty: Snapshot = snapshot()
    assert weigh(method(empty), query("abcd")) == []


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("可用额度 12,800.00 元", "可用额度#,#.#元"),
        ("ＡＢＣ　１２", "abc#"),
        ("138****5678", "#"),
        ("卡号 **** 1234", "卡号#"),
        ("Ｓｉｇｎ In", "signin"),
        ("", ""),
    ],
)
def test_what_varies_between_pictures_of_a_page_is_normalised(text: str, normalised: str) -> None:
    assert normalised_line(text) == normalised


def test_ours_reads_amounts_as_alike() -> None:
    gallery = snapshot(("a", (1, 0), ["余额 12"]))
    assert weigh(PagesightMethod(gallery), query("余额 98765")) == [("a", 1.0, 1.0, 1.0)]


def test_the_weight_of_the_picture_can_be_swept_in_the_published_method() -> None:
    # With 0.25: a 0.25 * 0.8 + 0.75 * 0.75 = 0.7625;  b 0.25 * 0.6 + 0.75 * 1 = 0.90
    assert weigh(SeedMethod(TWO, visual_weight=0.25), query("abcf")) == [
        ("b", 0.6, 1.0, 0.9),
        ("a", 0.8, 0.75, 0.7625),
    ]


def test_without_the_picture_text_alone_decides() -> None:
    # Single pictures: nothing to learn agreement from, so the templates count nothing.
    assert weigh(PagesightMethod(TWO, without={"looks"}), query("abcf")) == [
        ("b", 0.6, 1.0, 1.0),
        ("a", 0.8, 0.75, 0.75),
    ]


def test_without_every_text_the_picture_alone_decides() -> None:
    found = PagesightMethod(
        TWO, without={"all_text", "stable_text", "discriminative_text", "explained_text"}
    )
    assert [label for label, *_ in weigh(found, query("abcf"))] == ["a", "b"]


def test_without_examples_of_unknown_pages_none_is_searched() -> None:
    gallery = snapshot(("a", (1, 0), []), ("other", (1, 0), []))
    assert [row[0] for row in weigh(PagesightMethod(gallery), query())] == ["a", "other"]
    assert [
        row[0] for row in weigh(PagesightMethod(gallery, without={"unknown_example"}), query())
    ] == ["a"]


def test_a_near_tie_is_turned_round_by_the_words_in_which_two_labels_differ() -> None:
    # Scores as in the tie above, but "far" shows what the query shows and "near" does not: the
    # rates are (1 + 0.5) / 2 and (0 + 0.5) / 2, so ln(3) nats at 0.03 each.
    pictures = snapshot(("near", (1, 0), ["axyz"]), ("far", (1, 0), ["abcd"]))
    method = PagesightMethod(pictures)
    hits = Hits(np.array([0, 1]), np.array([1.0, 0.5], np.float32))
    first, second = method.weigh(query("abcd"), hits)
    assert (first.label, second.label) == ("far", "near")
    assert first.rank_score == pytest.approx(0.7 + 0.03 * np.log(3))
    assert first.score == pytest.approx(0.7)
    assert method.differences(query("abcd"), "far", "near") == (
        "words that tell far from near: 'abcd' (75% to 25%)",
    )


def test_a_missing_brand_lowers_what_is_accepted_more_than_the_rank() -> None:
    known = snapshot(
        ("a", (1, 0), ["放心借", "额度"]),
        ("b", (0, 1), ["设置"]),
        facts={"a": LabelFacts(brands=("放心借",))},
    )
    best = PagesightMethod(known).weigh(query("额度"), Hits(np.array([0]), np.array([1.0])))[0]
    # One picture, which shows it: -ln(0.5 / 2) nats.
    cost = 0.05 * np.log(4)
    likeness = best.without_terms(("missing_brand", "replaced_names"))
    assert best.score == pytest.approx(likeness.score - cost)
    assert best.rank_score == pytest.approx(likeness.rank_score - 0.1 * cost)


def test_the_terms_add_up_to_both_scores_and_name_each_kind_of_evidence_once() -> None:
    known = snapshot(
        ("a", (1, 0), ["放心借", "额度"]),
        ("b", (0, 1), ["设置"]),
        facts={"a": LabelFacts(brands=("放心借",))},
    )
    best = PagesightMethod(known).weigh(query("额度"), Hits(np.array([0]), np.array([1.0])))[0]
    assert [term.name for term in best.terms] == [
        "looks",
        "all_text",
        "stable_text",
        "discriminative_text",
        "explained_text",
        "missing_brand",
        "replaced_names",
    ]
    assert best.score == sum(term.score for term in best.terms)
    assert best.rank_score == sum(term.rank_score for term in best.terms)


def test_no_text_is_like_no_other_and_none_is_like_it() -> None:
    assert text_ratios("abcd", ["abcd", "", "abxy"]).tolist() == [1.0, 0.0, 0.5]
    assert text_ratios("", ["abcd", ""]).tolist() == [0.0, 0.0]
    assert text_ratios("abcd", []).tolist() == []
