"""Strips of many screenshots in common batches: none lost, none twice, none for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.priority import Priority, urgent_as
from pagesight_server.common.threads import WorkerPool
from pagesight_server.inference.ocr.engine import owned
from pagesight_server.inference.ocr.line_pool import LinePool, Recognise, Share
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import OcrSettings
from tests.support import WAIT_S

SMALL = OcrSettings(widths=(64, 128, 320), max_columns=320)


class BrokenError(Exception):
    """What a broken session raises."""


class Recogniser:
    """Says of each strip which number it carries; runs as many batches as it is let."""

    def __init__(self, *, free: bool = True, broken: int | None = None) -> None:
        self.batches: list[tuple[int, list[int]]] = []
        self.threads: set[str] = set()
        self.started = threading.Semaphore(0)
        self._gate = threading.Semaphore(10**6 if free else 0)
        self._broken = broken

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        numbers = [carried(strip) for strip in strips]
        self.batches.append((shape.width, numbers))
        self.threads.add(threading.current_thread().name)
        self.started.release()
        assert self._gate.acquire(timeout=WAIT_S)
        if self._broken in numbers:
            raise BrokenError
        return [Text(str(number), 1.0) for number in numbers]

    def let(self, runs: int = 1) -> None:
        self._gate.release(runs)

    async def running(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=WAIT_S)


def strip(number: int, width: int = 10) -> Pixels:
    """A strip that carries a number."""
    pixels = np.zeros((48, width, 3), np.uint8)
    pixels[0, 0] = (number // 65536, number // 256 % 256, number % 256)
    return pixels


def carried(pixels: Pixels) -> int:
    high, middle, low = (int(value) for value in pixels[0, 0])
    return high * 65536 + middle * 256 + low


class Pool:
    """A pool, and screenshots that are being read: the one of turn 0 came first."""

    def __init__(
        self,
        *recognisers: Recogniser,
        config: OcrSettings = SMALL,
        priorities: Sequence[Priority] = (Priority.NORMAL,) * 10,
    ) -> None:
        workers: list[WorkerPool[Recognise]] = [owned([one], name="test") for one in recognisers]
        self.pool = LinePool(workers, config)
        self._open = ExitStack()
        self.shares: list[Share] = []
        for priority in priorities:
            with urgent_as(priority):
                self.shares.append(self._open.enter_context(self.pool.share()))

    def submit(self, number: int, width: int, *, turn: int) -> asyncio.Future[Text]:
        """Submits the strip of a number for the screenshot of a turn."""
        self.want(number, turn=turn)
        return self.pool.submit(strip(number), Shape(width), key=key(number))

    def want(self, number: int, *, turn: int) -> None:
        """Has another screenshot wait for the strip of a number, too."""
        self._open.enter_context(self.pool.wanted(key(number), self.shares[turn]))

    async def close(self) -> None:
        await self.pool.close()
        self._open.close()


def key(number: int) -> bytes:
    return number.to_bytes(4)


async def settle() -> None:
    """Lets every task that can run now run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_submitted_together_goes_together_up_to_the_budget() -> None:
    recogniser = Recogniser()
    ours = Pool(recogniser)
    texts = await asyncio.gather(*(ours.submit(i, 64, turn=0) for i in range(7)))
    assert [text.text for text in texts] == [str(i) for i in range(7)]
    # 320 columns are five strips of 64.
    assert recogniser.batches == [(64, [0, 1, 2, 3, 4]), (64, [5, 6])]
    assert (ours.pool.batches, ours.pool.strips, ours.pool.columns) == (2, 7, 7 * 64)
    assert len(recogniser.threads) == 1
    await ours.close()


async def test_whoever_is_idle_takes_what_is_there() -> None:
    first, second = Recogniser(free=False), Recogniser(free=False)
    ours = Pool(first, second)
    results = [ours.submit(i, 320, turn=i) for i in range(2)]
    await asyncio.gather(first.running(), second.running())  # one strip each, at the same time
    assert ours.pool.depth == 0
    first.let()
    second.let()
    assert [text.text for text in await asyncio.gather(*results)] == ["0", "1"]
    await ours.close()


