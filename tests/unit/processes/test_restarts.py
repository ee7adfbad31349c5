"""When a worker is started again, and when no more."""

from __future__ import annotations

from pagesight_server.processes.restarts import Restarts


def test_each_end_within_the_window_doubles_the_wait_until_there_are_too_many() -> None:
    restarts = Restarts()
    assert [restarts.delay_s(now_s) for now_s in (0, 10, 20, 30, 40)] == [1, 2, 4, 8, None]


def test_ends_that_are_long_ago_do_not_count() -> None:
    restarts = Restarts()
    # A window has 300 s: at 310 the end at 0 is out of it, and that at 10 just is not.
    assert [restarts.delay_s(now_s) for now_s in (0, 10, 310, 1000)] == [1, 2, 2, 1]


def test_no_wait_is_longer_than_the_longest() -> None:
    restarts = Restarts(most=9)
    assert [restarts.delay_s(0) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
