"""Which screenshot is read next: by priority, by what it has had, and by what is in common."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pagesight_server.common.priority import Priority
from pagesight_server.inference.ocr.settings import OcrSettings
from tests.support import WAIT_S
from tests.support.line_pools import Pool, Recogniser, said


async def read_in_order(recogniser: Recogniser, results: Sequence[Any]) -> list[list[int]]:
    """The numbers of each batch, once all is read."""
    recogniser.let(1_000)
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*results)
    return [numbers for _, numbers in recogniser.batches]


async def test_much_text_of_one_screenshot_lets_those_go_first_that_have_had_less() -> None:
    # Two strips of 64 make a batch, and four a screenshot's share.
    config = OcrSettings(widths=(64,), max_columns=128, share_columns=256)
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser, config=config)
    results = [ours.submit(*range(12), turn=0)]
    await recogniser.running()
    results.append(ours.submit(*range(100, 106), turn=1))
    results.append(ours.submit(*range(200, 202), turn=2))
    batches = await read_in_order(recogniser, results)
    assert batches == [
        [0, 1],
        [2, 3],  # until it has had its share: a usual screenshot has no more
        [100, 101],
        [4, 5],  # every fourth batch is of the oldest
        [102, 103],
        [200, 201],
        [6, 7],  # all have had a share of two now, or have ended: the oldest first
        [8, 9],
        [104, 105],
        [10, 11],
    ]
    await ours.close()


async def test_the_priority_of_the_request_goes_before_all() -> None:
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    recogniser = Recogniser(free=False)
    priorities = [Priority.LOW, Priority.NORMAL, Priority.HIGH]
    ours = Pool(recogniser, config=config, priorities=priorities)
    results = [ours.submit(*range(4), turn=0)]
    await recogniser.running()
    results.append(ours.submit(*range(10, 13), turn=1))
    results.append(ours.submit(*range(20, 26), turn=2))
    batches = await read_in_order(recogniser, results)
    numbers = [number for [number] in batches]
    assert numbers == [0, 20, 21, 22, 23, 24, 25, 10, 11, 12, 1, 2, 3]
    await ours.close()


async def test_what_is_due_later_leaves_cores_to_finding_what_goes_first() -> None:
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    recogniser = Recogniser()
    ours = Pool(recogniser, config=config)
    # The first has had its share of one strip; of the third nothing is known yet.
    await ours.submit(0, turn=0)
    with ours.pool.finding(ours.shares[2]):
        later = [ours.submit(number, turn=0) for number in (1, 2, 3)]
        assert ours.pool.depth == 3
        # What is due before what is being found is read at once.
        assert said(await ours.submit(100, turn=1)) == [100]
        with ours.pool.finding(ours.shares[2]):
            pass  # a part is done, so a batch may run before the next
        assert said(await later[0]) == [1]
        assert said(await later[1]) == [2]  # the fourth batch is of the oldest in any case
        assert ours.pool.depth == 1
    assert said(await later[2]) == [3]
    await ours.close()


async def test_of_many_recognisers_a_few_are_left_idle_for_finding() -> None:
    recognisers = [Recogniser(free=False) for _ in range(4)]
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    ours = Pool(*recognisers, config=config)
    results = [ours.submit(0, turn=0)]
    await recognisers[-1].running()
    with ours.pool.finding(ours.shares[1]):
        results.append(ours.submit(*range(1, 8), turn=0))
        # One of four runs, and two are left idle: one more begins.
        assert ours.pool.depth == 6
        for recogniser in recognisers:
            recogniser.let(10)
    await asyncio.gather(*results)
    await ours.close()


async def test_where_a_gpu_reads_nothing_is_left_idle() -> None:
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64, gives_way=False)
    ours = Pool(Recogniser(), config=config)
    with ours.pool.finding(ours.shares[1]):
        assert said(await ours.submit(*range(8), turn=0)) == list(range(8))
    await ours.close()


async def test_a_strip_in_common_is_due_when_it_is_of_any_screenshot_and_read_once() -> None:
    recogniser = Recogniser(free=False)
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    priorities = [Priority.LOW, Priority.HIGH]
    ours = Pool(recogniser, config=config, priorities=priorities)
    results = [ours.submit(*range(5), turn=0)]
    await recogniser.running()
    results.append(ours.submit(9, 3, turn=1))
    results.append(ours.submit(9, 0, turn=0))  # in the queue of the other, and being read
    batches = await read_in_order(recogniser, results)
    assert [number for [number] in batches] == [0, 9, 3, 1, 2, 4]
    assert (ours.pool.cache.hits, ours.pool.cache.misses) == (3, 6)
    await ours.close()
