"""Reading on demand gives the label of reading in full where names decide, wherever they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.gallery.snapshot import LabelFacts, Snapshot
from pagesight_server.recognition.decision import Knowledge
from pagesight_server.text.reading import Box, Reading, TextLine
from pagesight_server.workflows.pipeline import Answer, Percept
from tests.bench.replay import both
from tests.support.parts import reading, snapshot, unit

WORDS = ("可用额度", "还款记录", "我的账单", "帮助中心", "设置", "立即申请")
NAMED = ("{}", "我已阅读并同意{}借款合同", "本服务由{}公司提供", "欢迎使用{}")
CARD = ("信用卡", "账单日", "积分商城", "分期还款", "卡片管理", "优惠活动")


def lines(name: str, words: Sequence[str] = WORDS) -> list[str]:
    """A loan page under a name."""
    return [*words, *(line.format(name) for line in NAMED)]


def gallery(*, brands: tuple[str, ...] = ()) -> Snapshot:
    return snapshot(
        *(("loan", (1, 0, 0), lines("放心借")) for _ in range(4)),
        *(("card", (0, 1, 0), CARD) for _ in range(4)),
        *(("help", (0, 0, 1), ("在线客服", "常见问题", "意见反馈")) for _ in range(4)),
        facts={"loan": LabelFacts(brands=brands)} if brands else {},
    )


def labels(known: Snapshot, told: Reading) -> tuple[str, str, Answer]:
    """In full, on demand, and the latter answer."""
    percept = Percept(width_px=100, height_px=200, embedding=unit(1, 0.1, 0), reading=told)
    full, part, _ = asyncio.run(both(Knowledge.of(known), percept))
    return full.decision.label, part.decision.label, part


@pytest.mark.parametrize("named", [(1,), (0, 2), (1, 3), (0, 1, 3)])
def test_another_name_counts_in_lines_that_would_be_read_last(named: tuple[int, ...]) -> None:
    texts = [*WORDS[:3], *(NAMED[i].format("满月花") for i in named)]
    full, part, _ = labels(gallery(), reading(*texts))
    assert (full, part) == ("other", "other")


def test_a_brand_is_looked_for_in_every_line_that_has_room_for_it() -> None:
    # No page of the gallery has a line of this shape, nor one in this place.
    footer = TextLine("致电放心借客服", 1.0, Box(40, 180, 96, 184))
    page = reading(*WORDS[:3])
    told = replace(page, lines=(*page.lines, footer))
    full, part, _ = labels(gallery(brands=("放心借",)), told)
    assert (full, part) == ("loan", "loan")


def test_once_the_brand_was_read_no_other_line_is_feared() -> None:
    full, part, answer = labels(gallery(brands=("放心借",)), reading(*lines("放心借")))
    assert (full, part) == ("loan", "loan")
    assert answer.unread > 0


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["放心借", "满月花", "云帆宝"]),
    words=st.permutations([*WORDS, *CARD]),
    count=st.integers(2, 8),
    named=st.sets(st.integers(0, 3)),
    brands=st.sampled_from([(), ("放心借",)]),
)
def test_the_label_is_that_of_reading_in_full(
    name: str, words: list[str], count: int, named: set[int], brands: tuple[str, ...]
) -> None:
    texts = [*words[:count], *(NAMED[i].format(name) for i in sorted(named))]
    full, part, _ = labels(gallery(brands=brands), reading(*texts))
    assert part == full
