"""What the pages of each label always show: the table of strings, and what a query's text says."""

from __future__ import annotations

import numpy as np
import pytest

from pagesight_server.recognition.templates import Templates, TextEvidence
from pagesight_server.text.reading import Box, Reading, TextLine
from tests.support.parts import snapshot


def reading(*texts: str) -> Reading:
    """Lines below each other, clear of the status bar of a picture 1000 high."""
    lines = tuple(
        TextLine(text, 1.0, Box(0, 100 + 50 * i, 200, 140 + 50 * i)) for i, text in enumerate(texts)
    )
    return Reading(width_px=500, height_px=1000, lines=lines)


def of(evidence: TextEvidence, label: int) -> tuple[float, float, float]:
    return (
        float(evidence.stable[label]),
        float(evidence.discriminative[label]),
        float(evidence.explained[label]),
    )


# Two labels. Both always show 姓名; only the first ever shows 基本信息, only the second 额度说明.
TWO = snapshot(
    ("a", (1, 0), ["姓名", "基本信息", "北京市"]),
    ("a", (1, 0), ["姓名", "基本信息", "上海市"]),
    ("b", (0, 1), ["姓名", "额度说明"]),
    ("b", (0, 1), ["姓名", "额度说明"]),
)


def test_stable_text_counts_by_how_rare_it_is_elsewhere() -> None:
    evidence = Templates(TWO).weigh(reading("姓名", "额度说明"))
    # Of a: 姓名 is at rate 1 in the one other label, weight ln(1 + 1/(1 + 1/2)) = 0.511; 基本信息
    # at rate 0, weight ln(1 + 1/(1/2)) = 1.099; each address at rate 0.5, weight 0.5 * 1.099.
    a = np.log(5 / 3) / (np.log(5 / 3) + np.log(3) + 2 * 0.5 * np.log(3))
    assert of(evidence, 0)[0] == pytest.approx(a)
    assert of(evidence, 1)[0] == pytest.approx(1.0)


def test_discriminative_text_is_what_no_other_label_shows() -> None:
    evidence = Templates(TWO).weigh(reading("姓名", "额度说明"))
    assert of(evidence, 0)[1] == 0.0
    assert of(evidence, 1)[1] == pytest.approx(1.0)


def test_explained_is_the_share_of_the_query_that_the_label_has_shown() -> None:
    # 姓名 counts 2 characters, 额度说明 4: a explains 2 of 6.
    evidence = Templates(TWO).weigh(reading("姓名", "额度说明"))
    assert of(evidence, 0)[2] == pytest.approx(2 / 6)
    assert of(evidence, 1)[2] == pytest.approx(1.0)


def test_a_long_line_counts_for_twelve_characters() -> None:
    evidence = Templates(TWO).weigh(reading("姓名", "一二三四五六七八九十甲乙丙丁戊己庚辛"))
    assert of(evidence, 0)[2] == pytest.approx(2 / 14)


def test_a_misread_line_counts_by_how_alike_it_is() -> None:
    # Ratio of 额度说明书 (5) and 额度说明 (4): 2 * 4 / 9.
    evidence = Templates(TWO).weigh(reading("额度说明书"))
    assert of(evidence, 1)[2] == pytest.approx(8 / 9)


def test_a_left_out_picture_takes_its_strings_along() -> None:
    templates = Templates(TWO)
    shown = reading("姓名", "基本信息", "北京市")
    assert of(templates.weigh(shown), 0)[2] == pytest.approx(1.0)
    # Without row 0 nobody has shown 北京市: 3 of 9 characters.
    assert of(templates.weigh(shown, without=0), 0)[2] == pytest.approx(6 / 9)
    assert of(templates.weigh(shown), 0)[2] == pytest.approx(1.0)


def test_a_label_without_a_string_of_its_own_is_judged_by_all_its_strings() -> None:
    same = snapshot(("a", (1, 0), ["姓名"]), ("b", (0, 1), ["姓名"]))
    evidence = Templates(same).weigh(reading("姓名"))
    assert of(evidence, 0) == pytest.approx((1.0, 1.0, 1.0))


def test_readings_of_one_line_that_differ_by_a_character_are_one_string() -> None:
    gallery = snapshot(("a", (1, 0), ["我的可用额度"]), ("a", (1, 0), ["我的可用额庹"]))
    # Both pictures show it, so a third reading of it is explained and stable.
    stable, _, explained = of(Templates(gallery).weigh(reading("我的可用额度")), 0)
    assert (stable, explained) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("texts", [(), ("12:30", "88%")])
def test_a_query_without_text_agrees_with_nothing(texts: tuple[str, ...]) -> None:
    evidence = Templates(TWO).weigh(reading(*texts))
    assert of(evidence, 0) == of(evidence, 1) == (0.0, 0.0, 0.0)


