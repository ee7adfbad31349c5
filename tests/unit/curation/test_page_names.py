"""What pictures of a page share, and the name that is made of it."""

from __future__ import annotations

import pytest

from pagesight_server.curation.page_names import (
    UNNAMED,
    SharedLine,
    shared_lines,
    suggest_label,
)
from pagesight_server.gallery.snapshot import check_label, is_reserved
from pagesight_server.text.lines import Place
from pagesight_server.text.reading import Box, Reading, TextLine


def page(*texts: str) -> Reading:
    """A page of 360 by 800 pixels, its lines one below the other under the status bar."""
    lines = tuple(
        TextLine(text, 0.95, Box(20, 60 + 40 * i, 300, 84 + 40 * i)) for i, text in enumerate(texts)
    )
    return Reading(width_px=360, height_px=800, lines=lines)


def shared_texts(readings: list[Reading]) -> tuple[str, ...]:
    return tuple(line.text for line in shared_lines(readings))


def test_lines_that_nearly_all_show_are_shared_in_reading_order() -> None:
    pages = [page("转账记录", "张三", "余额 12.50", "查看全部") for _ in range(9)]
    pages.append(page("转账记录", "李四", "余额 99.10"))
    # The name is missing on one of ten, the last line too: 9 of 10 is nearly all.
    assert shared_texts(pages) == ("转账记录", "张三", "余额 #.#", "查看全部")
    assert shared_texts(pages[8:]) == ("转账记录", "余额 #.#")


def test_misread_lines_count_as_one_and_the_commonest_spelling_is_told() -> None:
    pages = [page("Transfer history"), page("Transfer histony"), page("Transfer history")]
    assert shared_texts(pages) == ("Transfer history",)


def test_digits_stand_where_all_pictures_show_the_same() -> None:
    assert shared_texts([page("Terms of 2024"), page("Terms of 2024")]) == ("Terms of 2024",)
    assert shared_texts([page("Card 1234 5678"), page("Card 8765 4321")]) == ("Card # #",)
    assert shared_texts([]) == ()


@pytest.mark.parametrize(
    ("texts", "taken", "label"),
    [
        pytest.param(["Transfer History"], [], "transfer_history", id="words are joined"),
        pytest.param(["转账记录"], [], "转账记录", id="letters of any script"),
        pytest.param(["Настройки/сеть"], [], "настройки_сеть", id="no slash"),
        pytest.param(["#.#", "Order 1234"], [], "order", id="digits are a person's"),
        pytest.param(["Ok"], ["ok", "ok_2"], "ok_3", id="a number behind what is taken"),
        pytest.param(["Other"], [], UNNAMED, id="a reserved name is none"),
        pytest.param([], [UNNAMED], f"{UNNAMED}_2", id="no text"),
        pytest.param(["a " * 60], [], "a" + "_a" * 19, id="cut at a word"),
        pytest.param(["日" * 200], [], "日" * 40, id="cut where there is none"),
        pytest.param(["सेटिंग"], [], "सेटिंग", id="vowel signs stay"),
    ],
)
def test_a_name_is_the_first_text_that_can_be_a_label(
    texts: list[str], taken: list[str], label: str
) -> None:
    lines = [SharedLine(text, Place(0.5, 0.6 + 0.1 * i, 0.05)) for i, text in enumerate(texts)]
    made = suggest_label(lines, [], taken)
    assert made == label
    assert check_label(made) == made
    assert not is_reserved(made)


def test_the_largest_line_of_the_header_is_the_title() -> None:
    lines = [
        SharedLine("Back", Place(0.1, 0.15, 0.04)),
        SharedLine("Order history", Place(0.5, 0.16, 0.06)),
        SharedLine("12,000.00 BGN", Place(0.5, 0.3, 0.09)),
        SharedLine("A headline further down", Place(0.5, 0.9, 0.1)),
    ]
    assert suggest_label(lines, [], []) == "order_history"
    assert suggest_label(lines[2:3], [], []) == "bgn"
    assert suggest_label(lines[3:], [], []) == "a_headline_further_down"


def test_a_page_in_several_languages_is_named_in_the_commonest() -> None:
    pages = [page("Settings", "1.00"), page("Settings", "2.00"), page("Einstellungen", "3.00")]
    assert suggest_label(shared_lines(pages), pages, []) == "settings"
    assert suggest_label((), [page("Settings"), page("Настройки"), page("设置")], []) == UNNAMED
