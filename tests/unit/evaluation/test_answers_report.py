"""The page of answers beside their pictures: what was answered, whether it is right, and why."""

from __future__ import annotations

import pytest

from pagesight_server.evaluation import AnswerRow, answers_report
from tests.support.reports import NASTY, Page, assert_stands_alone, png, words


def answer(truth: str | None, label: str, name: str = "1.png") -> AnswerRow:
    return AnswerRow(
        name=name,
        image=png(),
        truth=truth,
        label=label,
        closest_label="a",
        score=0.8 if label != "other" else 0.3,
        threshold=0.5,
        reasons=("first", NASTY),
        nearest=png("blue"),
        stage_ms={"queue": 0.4, "total": 815.9, "read": 812.4, "decode": 3.21},
    )


def test_the_answers_page_says_what_was_answered_and_why() -> None:
    html = answers_report(
        [answer("a", "a"), answer("other_x", "other"), answer("b", "a"), answer(None, "a")],
        f"Demo {NASTY}",
        subtitle="Four screenshots.",
    )
    assert_stands_alone(html)
    assert "<script" not in html
    page = Page(html)
    assert page.tags.count("article") == 4
    assert page.tags.count("img") == 8
    for text in ("2 of 3", "wrong: it shows b", "816 ms: decode 3.2, read 812, queue 0.4", NASTY):
        assert text in words(page)


@pytest.mark.parametrize(
    ("truth", "label", "right"),
    [
        ("a", "a", True),
        ("a", "other", False),
        ("other", "other", True),
        ("other_kind", "other", True),
        ("other_kind", "a", False),
        ("others_page", "other", False),
        (None, "a", None),
    ],
)
def test_an_answer_is_right_when_it_names_the_page_or_rejects_an_unknown_one(
    truth: str | None, label: str, right: bool | None
) -> None:
    assert answer(truth, label).right is right


def test_a_page_of_no_answers_is_still_whole() -> None:
    assert_stands_alone(answers_report([], "Nothing yet"))


def test_an_answer_without_pictures_or_times_is_shown_all_the_same() -> None:
    row = AnswerRow(
        name="broken.png",
        image=b"no picture",
        truth=None,
        label="other",
        closest_label="",
        score=-1.0,
        threshold=0.0,
        reasons=(),
        nearest=None,
    )
    page = Page(answers_report([row], "One"))
    assert "cannot be shown" in words(page)
    assert "no gallery picture" in words(page)