def test_a_gallery_without_text_agrees_with_nothing() -> None:
    evidence = Templates(snapshot(("a", (1, 0), []))).weigh(reading("姓名"))
    assert of(evidence, 0) == (0.0, 0.0, 0.0)


def test_an_empty_gallery_has_no_evidence() -> None:
    assert Templates(snapshot()).weigh(reading("姓名")).stable.shape == (0,)


def test_a_labels_agreement_is_its_own_drawn_towards_that_of_all() -> None:
    gallery = snapshot(
        *(("alike", (1, 0), ["可用额度", "立即还款"]) for _ in range(4)),
        ("unlike", (0, 1), ["设置中心"]),
        ("unlike", (0, 1), ["关于我们"]),
        ("single", (1, 1), ["帮助"]),
    )
    # Explained by others: alike 1, 1, 1, 1, unlike 0, 0; the median of all is 1.
    agreements = Templates(gallery).agreements(["alike", "unlike", "single"])
    assert agreements["alike"] == pytest.approx(1.0)
    assert agreements["unlike"] == pytest.approx((0 + 0 + 3 * 1) / 5)
    assert agreements["single"] == pytest.approx(1.0)


# Two labels whose titles are spelling variants of each other: five of six characters are equal.
SPELT_IN = ("in", (1, 0), ["转入记录明细", "姓名"])
SPELT_OUT = ("out", (1, 0), ["转出记录明细", "姓名"])


def test_titles_that_could_be_misreadings_of_each_other_are_compared_to_the_letter() -> None:
    templates = Templates(snapshot(*[SPELT_IN] * 3, *[SPELT_OUT] * 3))
    nats, differences = templates.weigh(reading("转出记录明细", "姓名")).odds(1, 0)
    # Smoothed: (3 + 0.5) / 4 of the pictures of "out", (0 + 0.5) / 4 of those of "in".
    assert differences == [("转出记录明细", 0.875, 0.125)]
    assert nats == pytest.approx(np.log(7))


def test_a_spelling_that_no_picture_shows_is_a_misreading_and_tells_nothing() -> None:
    templates = Templates(snapshot(*[SPELT_IN] * 3, *[SPELT_OUT] * 3))
    assert templates.weigh(reading("转八记录明细", "姓名")).odds(1, 0) == (0.0, [])


def test_a_spelling_that_one_picture_of_three_shows_may_be_a_misreading() -> None:
    misread = ("in", (1, 0), ["转出记录明细", "姓名"])
    same_title = ("out", (1, 0), ["转入记录明细", "姓名"])
    templates = Templates(snapshot(*[SPELT_IN] * 2, misread, *[same_title] * 3))
    # (1 + 0.5) / 4 of "in" to (0 + 0.5) / 4 of "out": a difference of 0.25 is not above 0.3.
    assert templates.weigh(reading("转出记录明细")).odds(0, 1) == (0.0, [])


def test_a_picture_that_is_left_out_does_not_spell_its_title() -> None:
    templates = Templates(snapshot(*[SPELT_IN] * 3, *[SPELT_OUT] * 3))
    nats, differences = templates.weigh(reading("转出记录明细"), without=3).odds(1, 0)
    # Of "out" two pictures are left, (2 + 0.5) / 3, and none of the three of "in".
    assert [one.string for one in differences] == ["转出记录明细"]
    assert differences[0].frequency == pytest.approx(2.5 / 3)
    assert differences[0].other_frequency == pytest.approx(0.125)
    assert nats == pytest.approx(np.log(2.5 / 3 / 0.125))


def test_a_label_shares_its_text_where_each_stable_string_stands_as_often_on_others() -> None:
    alike = snapshot(
        ("app", (1, 0), ["姓名", "额度"]),
        ("title", (1, 0), ["姓名"]),
        ("twin", (1, 0), ["姓名", "额度"]),
        ("lone", (1, 0), ["关于我们"]),
    )
    # Of the twins' two strings each shows both, the title one.
    assert Templates(alike).labels_sharing_text() == {
        "app": ("twin", "title"),
        "title": ("app", "twin"),
        "twin": ("app", "title"),
    }


def test_a_label_whose_pictures_share_no_text_is_not_said_to_share_it_with_others() -> None:
    gallery = snapshot(
        ("languages", (1, 0), ["设置中心"]),
        ("languages", (1, 0), ["Settings"]),
        ("languages", (1, 0), ["Einstellungen"]),
        ("settings", (1, 0), ["Settings"]),
    )
    # Settings stands on all of the one's pictures, and on a third of the other's.
    assert Templates(gallery).labels_sharing_text() == {}
