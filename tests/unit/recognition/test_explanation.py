"""Which texts of two pages agree and differ, and why the runner-up is not the answer."""

from __future__ import annotations

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import Decision, Knowledge, decide
from pagesight_server.recognition.explanation import Explanation, explain, text_findings
from pagesight_server.recognition.findings import Finding
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


def kinds(found: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(f.kind, f.text, f.note) for f in found]


def test_every_text_agrees_is_new_or_is_missing() -> None:
    asked = reading("放心借", "可用额度 77.00", "活动", "三湘银行")
    assert kinds(text_findings(GALLERY, asked, 0)) == [
        ("agrees", "放心借", "3 of 3 pictures of this page show it"),
        ("agrees", "可用额度 77.00", "2 of 3 pictures of this page show it"),
        ("agrees", "活动", "1 of 3 pictures of this page show it, not this one"),
        ("forbids", "三湘银行", "no picture of this page shows it"),
        # 立即借款 is on one picture of three: not what the page always shows.
    ]
    lacking = text_findings(GALLERY, reading("放心借"), 0)
    assert kinds(lacking)[1:] == [
        ("missing", "可用额度 12,000.00", "2 of 3 pictures of this page show it")
    ]


def test_boxes_point_into_the_picture_that_shows_the_text() -> None:
    found = text_findings(GALLERY, reading("三湘银行", "放心借"), 0)
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
    assert all(f.kind == "missing" for f in text_findings(GALLERY, asked, 0))


def test_a_name_exchanged_inside_a_line_does_not_agree() -> None:
    gallery = snapshot(("a", (1, 0), ["贷款服务由三湘银行股份有限公司提供"]))
    found = text_findings(gallery, reading("贷款服务由重庆小贷股份有限公司提供"), 0)
    assert [(f.kind, f.note) for f in found] == [
        ("forbids", "no picture of this page shows it"),
        ("missing", "the page's only picture shows it"),
    ]


def answered(gallery: Snapshot, asked: Reading | None) -> Decision:
    knowledge = Knowledge.of(gallery, calibration=EASY)
    query = Query(embedding=unit(5, 1), reading=asked)
    found = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    return decide(found, EASY, with_text=asked is not None)


def test_the_runner_up_is_told_with_what_it_lacks() -> None:
    asked = reading("放心借", "可用额度 1", "设置")
    told = explain(GALLERY, asked, answered(GALLERY, asked))
    assert told.why_not.startswith("Why not settings (000000000000)? It scores 0.")
    assert told.why_not.endswith(
        "less than limit; it shows 1 of the screenshot's 3 texts; "
        "the screenshot lacks its “关于我们”."
    )
    assert len(told.findings) >= 3


def test_without_text_the_scores_alone_tell_the_runner_up() -> None:
    told = explain(GALLERY, None, answered(GALLERY, None))
    assert told.findings == ()
    assert told.why_not.endswith("less than limit; text was not read.")


def test_a_screenshot_without_words_says_so() -> None:
    asked = reading("12:30", "7")
    told = explain(GALLERY, asked, answered(GALLERY, asked))
    assert told.why_not.endswith("the screenshot shows no text that could tell.")


def test_an_empty_gallery_leaves_nothing_to_explain() -> None:
    asked = reading("放心借")
    assert explain(snapshot(), asked, answered(snapshot(), asked)) == Explanation()


def test_a_replaced_name_stands_instead_of_the_plain_comparison() -> None:
    known = snapshot(
        *(("loan", (1, 0), ["可用额度", "已阅读放心借借款合同"]) for _ in range(3)),
        ("settings", (0, 1), ["设置"]),
    )
    asked = reading("可用额度", "已阅读三湘宝借款合同")
    told = explain(known, asked, answered(known, asked))
    # In one line only: 0.6 * ((3 - 0.5) / 3) ** 2.
    assert [f.note for f in told.findings if f.kind == "forbids"] == [
        "this page shows '放心借' where it says '三湘宝' (weight 0.42)"
    ]
