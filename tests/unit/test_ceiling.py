"""The most that looks and words may still reach: never less than what they then say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from pagesight_server.ceiling import ratio
from pagesight_server.evidence import PagesightMethod, Query
from pagesight_server.names import Unread
from tests.support.parts import reading, snapshot, unit

TEXTS = ("可用额度", "还款记录", "我的账单", "帮助中心")
KNOWN = snapshot(("loan", (1, 0), TEXTS), ("card", (0, 1), ("信用卡", "账单日", "积分商城")))


@given(st.text("abc ", max_size=12), st.text("abc ", max_size=8), st.text("abc ", max_size=12))
def test_no_text_that_has_room_agrees_more(read: str, unread: str, other: str) -> None:
    found = fuzz.ratio(read + unread, other) / 100 if other else 0.0
    assert found <= ratio(read, [len(unread)], other) + 1e-9


@pytest.mark.parametrize("read", range(len(TEXTS)))
def test_a_page_may_reach_what_it_reaches_when_all_is_read(read: int) -> None:
    method = PagesightMethod(KNOWN)
    hits = method.search(unit(1, 0))
    full = method.weigh(Query(embedding=unit(1, 0), reading=reading(*TEXTS)), hits)[0].acceptance
    left = len(TEXTS) - read
    unread = Unread(read=reading(*TEXTS[:read]), rooms=(20,) * left, lengths=(10.0,) * left)
    query = Query(embedding=unit(1, 0), reading=unread.read, unread=unread)
    assert method.may_reach(full - 1e-6, query, hits)


def test_lines_of_another_length_help_no_page() -> None:
    method = PagesightMethod(KNOWN)
    hits = method.search(unit(1, 0))
    # The gallery's lines are ten times as long as high; these are forty times.
    unread = Unread(read=reading(), rooms=(4,), lengths=(40.0,))
    query = Query(embedding=unit(1, 0), reading=unread.read, unread=unread)
    assert not method.may_reach(0.9, query, hits)
