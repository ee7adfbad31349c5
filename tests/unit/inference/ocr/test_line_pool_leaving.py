"""Lines that nobody waits for any more leave the pool, and a pool that closes ends them all."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.line_pools import Pool, Recogniser, line, said, settle


async def test_cancelled_lines_leave_before_they_cost_anything() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    running = ours.submit(0, turn=0)
    await recogniser.running()
    waiting = [ours.submit(i, 10 + i, turn=i) for i in range(1, 4)]
    waiting[0].cancel()
    waiting[2].cancel()
    await settle()
    assert ours.pool.depth == 2
    running.cancel()  # runs already: its result is dropped, and nothing breaks
    recogniser.let(2)
    assert said(await waiting[1]) == [2, 12]
    assert recogniser.batches == [(64, [0]), (64, [2, 12])]
    await ours.close()


async def test_a_cancelled_screenshot_leaves_the_lines_that_others_want() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    running = ours.submit(0, turn=0)
    await recogniser.running()
    gone, stays = ours.submit(1, 2, 0, turn=1), ours.submit(2, 3, 0, turn=2)
    assert ours.pool.depth == 3  # and the strip that runs is of all
    gone.cancel()
    running.cancel()
    await settle()
    assert ours.pool.depth == 2
    recogniser.let(2)
    assert said(await stays) == [2, 3, 0]
    assert recogniser.batches == [(64, [0]), (64, [2, 3])]
    await ours.close()


async def test_closing_ends_what_runs_and_cancels_what_waits() -> None:
    recogniser = Recogniser(free=False, unsure={2})
    ours = Pool(recogniser)
    running = ours.submit(0, 3, turn=0)
    again = ours.pool.submit([line(2, 64, draft=True)], ours.shares[0])
    await recogniser.running()
    waiting = ours.submit(1, width=320, turn=1)
    closing = asyncio.create_task(ours.close())
    await settle()
    recogniser.let()
    await closing
    assert said(running.result()) == [0, 3]
    assert waiting.cancelled()
    assert again.cancelled()
    assert ours.pool.depth == 0
    with pytest.raises(RuntimeError, match="closed"):
        ours.submit(2, turn=2)


async def test_what_would_be_read_once_more_after_closing_is_cancelled() -> None:
    recogniser = Recogniser(free=False, unsure={2})
    ours = Pool(recogniser)
    unsure = ours.pool.submit([line(2, 64, draft=True)], ours.shares[0])
    await recogniser.running()
    closing = asyncio.create_task(ours.close())
    await settle()
    recogniser.let()
    await closing
    assert unsure.cancelled()
    assert ours.pool.depth == 0
