"""Strips of many screenshots in common batches: none lost, none twice, none for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.threads import WorkerPool
from pagesight_server.inference.ocr.engine import owned
from pagesight_server.inference.ocr.line_pool import LinePool, Recognise
from pagesight_server.inference.ocr.recogniser import Text
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

    def read(self, strips: Sequence[Pixels], width: int) -> list[Text]:
        numbers = [carried(strip) for strip in strips]
        self.batches.append((width, numbers))
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


def pool(*recognisers: Recogniser, config: OcrSettings = SMALL) -> LinePool:
    workers: list[WorkerPool[Recognise]] = [owned([one], name="test") for one in recognisers]
    return LinePool(workers, config)


async def settle() -> None:
    """Lets every task that can run now run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_submitted_together_goes_together_up_to_the_budget() -> None:
    recogniser = Recogniser()
    ours = pool(recogniser)
    texts = await asyncio.gather(*(ours.submit(strip(i), 64, turn=0) for i in range(7)))
    assert [text.text for text in texts] == [str(i) for i in range(7)]
    # 320 columns are five strips of 64.
    assert recogniser.batches == [(64, [0, 1, 2, 3, 4]), (64, [5, 6])]
    assert (ours.batches, ours.strips, ours.columns) == (2, 7, 7 * 64)
    assert len(recogniser.threads) == 1
    await ours.close()


async def test_whoever_is_idle_takes_what_is_there() -> None:
    first, second = Recogniser(free=False), Recogniser(free=False)
    ours = pool(first, second)
    results = [ours.submit(strip(i), 320, turn=i) for i in range(2)]
    await asyncio.gather(first.running(), second.running())  # one strip each, at the same time
    assert ours.depth == 0
    first.let()
    second.let()
    assert [text.text for text in await asyncio.gather(*results)] == ["0", "1"]
    await ours.close()


async def test_the_next_batch_forms_while_one_runs_and_turns_decide_what_goes_first() -> None:
    recogniser = Recogniser(free=False)
    ours = pool(recogniser)
    results = [ours.submit(strip(0), 64, turn=0)]
    await recogniser.running()
    for number, width, turn in ((1, 128, 5), (2, 64, 3), (3, 64, 9), (4, 128, 2), (5, 64, 4)):
        results.append(ours.submit(strip(number), width, turn=turn))
        await settle()
    assert ours.depth == 5
    recogniser.let(3)
    await asyncio.gather(*results)
    # Turn 2 is first and takes the other of its width along.
    assert recogniser.batches == [(64, [0]), (128, [4, 1]), (64, [2, 5, 3])]
    await ours.close()


async def test_cancelled_strips_leave_before_they_cost_anything() -> None:
    recogniser = Recogniser(free=False)
    ours = pool(recogniser)
    running = ours.submit(strip(0), 64, turn=0)
    await recogniser.running()
    waiting = [ours.submit(strip(i), 64, turn=1) for i in range(1, 4)]
    waiting[0].cancel()
    waiting[2].cancel()
    assert ours.depth == 1
    running.cancel()  # runs already: its result is dropped, and nothing breaks
    recogniser.let(2)
    assert (await waiting[1]).text == "2"
    assert recogniser.batches == [(64, [0]), (64, [2])]
    await ours.close()


async def test_a_failure_reaches_its_batch_alone_and_the_next_batch_runs() -> None:
    recogniser = Recogniser(broken=1)
    ours = pool(recogniser)
    results = await asyncio.gather(
        ours.submit(strip(1), 64, turn=0),
        ours.submit(strip(2), 64, turn=0),
        ours.submit(strip(3), 128, turn=1),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [BrokenError, BrokenError, Text]
    await ours.close()


async def test_a_recogniser_that_loses_a_strip_fails_all_of_its_batch() -> None:
    class Forgetful(Recogniser):
        def read(self, strips: Sequence[Pixels], width: int) -> list[Text]:
            return super().read(strips, width)[1:]

    ours = pool(Forgetful())
    results = [ours.submit(strip(i), 64, turn=0) for i in range(2)]
    for result in results:
        with pytest.raises(RuntimeError, match="2 strips gave 1 texts"):
            await result
    await ours.close()


async def test_closing_ends_what_runs_and_cancels_what_waits() -> None:
    recogniser = Recogniser(free=False)
    ours = pool(recogniser)
    running = ours.submit(strip(0), 320, turn=0)
    await recogniser.running()
    waiting = ours.submit(strip(1), 320, turn=1)
    closing = asyncio.create_task(ours.close())
    await settle()
    recogniser.let()
    await closing
    assert running.result().text == "0"
    assert waiting.cancelled()
    assert ours.depth == 0
    with pytest.raises(RuntimeError, match="closed"):
        ours.submit(strip(2), 64, turn=2)


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
)
def test_every_strip_is_answered_once_with_its_own_text(
    submissions: list[Submission],
    recognisers: int,
    max_columns: int,
    sizes: tuple[int, ...],
    broken: int | None,
) -> None:
    config = OcrSettings(widths=SMALL.widths, max_columns=max_columns, sizes=sizes)
    fakes = [Recogniser(broken=broken) for _ in range(recognisers)]

    async def run() -> list[Text | BaseException]:
        ours = pool(*fakes, config=config)
        futures = []
        for one in submissions:
            futures.append(ours.submit(strip(one.number), one.width, turn=one.turn))
            if one.settles:
                await settle()
            if one.cancelled:
                futures[-1].cancel()
        async with asyncio.timeout(WAIT_S):
            results = await asyncio.gather(*futures, return_exceptions=True)
        assert ours.depth == 0
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
        turns = [(by_number[number].turn, number) for number in numbers]
        assert turns == sorted(turns), "not in turn"
    for fake in fakes:
        assert len(fake.threads) <= 1, "a session left its thread"
