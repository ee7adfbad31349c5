"""What `classify --explain` prints, in terminals of any width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from pagesight import Candidate, Classification, MatchingLine, ScoreTerm
from pagesight._cli import render

IMAGE_ID = "305b39193c207cd58fb54ac97330f72df7485a1de079a814e4f2cc4b15460ec4"
LINES = (
    MatchingLine(query_text="可用额度", gallery_text="可用额度", similarity=1.0),
    MatchingLine(
        query_text="年利率13.34%起(单利)，借1千元1天利息低至0.54元",
        gallery_text="年利率18.92%起(单利)，借1千元1天利息低至0.26元",
        similarity=1.0,
    ),
    MatchingLine(
        query_text="borrowing limits available", gallery_text="borrowing limit", similarity=0.82
    ),
)
REASON = (
    "words that tell a from b: '#张可用' (88% to 12%), '借款优势' (88% to 12%), '安全' (88% to 12%)"
)


def answer(label: str) -> Classification:
    candidate = Candidate(
        label=label,
        score=0.624,
        rank_score=0.609,
        visual=0.497,
        textual=0.675,
        image_id=IMAGE_ID,
        matching_lines=LINES,
        terms=(ScoreTerm(name="looks", score=0.624, rank_score=0.609),),
    )
    return Classification(
        label=label,
        closest_label=label,
        score=0.624,
        threshold=0.371,
        doubt=0.5,
        review=False,
        review_reasons=(),
        outputs=(label,),
        candidates=(candidate,),
        reasons=(REASON,),
        findings=(),
        gallery="default",
        revision=7,
        encoder_bundle="e",
        ocr_bundle="o",
        stage_ms={"total": 4.0},
    )


def printed(width: int) -> list[str]:
    rows = [(Path(f"{number}.png"), answer("user_info")) for number in (1, 2)]
    console = Console(width=width, record=True, file=io.StringIO(), markup=False, highlight=False)
    console.print(render.explained(rows))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_swallowed(width: int) -> None:
    lines = printed(width)
    assert max(Text(line.rstrip()).cell_len for line in lines) <= width
    # Whatever the width, every character is there as often as it is in any other.
    text = "".join("".join(lines).split())
    assert "…" not in text
    wide = "".join("".join(printed(200)).split())
    assert sorted(text) == sorted(wide)


@pytest.mark.parametrize("width", [80, 200])
def test_columns_have_headers_and_no_word_is_broken(width: int) -> None:
    lines = [" ".join(line.split()) for line in printed(width)]
    assert lines.count("picture answer score next best ms") == 1
    assert sum("likeness on the screenshot on the gallery's picture" in line for line in lines) == 2
    assert "1.00 可用额度 the same" in lines
    assert "0.82 borrowing limits available borrowing limit" in lines
    assert IMAGE_ID in lines  # in full, to be copied


def test_in_40_columns_the_words_of_the_headers_are_whole() -> None:
    words = " ".join(printed(40)).split()
    for word in ("likeness", "screenshot", "gallery's", "picture", "user_info", "rank", "visual"):
        assert word in words, word


def test_the_columns_of_matching_lines_stay_near_each_other_in_a_wide_terminal() -> None:
    [header, _] = [line for line in printed(200) if "likeness" in line]
    assert header.index("gallery's picture") < 100