async def test_the_next_batch_forms_while_one_runs_and_turns_decide_what_goes_first() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    results = [ours.submit(0, 64, turn=0)]
    await recogniser.running()
    for number, width, turn in ((1, 128, 5), (2, 64, 3), (3, 64, 9), (4, 128, 2), (5, 64, 4)):
        results.append(ours.submit(number, width, turn=turn))
        await settle()
    assert ours.pool.depth == 5
    recogniser.let(3)
    await asyncio.gather(*results)
    # Turn 2 is first and takes the other of its width along.
    assert recogniser.batches == [(64, [0]), (128, [4, 1]), (64, [2, 5, 3])]
    await ours.close()


async def test_cancelled_strips_leave_before_they_cost_anything() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    running = ours.submit(0, 64, turn=0)
    await recogniser.running()
    waiting = [ours.submit(i, 64, turn=1) for i in range(1, 4)]
    waiting[0].cancel()
    waiting[2].cancel()
    assert ours.pool.depth == 1
    running.cancel()  # runs already: its result is dropped, and nothing breaks
    recogniser.let(2)
    assert (await waiting[1]).text == "2"
    assert recogniser.batches == [(64, [0]), (64, [2])]
    await ours.close()


async def test_a_failure_reaches_its_batch_alone_and_the_next_batch_runs() -> None:
    recogniser = Recogniser(broken=1)
    ours = Pool(recogniser)
    results = await asyncio.gather(
        ours.submit(1, 64, turn=0),
        ours.submit(2, 64, turn=0),
        ours.submit(3, 128, turn=1),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [BrokenError, BrokenError, Text]
    await ours.close()


async def test_a_recogniser_that_loses_a_strip_fails_all_of_its_batch() -> None:
    class Forgetful(Recogniser):
        def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
            return super().read(strips, shape)[1:]

    ours = Pool(Forgetful())
    results = [ours.submit(i, 64, turn=0) for i in range(2)]
    for result in results:
        with pytest.raises(RuntimeError, match="2 strips gave 1 texts"):
            await result
    await ours.close()


async def test_closing_ends_what_runs_and_cancels_what_waits() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    running = ours.submit(0, 320, turn=0)
    await recogniser.running()
    waiting = ours.submit(1, 320, turn=1)
    closing = asyncio.create_task(ours.close())
    await settle()
    recogniser.let()
    await closing
    assert running.result().text == "0"
    assert waiting.cancelled()
    assert ours.pool.depth == 0
    with pytest.raises(RuntimeError, match="closed"):
        ours.submit(2, 64, turn=2)


async def read_in_order(recogniser: Recogniser, results: Sequence[Any]) -> list[list[int]]:
    """The numbers of each batch, once all is read."""
    recogniser.let(len(results))
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*results)
    return [numbers for _, numbers in recogniser.batches]


async def test_much_text_of_one_screenshot_lets_those_go_first_that_have_had_less() -> None:
    # Two strips of 64 make a batch, and four a screenshot's share.
    config = OcrSettings(widths=(64,), max_columns=128, share_columns=256)
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser, config=config)
    results = [ours.submit(number, 64, turn=0) for number in range(12)]
    await recogniser.running()
    await settle()
    results += [ours.submit(number, 64, turn=1) for number in range(100, 106)]
    results += [ours.submit(number, 64, turn=2) for number in range(200, 202)]
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
    results = [ours.submit(number, 64, turn=0) for number in range(4)]
    await recogniser.running()
    await settle()
    results += [ours.submit(number, 64, turn=1) for number in range(10, 13)]
    results += [ours.submit(number, 64, turn=2) for number in range(20, 26)]
    batches = await read_in_order(recogniser, results)
    numbers = [number for [number] in batches]
    assert numbers == [0, 20, 21, 22, 23, 24, 25, 10, 11, 12, 1, 2, 3]
    await ours.close()


async def test_what_is_due_later_leaves_cores_to_finding_what_goes_first() -> None:
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    recogniser = Recogniser()
    ours = Pool(recogniser, config=config)
    # The first has had its share of one strip; of the third nothing is known yet.
    await ours.submit(0, 64, turn=0)
    with ours.pool.finding(ours.shares[2]):
        later = [ours.submit(number, 64, turn=0) for number in (1, 2, 3)]
        await settle()
        assert not any(result.done() for result in later)
        # What is due before what is being found is read at once.
        assert (await ours.submit(100, 64, turn=1)).text == "100"
        with ours.pool.finding(ours.shares[2]):
            pass  # a part is done, so a batch may run before the next
        assert (await later[0]).text == "1"
        assert (await later[1]).text == "2"  # the fourth batch is of the oldest in any case
        await settle()
        assert not later[2].done()
    assert [text.text for text in await asyncio.gather(*later)] == ["1", "2", "3"]
    await ours.close()


