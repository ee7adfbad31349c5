"""Which page an answer names, how doubtful it is, and the reasons it gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.gallery.snapshot import is_reserved
from pagesight_server.recognition.calibration import (
    Calibration,
)
from pagesight_server.recognition.candidates import Candidate, Query, Term
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.explanation import explain
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import answer_score
from tests.support.parts import reading, snapshot, unit

HALF = Calibration(
    epsilon=0.05,
    pictures=100,
    guaranteed=True,
    threshold_with_text=0.5,
    threshold_without_text=0.25,
)


def candidate(label: str, score: float, *, missing: float = 0.0) -> Candidate:
    return Candidate(
        label=label,
        row=0,
        visual=score,
        textual=0.0,
        names=NameEvidence(missing_nats=missing),
        terms=(Term("looks", score, score), Term("missing_brand", -missing / 10, 0.0)),
    )


def asked(knowledge: Knowledge, query: Query) -> Decision:
    hits = knowledge.method.search(query.embedding)
    return decide(
        knowledge.method.weigh(query, hits),
        knowledge.calibration,
        with_text=query.reading is not None,
    )


@pytest.mark.parametrize(
    ("score", "with_text", "label"),
    [
        pytest.param(0.5, True, "login", id="at the threshold: accepted"),
        pytest.param(math.nextafter(0.5, 0), True, "other", id="just below: rejected"),
        pytest.param(0.3, False, "login", id="without text another threshold holds"),
        pytest.param(0.2, False, "other", id="below that"),
    ],
)
def test_a_page_is_accepted_from_the_threshold_on(
    score: float, with_text: bool, label: str
) -> None:
    decision = decide([candidate("login", score)], HALF, with_text=with_text)
    assert decision.label == label
    assert decision.closest_label == "login"
    assert decision.score == score
    assert decision.threshold == (0.5 if with_text else 0.25)


def test_the_candidates_are_the_known_pages_best_first() -> None:
    found = [candidate("a", 0.9), candidate("other_x", 0.8), candidate("b", 0.7)]
    decision = decide(found, HALF, with_text=True)
    assert [c.label for c in decision.candidates] == ["a", "b"]
    assert decision.against == found[1]
    assert decision.label == "a"


@pytest.mark.parametrize(
    ("known", "example", "score"),
    [
        pytest.param(0.9, 0.95, 0.5, id="however well the known page fits"),
        pytest.param(0.6, 0.9, 0.3, id="its lead of 0.3 counts against the page"),
    ],
)
def test_an_example_of_an_unknown_page_that_fits_better_forbids_the_answer(
    known: float, example: float, score: float
) -> None:
    found = [candidate("other", example), candidate("login", known)]
    decision = decide(found, HALF, with_text=True)
    assert decision.label == "other"
    assert decision.closest_label == "login"
    assert decision.score == pytest.approx(score)
    assert decision.score < decision.threshold


def test_an_example_that_fits_equally_well_does_not_forbid() -> None:
    found = [candidate("login", 0.9), candidate("other", 0.9)]
    assert decide(found, HALF, with_text=True).label == "login"


@pytest.mark.parametrize("found", [[], [candidate("other", 0.99)]])
def test_a_gallery_that_knows_no_page_answers_other(found: list[Candidate]) -> None:
    decision = decide(found, HALF, with_text=True)
    assert (decision.label, decision.closest_label) == ("other", "")
    assert (decision.score, decision.threshold) == (-1.0, 0.0)
    assert decision.candidates == ()


labelled = st.tuples(
    st.sampled_from(["a", "b", "other", "other_x"]), st.floats(-1, 1, allow_nan=False)
)


@given(
    st.lists(labelled, max_size=6, unique_by=lambda pair: pair[0]),
    st.floats(-1, 1, allow_nan=False),
)
def test_the_label_is_the_closest_exactly_when_the_score_reaches_the_threshold(
    pairs: list[tuple[str, float]], threshold: float
) -> None:
    found = sorted((candidate(*pair) for pair in pairs), key=lambda c: -c.score)
    calibration = Calibration(
        epsilon=0.1,
        pictures=9,
        guaranteed=False,
        threshold_with_text=threshold,
        threshold_without_text=9.0,
    )
    decision = decide(found, calibration, with_text=True)
    assert (decision.score >= decision.threshold) == (decision.label != "other")
    if decision.label != "other":
        assert decision.label == decision.closest_label
    assert not is_reserved(decision.closest_label)
    assert decision.score <= answer_score(found)


def test_an_empty_gallery_answers_other_and_says_why() -> None:
    knowledge = Knowledge.of(snapshot())
    query = Query(embedding=unit(1, 0), reading=None)
    decision = asked(knowledge, query)
    assert decision.label == "other"
    assert explain(knowledge, query, decision).reasons == ("the gallery knows no page yet",)


def test_the_reasons_name_what_decided() -> None:
    knowledge = Knowledge.of(
        snapshot(("a", (4, 3), ["abcd", "首页"]), ("b", (0, 1), ["abcd"])), calibration=HALF
    )
    query = Query(embedding=unit(1, 0), reading=reading("abcd", "wxyz"))
    # abcd wxyz and abcd 首页 share "abcd ": 2 * 5 / 16 = 0.625; 0.6 * 0.8 + 0.4 * 0.625 = 0.73.
    # abcd wxyz and abcd share "abcd": 2 * 4 / 13 = 0.615; 0.4 * 0.615 = 0.246.
    assert explain(knowledge, query, asked(knowledge, query)).reasons == (
        "closest to a (000000000000): score 0.730, accepted at 0.500",
        "looks alike 0.800, reads alike 0.625",
        "score 0.730 = looks 0.480 + all text 0.250",
        "1 of 2 lines are on that picture too",
        "runner-up b: score 0.246",
    )


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (
            Query(embedding=unit(1, 0), reading=None),
            "text was not read: pages that differ in words alone look the same",
        ),
        (Query(embedding=unit(1, 0), reading=reading()), "the screenshot shows no text"),
    ],
)
def test_the_reasons_say_when_there_was_no_text(query: Query, reason: str) -> None:
    knowledge = Knowledge.of(snapshot(("a", (1, 0), ["abcd"])), calibration=HALF)
    assert reason in explain(knowledge, query, asked(knowledge, query)).reasons


def test_the_reasons_name_the_example_that_forbade_the_answer() -> None:
    knowledge = Knowledge.of(
        snapshot(("a", (3, 4), []), ("other_ads", (4, 3), [])), calibration=HALF
    )
    query = Query(embedding=unit(1, 0), reading=None)
    decision = asked(knowledge, query)
    assert decision.label == "other"
    reasons = explain(knowledge, query, decision).reasons
    assert "rejected at 0.250" in reasons[0]
    assert "more like an example of other_ads: score 0.800" in reasons


@pytest.mark.parametrize("guaranteed", [True, False])
def test_the_reasons_say_when_the_threshold_is_an_estimate(guaranteed: bool) -> None:
    calibration = replace(HALF, guaranteed=guaranteed)
    knowledge = Knowledge.of(snapshot(("a", (1, 0), [])), calibration=calibration)
    query = Query(embedding=unit(1, 0), reading=None)
    reasons = explain(knowledge, query, asked(knowledge, query)).reasons
    told = any("threshold estimated" in reason for reason in reasons)
    assert told is not guaranteed


@pytest.mark.parametrize(
    ("candidates", "review"),
    [
        pytest.param([candidate("a", 0.9), candidate("b", 0.7)], False, id="a clear lead"),
        pytest.param([candidate("a", 0.9), candidate("b", 0.88)], True, id="a small lead"),
        pytest.param(
            [candidate("a", 0.52), candidate("b", 0.49)], False, id="a rejected runner-up is none"
        ),
        pytest.param([candidate("a", 0.9, missing=2.0)], True, id="a name that is missing"),
        pytest.param([candidate("a", 0.9, missing=0.5)], False, id="a name that often is"),
        pytest.param([candidate("a", 0.6, missing=2.0)], False, id="a rejection needs none"),
    ],
)
def test_an_answer_that_could_be_another_asks_for_review(
    candidates: list[Candidate], review: bool
) -> None:
    # All but one of 26 left-out pictures led by 0.05 or more: a smaller lead is more doubtful.
    calibration = replace(HALF, leads=(0.01, *[0.05] * 25))
    assert decide(candidates, calibration, with_text=True).review is review


SCORED = replace(
    HALF,
    scores_with_text=(0.4, 0.6, 0.7, 0.8, 0.9),
    unknown_scores_with_text=(0.1, 0.2, 0.3, 0.4),
)


@pytest.mark.parametrize(
    ("score", "doubt"),
    [
        pytest.param(0.95, 0.0, id="no left-out picture scored higher"),
        pytest.param(0.65, 0.6, id="three of five did"),
        pytest.param(0.5, 0.8, id="at the threshold, all that were accepted"),
        pytest.param(0.35, 0.75, id="rejected: three of four unknown pages scored lower"),
        pytest.param(0.05, 0.0, id="rejected as clearly as none of them"),
    ],
)
def test_doubt_is_the_share_of_the_calibration_set_that_was_farther_from_the_other_answer(
    score: float, doubt: float
) -> None:
    assert decide([candidate("a", score)], SCORED, with_text=True).doubt == pytest.approx(doubt)


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        pytest.param([candidate("a", 0.55)], ("near_threshold",), id="hardly accepted"),
        pytest.param([candidate("a", 0.75)], (), id="well accepted"),
        pytest.param(
            [candidate("a", 0.95, missing=2.0), candidate("b", 0.90)],
            ("close_runner_up", "brand_not_visible"),
            id="two reasons at once",
        ),
    ],
)
def test_an_answer_says_why_it_asks_for_review(
    found: list[Candidate], reasons: tuple[str, ...]
) -> None:
    calibration = replace(SCORED, leads=(0.2, 0.3))
    decision = decide(found, calibration, with_text=True, review_above=0.7)
    assert decision.review_reasons == reasons
    assert decision.review == bool(reasons)


@given(
    st.lists(labelled, min_size=1, max_size=6, unique_by=lambda pair: pair[0]),
    st.floats(-1, 1, allow_nan=False),
)
def test_the_reply_and_its_first_candidate_have_one_score_and_doubt_is_a_share(
    pairs: list[tuple[str, float]], threshold: float
) -> None:
    found = sorted((candidate(*pair) for pair in pairs), key=lambda c: -c.rank_score)
    decision = decide(found, replace(SCORED, threshold_with_text=threshold), with_text=True)
    assert 0.0 <= decision.doubt <= 1.0
    if decision.candidates:
        best = decision.candidates[0]
        assert decision.score == best.score == sum(term.score for term in best.terms)


def test_what_looks_like_no_picture_of_its_page_asks_for_review() -> None:
    calibration = replace(HALF, looks=(0.5, 0.6, 0.7, 0.8))
    unlike = decide([candidate("a", 0.45 + 0.1)], replace(calibration), with_text=True)
    assert "looks_unlike" not in unlike.review_reasons
    colours = replace(candidate("a", 0.9), visual=0.4)
    decision = decide([colours], calibration, with_text=True)
    assert (decision.label, decision.doubt) == ("a", 1.0)
    assert decision.review_reasons == ("looks_unlike",)


def test_what_no_calibration_set_stands_behind_asks_for_review() -> None:
    singles = Knowledge.of(
        snapshot(*((f"page {i}", (1, i), [f"text of page {'abcde'[i]}"]) for i in range(5)))
    )
    decision = asked(singles, Query(embedding=unit(1, 0), reading=reading("text of page a")))
    assert (decision.label, decision.doubt) == ("page 0", 1.0)
    assert decision.review_reasons == ("uncalibrated",)
    by_looks = asked(singles, Query(embedding=unit(1, 0), reading=None))
    assert by_looks.review_reasons == ("uncalibrated",)


def test_a_second_picture_of_a_page_gives_answers_something_to_be_held_against() -> None:
    pair = Knowledge.of(snapshot(*(("page", (1, i), ["text of page"]) for i in range(2))))
    decision = asked(pair, Query(embedding=unit(1, 0), reading=reading("text of page")))
    assert (decision.label, decision.doubt, decision.review) == ("page", 0.0, False)


@pytest.mark.parametrize(
    ("texts", "label"),
    [
        pytest.param(["12:30", "4,711.00"], "other", id="digits alone"),
        pytest.param(["Aircraft seats", "Boarding 7"], "other", id="another text"),
        pytest.param(
            ["放心借", "可用额度 5.00", "我的账单"], "loan", id="the page with other data"
        ),
    ],
)
def test_a_first_picture_is_known_by_its_text_too(texts: list[str], label: str) -> None:
    first = Knowledge.of(snapshot(("loan", (1, 0), ["放心借", "可用额度 12,000.00", "立即借款"])))
    decision = asked(first, Query(embedding=unit(3, 4), reading=reading(*texts)))
    assert decision.label == label
    # 0.6 for looks, the published share: what has the same looks and none of the text.
    assert decision.threshold == pytest.approx(0.6)


def test_a_first_picture_without_text_is_known_by_its_looks() -> None:
    first = Knowledge.of(snapshot(("map", (1, 0), [])))
    same = asked(first, Query(embedding=unit(1, 0), reading=reading()))
    assert (same.label, same.review_reasons) == ("map", ("uncalibrated",))
