"""A store that is away: told once, refused at once, its age counted from its last answer."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from pagesight_server.common.errors import StoreAwayError
from pagesight_server.workflows.store_watch import StoreWatch
from tests.support import WAIT_S
from tests.support.serving import until


class Store:
    """A store that answers, fails or hangs."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.now_s = 100.0

    def revisions(self) -> dict[str, int]:
        assert self.answers.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        return {"default": 7}

    def watch(self, hangs_s: float = WAIT_S) -> StoreWatch:
        return StoreWatch(self.revisions, clock=lambda: self.now_s, hangs_s=hangs_s)


async def test_a_store_that_goes_and_comes_is_told_of_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    watch = store.watch()
    assert await watch.revisions() == {"default": 7}
    watch.check()
    store.error = StoreAwayError("no route to host")
    for store.now_s in (101.0, 102.0, 163.0):
        with pytest.raises(StoreAwayError):
            await watch.revisions()
    assert watch.age_s == 63.0
    with pytest.raises(StoreAwayError, match="away for 63 s") as refused:
        watch.check()
    assert (refused.value.status, refused.value.retry_after_ms) == ("UNAVAILABLE", 1_000)
    store.error = None
    await watch.revisions()
    await watch.revisions()
    watch.check()
    assert watch.age_s == 0
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "the store is away: no route to host; answering from what is known"),
        (logging.WARNING, "the store is back after 63 s"),
    ]


async def test_a_store_that_does_not_answer_at_all_is_away_before_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    store.answers.clear()
    watch = store.watch(hangs_s=0.001)
    asking = asyncio.create_task(watch.revisions())
    await until(lambda: watch.is_away)
    assert not asking.done()
    assert "it has not answered for 0 s" in caplog.text
    store.answers.set()
    assert await asking == {"default": 7}
    assert not watch.is_away