async def test_of_many_recognisers_a_few_are_left_idle_for_finding() -> None:
    recognisers = [Recogniser(free=False) for _ in range(4)]
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    ours = Pool(*recognisers, config=config)
    results = [ours.submit(0, 64, turn=0)]
    await recognisers[-1].running()
    with ours.pool.finding(ours.shares[1]):
        results += [ours.submit(number, 64, turn=0) for number in range(1, 8)]
        await settle()
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
        results = [ours.submit(number, 64, turn=0) for number in range(8)]
        assert [text.text for text in await asyncio.gather(*results)] == list("01234567")
    await ours.close()


async def test_a_strip_in_common_is_due_when_it_is_of_any_screenshot_and_read_once() -> None:
    recogniser = Recogniser(free=False)
    config = OcrSettings(widths=(64,), max_columns=64, share_columns=64)
    priorities = [Priority.LOW, Priority.HIGH]
    ours = Pool(recogniser, config=config, priorities=priorities)
    results = [ours.submit(number, 64, turn=0) for number in range(5)]
    await recogniser.running()
    await settle()
    ours.want(3, turn=1)
    ours.want(9, turn=1)  # to be submitted by the other in a moment
    results.append(ours.submit(9, 64, turn=0))
    batches = await read_in_order(recogniser, results)
    assert [number for [number] in batches] == [0, 3, 9, 1, 2, 4]
    await ours.close()


@dataclass(frozen=True)
class Submission:
    """One call, and what becomes of it."""

    number: int
    width: int
    turn: int
    cancelled: bool
    settles: bool
    """Whether the loop turns before the next."""


submissions = st.lists(
    st.tuples(st.sampled_from(SMALL.widths), st.integers(0, 5), st.booleans(), st.booleans()),
    max_size=40,
).map(lambda drawn: [Submission(number, *rest) for number, rest in enumerate(drawn)])


@settings(max_examples=150)
@given(
    submissions=submissions,
    recognisers=st.integers(1, 3),
    max_columns=st.integers(64, 1000),
    sizes=st.sampled_from([(), (1,), (1, 2, 4), (1, 8)]),
    broken=st.none() | st.integers(0, 39),
    share_columns=st.sampled_from([1, 300, 10**9]),
)
def test_every_strip_is_answered_once_with_its_own_text(
    submissions: list[Submission],
    recognisers: int,
    max_columns: int,
    sizes: tuple[int, ...],
    broken: int | None,
    share_columns: int,
) -> None:
    config = OcrSettings(
        widths=SMALL.widths, max_columns=max_columns, sizes=sizes, share_columns=share_columns
    )
    fakes = [Recogniser(broken=broken) for _ in range(recognisers)]

    async def run() -> list[Text | BaseException]:
        ours = Pool(*fakes, config=config)
        futures = []
        for one in submissions:
            futures.append(ours.submit(one.number, one.width, turn=one.turn))
            if one.settles:
                await settle()
            if one.cancelled:
                futures[-1].cancel()
        async with asyncio.timeout(WAIT_S):
            results = await asyncio.gather(*futures, return_exceptions=True)
        assert ours.pool.depth == 0
        await ours.close()
        return results

    results = asyncio.run(run())
    batches = [batch for fake in fakes for batch in fake.batches]
    ran = [number for _, numbers in batches for number in numbers]
    assert len(ran) == len(set(ran)), "a strip ran twice"
    with_broken = {number for _, numbers in batches if broken in numbers for number in numbers}
    for one, result in zip(submissions, results, strict=True):
        if isinstance(result, asyncio.CancelledError):
            assert one.cancelled
        elif isinstance(result, BaseException):
            assert isinstance(result, BrokenError)
            assert one.number in with_broken
        else:
            assert result.text == str(one.number)
            assert one.number in ran
    by_number = {one.number: one for one in submissions}
    for width, numbers in batches:
        assert {by_number[number].width for number in numbers} == {width}, "padded further"
        assert len(numbers) == 1 or width * len(numbers) <= max_columns, "over the budget"
        assert not sizes or len(numbers) in sizes
        if share_columns == 10**9:
            turns = [(by_number[number].turn, number) for number in numbers]
            assert turns == sorted(turns), "not in turn"
    for fake in fakes:
        assert len(fake.threads) <= 1, "a session left its thread"
