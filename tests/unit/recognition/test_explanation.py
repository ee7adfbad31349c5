"""Which texts of two pages agree and differ, and why the runner-up is not the answer."""

from __future__ import annotations

import re

import pytest

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.explanation import (
    Explanation,
    LineMatch,
    PageComparison,
    compare_with_page,
    explain,
)
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.lines import page_lines
from pagesight_server.text.reading import Box, Reading, TextLine
from tests.support.parts import reading, snapshot, unit

# Lines of `reading` stand at y = 0, 10, 20 ... of 200: the first is the status bar's neighbour.
GALLERY = snapshot(
    ("limit", (1, 0), ["放心借", "可用额度 12,000.00", "立即借款"]),
    ("limit", (1, 0), ["放心借", "可用额度 500", "活动"]),
    ("limit", (1, 0), ["放心借", "我的账单"]),
    ("settings", (0, 1), ["设置", "关于我们"]),
)
EASY = Calibration(
    epsilon=0.05,
    pictures=10,
    guaranteed=True,
    threshold_with_text=-1.0,
    threshold_without_text=-1.0,
)


def compared(gallery: Snapshot, asked: Reading | None, row: int = 0) -> PageComparison:
    candidate = Candidate(
        label=gallery.pictures[row].label, row=row, visual=1.0, textual=1.0, terms=()
    )
    return compare_with_page(gallery, asked, candidate)


def kinds(page: PageComparison) -> list[tuple[str, str, str]]:
    return [(f.kind, f.text, f.note) for f in page.findings]


def test_every_text_agrees_is_new_or_is_missing() -> None:
    asked = reading("放心借", "可用额度 77.00", "活动", "三湘银行")
    assert kinds(compared(GALLERY, asked)) == [
        ("agrees", "放心借", "3 of 3 pictures of this page show it"),
        ("agrees", "可用额度 77.00", "2 of 3 pictures of this page show it"),
        ("agrees", "活动", "1 of 3 pictures of this page show it, not this one"),
        ("forbids", "三湘银行", "no picture of this page shows it"),
        # 立即借款 is on one picture of three: not what the page always shows.
    ]
    lacking = compared(GALLERY, reading("放心借"))
    assert kinds(lacking)[1:] == [
        ("missing", "可用额度 12,000.00", "2 of 3 pictures of this page show it")
    ]


def test_boxes_point_into_the_picture_that_shows_the_text() -> None:
    found = compared(GALLERY, reading("三湘银行", "放心借")).findings
    assert [(f.kind, f.query_box, f.gallery_box) for f in found] == [
        ("forbids", Box(0, 0, 100, 10), None),
        ("agrees", Box(0, 10, 100, 20), Box(0, 0, 100, 10)),
        ("missing", None, Box(0, 10, 100, 20)),
    ]


def test_amounts_and_the_status_bar_say_nothing() -> None:
    lines = (
        TextLine("中国移动", 0.9, Box(0, 0, 50, 6)),
        TextLine("12,800.00", 0.9, Box(0, 50, 50, 60)),
    )
    asked = Reading(width_px=100, height_px=200, lines=lines)
    assert all(f.kind == "missing" for f in compared(GALLERY, asked).findings)


def test_a_name_exchanged_inside_a_line_does_not_agree() -> None:
    gallery = snapshot(("a", (1, 0), ["贷款服务由三湘银行股份有限公司提供"]))
    found = compared(gallery, reading("贷款服务由重庆小贷股份有限公司提供")).findings
    assert [(f.kind, f.note) for f in found] == [
        ("forbids", "no picture of this page shows it"),
        ("missing", "the page's only picture shows it"),
    ]


def explained(gallery: Snapshot, asked: Reading | None, *, pages: int = 1) -> Explanation:
    knowledge = Knowledge.of(gallery, calibration=EASY)
    query = Query(embedding=unit(5, 1), reading=asked)
    candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    decision = decide(candidates, EASY, with_text=asked is not None)
    return explain(knowledge, query, decision, pages=pages)


def test_the_runner_up_is_told_with_what_it_lacks() -> None:
    asked = reading("放心借", "可用额度 1", "设置")
    told = explained(GALLERY, asked)
    assert told.why_not.startswith("Why not settings (000000000000)? It scores 0.")
    assert told.why_not.endswith(
        "behind limit; it shows 1 of the screenshot's 3 texts; the screenshot lacks its “关于我们”."
    )
    assert len(told.findings) >= 3


