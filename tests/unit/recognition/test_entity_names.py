"""Entity names: brands that are missing, and names that are replaced by others."""

from __future__ import annotations

import math

import pytest

from pagesight_server.gallery.snapshot import LabelFacts, Snapshot
from pagesight_server.recognition.entity_names import EntityNames, NameEvidence
from pagesight_server.text.lines import page_lines
from tests.support.parts import reading, snapshot

LOAN = ("放心借", "可用额度", "已阅读放心借借款合同")
CARD = ("信用卡", "账单日", "可用额度")


def gallery(pictures: int = 10, *, brands: tuple[str, ...] = (), branded: int = 10) -> Snapshot:
    """A loan page, `branded` of whose pictures show the name, and two other pages."""
    unbranded = ("可用额度", "还款记录")
    return snapshot(
        *(("loan", (1, 0), LOAN if i < branded else unbranded) for i in range(pictures)),
        ("card", (0, 1), CARD),
        ("help", (0, 1), ("帮助中心", "在线客服")),
        facts={"loan": LabelFacts(brands=brands)} if brands else {},
    )


def evidence_of(known_pages: Snapshot, *texts: str, without: int | None = None) -> NameEvidence:
    return EntityNames(known_pages).weigh("loan", page_lines(reading(*texts)), without=without)


def test_a_visible_brand_speaks_against_nothing() -> None:
    evidence = evidence_of(
        gallery(brands=("放心借", "抖音")), "放心借", "可用额度", "已阅读满月花借款合同"
    )
    assert (evidence.visible_brand, evidence.missing_nats, evidence.replaced) == (
        "放心借",
        0.0,
        0.0,
    )


@pytest.mark.parametrize(
    ("branded", "nats"),
    [
        pytest.param(10, math.log(11 / 0.5), id="all pictures show it"),
        pytest.param(6, math.log(11 / 4.5), id="six of ten do"),
        pytest.param(0, math.log(11 / 10.5), id="none does"),
    ],
)
def test_a_missing_brand_counts_as_much_as_it_surprises(branded: int, nats: float) -> None:
    evidence = evidence_of(gallery(brands=("放心借",), branded=branded), "可用额度")
    assert evidence.missing_nats == pytest.approx(nats)
    assert (evidence.pictures_with_brand, evidence.pictures) == (branded, 10)


def test_without_brands_nothing_is_missing() -> None:
    assert evidence_of(gallery(), "可用额度").missing_nats == 0.0


def test_a_name_exchanged_in_two_lines_counts_in_full() -> None:
    evidence = evidence_of(gallery(), "满月花", "可用额度", "已阅读满月花借款合同")
    # All ten pictures show the name, no other label does: ((10 - 0.5) / 10) ** 2 each.
    exchanged = {(name.expected, name.observed, name.whole_line) for name in evidence.replacements}
    assert exchanged == {("放心借", "满月花", True), ("放心借", "满月花", False)}
    assert evidence.replaced == pytest.approx(2 * 0.95**2)


def test_a_name_that_the_screenshot_still_shows_is_not_replaced() -> None:
    assert evidence_of(gallery(), "放心借", "可用额度", "已阅读满月花借款合同").replaced == 0.0


def test_what_the_gallery_knows_is_no_new_name() -> None:
    assert evidence_of(gallery(), "可用额度", "已阅读信用卡借款合同").replaced == 0.0


def test_a_whole_line_exchanged_for_another_is_a_redesign() -> None:
    plain = snapshot(
        *(("loan", (1, 0), ("去借钱", "可用额度")) for _ in range(10)), ("card", (0, 1), CARD)
    )
    assert evidence_of(plain, "马上借", "可用额度").replaced == 0.0


def test_what_is_another_every_time_is_variable_content() -> None:
    names = ("王小明", "李建国", "陈美丽", "周大伟", "吴思雨", "郑海涛")
    people = snapshot(
        *(("loan", (1, 0), (f"持卡人姓名{name}先生", "可用额度")) for name in names),
        ("card", (0, 1), CARD),
    )
    assert evidence_of(people, "持卡人姓名孙文静先生", "可用额度").replaced < 0.01


def test_a_word_that_other_labels_show_too_is_no_name() -> None:
    common = snapshot(
        *(("loan", (1, 0), ("立即借款马上到账", "更多")) for _ in range(10)),
        *((f"page{i}", (0, 1), ("立即借款服务",)) for i in range(4)),
    )
    assert evidence_of(common, "办理取现马上到账", "更多").replaced == 0.0


def test_a_block_that_holds_a_brand_counts_however_rarely_it_is_seen() -> None:
    rare = gallery(brands=("放心借",), branded=1)
    evidence = evidence_of(rare, "可用额度", "已阅读满月花借款合同")
    assert evidence.replaced == pytest.approx(1.0)


@pytest.mark.parametrize(("branded", "weight"), [(10, 0.95**2), (1, 0.05**2)])
def test_a_line_that_is_a_brand_counts_by_how_often_it_is_seen(branded: int, weight: float) -> None:
    # In a line that is nothing else, a customer may have entered a bank that is the brand's.
    evidence = evidence_of(gallery(brands=("放心借",), branded=branded), "满月花", "还款记录")
    (name,) = evidence.replacements
    assert (name.expected, name.observed, name.whole_line) == ("放心借", "满月花", True)
    assert name.weight == pytest.approx(weight)


def test_a_picture_can_be_left_out() -> None:
    single = gallery(1, brands=("放心借",), branded=1)
    assert evidence_of(single, "可用额度", without=0) == NameEvidence()