def test_without_text_the_scores_alone_tell_the_runner_up() -> None:
    told = explained(GALLERY, None)
    assert told.findings == ()
    assert told.why_not.endswith("behind limit; text was not read.")


def test_a_screenshot_without_words_says_so() -> None:
    asked = reading("12:30", "7")
    told = explained(GALLERY, asked)
    assert told.why_not.endswith("the screenshot shows no text that could tell.")


def test_an_empty_gallery_leaves_nothing_to_explain() -> None:
    asked = reading("放心借")
    assert explained(snapshot(), asked) == Explanation(reasons=("the gallery knows no page yet",))


def test_a_replaced_name_stands_instead_of_the_plain_comparison() -> None:
    known = snapshot(
        *(("loan", (1, 0), ["可用额度", "已阅读放心借借款合同"]) for _ in range(3)),
        ("settings", (0, 1), ["设置"]),
    )
    asked = reading("可用额度", "已阅读三湘宝借款合同")
    told = explained(known, asked)
    # In one line only: 0.6 * ((3 - 0.5) / 3) ** 2.
    assert [f.note for f in told.findings if f.kind == "forbids"] == [
        "this page shows '放心借' where it says '三湘宝' (weight 0.42)"
    ]


def test_matching_lines_are_those_of_the_candidates_picture_that_are_variants() -> None:
    gallery = snapshot(("a", (1, 0), ["abcde", "额度 999", "xy"]), ("a", (1, 0), ["offers"]))
    asked = reading("abcdx", "额度 100", "offers", "12,000", "z")
    assert compared(gallery, asked).matches == (
        # 2 * 4 / 10; amounts say nothing; the other picture's line is not that picture's.
        LineMatch(query_text="abcdx", gallery_text="abcde", similarity=0.8),
        LineMatch(query_text="额度 100", gallery_text="额度 999", similarity=1.0),
    )
    assert compared(gallery, reading()).matches == compared(gallery, None).matches == ()


def test_values_that_match_values_are_shown_nowhere_and_score_as_before() -> None:
    values = ["10", "825.3 MB", "11月22日", "12:30 PM"]
    gallery = snapshot(("a", (1, 0), ["首页", "123456", "270.8 MB", "1月2日", "8:00 PM"]))
    asked, plain = reading("首页", *values), reading("首页")
    page = compared(gallery, asked)
    assert page.matches == compared(gallery, plain).matches
    assert kinds(page) == [("agrees", "首页", "the page's only picture shows it")]
    assert page.lines == 1
    # The evidence knows all of them, as ever.
    assert len(page_lines(asked)) == 4


def test_reasons_boxes_why_not_and_matching_lines_tell_the_same() -> None:
    asked = reading("放心借", "可用额度 1", "设置")
    told = explained(GALLERY, asked, pages=2)
    assert "2 of 3 lines are on that picture too" in told.reasons
    assert sum(f.kind == "agrees" and f.gallery_box is not None for f in told.findings) == 2
    assert [len(told.matching_lines[label]) for label in ("limit", "settings")] == [2, 1]
    assert "it shows 1 of the screenshot's 3 texts" in told.why_not


def test_the_reasons_quote_the_terms_that_add_up_to_the_score() -> None:
    told = explained(GALLERY, reading("放心借", "可用额度 1", "设置"))
    (breakdown,) = [reason for reason in told.reasons if " = " in reason]
    total, terms = breakdown.removeprefix("score ").split(" = ")
    signed = [float(term.rsplit(" ", 1)[1]) for term in re.split(r" [+-] ", terms)]
    assert sum(signed) == pytest.approx(float(total), abs=0.003)


@pytest.mark.parametrize(("confidence", "told"), [(0.6, True), (0.95, False)])
def test_the_reasons_say_that_text_was_hardly_read(confidence: float, told: bool) -> None:
    known = Knowledge.of(GALLERY, calibration=EASY)
    text = reading("放心借", "γotob", "Hactpoйkn", "Oтмeнa", "Пoиск")
    lines = tuple(line._replace(confidence=confidence) for line in text.lines[1:])
    asked = Query(
        embedding=unit(1, 0),
        reading=Reading(width_px=100, height_px=200, lines=(text.lines[0], *lines)),
    )
    candidates = known.method.weigh(asked, known.method.search(asked.embedding))
    reasons = explain(known, asked, decide(candidates, EASY, with_text=True)).reasons
    sentence = "4 of 5 lines were hardly read: the OCR bundle may not know the script"
    assert (sentence in reasons) == told
