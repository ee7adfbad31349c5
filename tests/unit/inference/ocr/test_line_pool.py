"""Strips of many screenshots in common batches: none lost, none twice, none for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.priority import Priority, urgent_as
from pagesight_server.common.threads import WorkerPool
from pagesight_server.common.timings import Run, StageTimes, recording
from pagesight_server.inference.ocr.engine import owned
from pagesight_server.inference.ocr.line_pool import LinePool, Recognise
from pagesight_server.inference.ocr.line_queues import Line, Share
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import OcrSettings
from tests.support import WAIT_S

SMALL = OcrSettings(widths=(64, 128, 320), max_columns=320)


class BrokenError(Exception):
    """What a broken session raises."""


class Recogniser:
    """Says of each strip which number it carries; runs as many batches as it is let.

    Args:
        free: Whether it is let run all batches.
        broken: The number at which it breaks.
        unsure: Numbers that it is unsure of in the network `draft`.
    """

    def __init__(
        self,
        *,
        free: bool = True,
        broken: int | None = None,
        unsure: Collection[int] = (),
    ) -> None:
        self.batches: list[tuple[int, list[int]]] = []
        self.threads: set[str] = set()
        self.started = threading.Semaphore(0)
        self._gate = threading.Semaphore(10**6 if free else 0)
        self._broken = broken
        self._unsure = unsure

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        numbers = [carried(strip) for strip in strips]
        self.batches.append((shape.width, numbers))
        self.threads.add(threading.current_thread().name)
        self.started.release()
        assert self._gate.acquire(timeout=WAIT_S)
        if self._broken in numbers:
            raise BrokenError
        unsure = self._unsure if shape.network == "draft" else ()
        return [Text(str(number), 0.1 if number in unsure else 1.0) for number in numbers]

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
        self.pool = LinePool(workers, config, sure_from=0.5)
        self._open = ExitStack()
        self.shares: list[Share] = []
        for priority in priorities:
            with urgent_as(priority):
                self.shares.append(self._open.enter_context(self.pool.share()))

    def submit(self, *numbers: int, width: int = 64, turn: int) -> asyncio.Future[list[Text]]:
        """Submits lines of these numbers for the screenshot of a turn, all of one width."""
        return self.lines(*((number, width) for number in numbers), turn=turn)

    def lines(self, *lines: tuple[int, int], turn: int) -> asyncio.Future[list[Text]]:
        """Submits lines, each a number and a width, for the screenshot of a turn."""
        return self.pool.submit([line(*one) for one in lines], self.shares[turn])

    async def close(self) -> None:
        await self.pool.close()
        self._open.close()


def line(number: int, width: int, *, draft: bool = False) -> Line:
    """A line that carries a number; with a draft it is read by that first."""
    shapes = [Shape(width, "draft"), Shape(width)] if draft else [Shape(width)]
    return Line(strip(number), number.to_bytes(4), shapes)


def said(texts: Sequence[Text]) -> list[int]:
    """The numbers that texts say."""
    return [int(text.text) for text in texts]


async def settle() -> None:
    """Lets every task that can run now run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_lines_of_a_screenshot_go_together_up_to_the_budget() -> None:
    recogniser = Recogniser()
    ours = Pool(recogniser)
    assert said(await ours.submit(*range(7), turn=0)) == list(range(7))
    # 320 columns are five strips of 64.
    assert recogniser.batches == [(64, [0, 1, 2, 3, 4]), (64, [5, 6])]
    assert (ours.pool.batches, ours.pool.strips, ours.pool.columns) == (2, 7, 7 * 64)
    assert len(recogniser.threads) == 1
    await ours.close()


async def test_texts_come_in_the_order_of_the_lines_whatever_the_order_of_the_batches() -> None:
    recogniser = Recogniser()
    ours = Pool(recogniser)
    texts = await ours.lines((1, 320), (2, 64), (3, 128), (4, 64), (5, 320), turn=0)
    assert said(texts) == [1, 2, 3, 4, 5]
    assert [numbers for _, numbers in recogniser.batches] == [[1], [2, 4], [3], [5]]
    await ours.close()


async def test_a_screenshot_without_lines_and_one_that_is_remembered_need_no_reader() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    assert ours.submit(turn=0).result() == []
    recogniser.let()
    await ours.submit(1, 2, turn=0)
    assert said(ours.submit(2, 1, turn=1).result()) == [2, 1]
    assert len(recogniser.batches) == 1
    await ours.close()


async def test_the_event_loop_hears_of_a_screenshot_once_whatever_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recogniser = Recogniser(unsure=range(0, 200, 2))
    ours = Pool(recogniser)
    loop, calls = asyncio.get_running_loop(), list[object]()
    call_soon = loop.call_soon_threadsafe

    def counted(*arguments: Any, **options: Any) -> asyncio.Handle:
        calls.append(arguments[0])
        return call_soon(*arguments, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    lines = [line(number, 64, draft=True) for number in range(200)]
    texts = await ours.pool.submit(lines, ours.shares[0])
    assert said(texts) == list(range(200))
    assert (len(recogniser.batches), len(calls)) == (60, 1)
    monkeypatch.undo()
    await ours.close()


async def test_a_line_is_read_in_its_shapes_up_to_the_first_text_that_is_sure() -> None:
    recogniser = Recogniser(unsure={2, 3})
    ours = Pool(recogniser)
    lines = [line(number, 64, draft=True) for number in (1, 2)] + [line(3, 64)]
    texts = await ours.pool.submit(lines, ours.shares[0])
    # The draft was unsure of 2; of 3 there is one reading, which is final.
    assert [(text.text, text.confidence) for text in texts] == [("1", 1.0), ("2", 1.0), ("3", 1.0)]
    assert [numbers for _, numbers in recogniser.batches] == [[1, 2], [3, 2]]
    assert (ours.pool.settled, ours.pool.reread) == (2, 1)
    # Both readings are remembered.
    assert ours.pool.submit(lines, ours.shares[0]).result() == texts
    assert (ours.pool.cache.hits, ours.pool.cache.misses) == (4, 4)
    await ours.close()


async def test_whoever_is_idle_takes_what_is_there() -> None:
    first, second = Recogniser(free=False), Recogniser(free=False)
    ours = Pool(first, second)
    results = [ours.submit(i, width=320, turn=i) for i in range(2)]
    await asyncio.gather(first.running(), second.running())  # one strip each, at the same time
    assert ours.pool.depth == 0
    first.let()
    second.let()
    assert [said(texts) for texts in await asyncio.gather(*results)] == [[0], [1]]
    await ours.close()


async def test_the_next_batch_forms_while_one_runs_and_turns_decide_what_goes_first() -> None:
    recogniser = Recogniser(free=False)
    ours = Pool(recogniser)
    results = [ours.submit(0, turn=0)]
    await recogniser.running()
    for number, width, turn in ((1, 128, 5), (2, 64, 3), (3, 64, 9), (4, 128, 2), (5, 64, 4)):
        results.append(ours.submit(number, width=width, turn=turn))
    assert ours.pool.depth == 5
    recogniser.let(3)
    await asyncio.gather(*results)
    # Turn 2 is first and takes the other of its width along.
    assert recogniser.batches == [(64, [0]), (128, [4, 1]), (64, [2, 5, 3])]
    await ours.close()


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


async def test_a_failure_reaches_its_batch_alone_and_the_next_batch_runs() -> None:
    recogniser = Recogniser(broken=1, free=False)
    ours = Pool(recogniser)
    running = ours.submit(0, turn=0)
    await recogniser.running()
    # 1 and 2 share a batch; 3 is of another width.
    results = [ours.submit(1, turn=0), ours.submit(2, turn=1), ours.submit(3, width=128, turn=2)]
    recogniser.let(3)
    ended = await asyncio.gather(running, *results, return_exceptions=True)
    assert [type(one) for one in ended] == [list, BrokenError, BrokenError, list]
    await ours.close()


async def test_the_failure_of_a_line_drops_the_others_of_its_screenshot() -> None:
    recogniser = Recogniser(broken=1)
    ours = Pool(recogniser, config=OcrSettings(widths=(64,), max_columns=64))
    with pytest.raises(BrokenError):
        await ours.submit(*range(1, 1000), turn=0)
    await settle()
    assert ours.pool.depth == 0
    assert said(await ours.submit(2000, turn=1)) == [2000]
    await ours.close()


async def test_a_recogniser_that_loses_a_strip_fails_all_of_its_batch() -> None:
    class Forgetful(Recogniser):
        def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
            return super().read(strips, shape)[1:]

    ours = Pool(Forgetful())
    with pytest.raises(RuntimeError, match="2 strips gave 1 texts"):
        await ours.submit(0, 1, turn=0)
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


async def test_without_a_cache_equal_lines_are_read_one_by_one() -> None:
    recogniser = Recogniser()
    ours = Pool(recogniser, config=replace(SMALL, cache_entries=0))
    assert said(await ours.submit(1, 1, turn=0)) == [1, 1]
    assert said(await ours.submit(1, turn=0)) == [1]
    assert recogniser.batches == [(64, [1, 1]), (64, [1])]
    await ours.close()


async def test_a_run_is_reported_before_its_screenshot_is_told() -> None:
    runs: list[Run] = []
    ours = Pool(Recogniser(unsure={1}, broken=5))
    ours.pool.observe = runs.append
    owner = StageTimes()
    with recording(owner):
        await ours.pool.submit([line(n, 64, draft=True) for n in (1, 2)], ours.shares[0])
    assert [(run.stage, len(run.items), run.failed) for run in runs] == [
        ("recognise", 2, ""),
        ("recognise", 1, ""),
    ]
    assert all(item.owner is owner for run in runs for item in run.items)
    # What is read once more waits from then on.
    assert runs[1].items[0].submitted_s >= runs[0].end_s
    with pytest.raises(BrokenError):
        await ours.submit(5, turn=0)
    assert runs[2].failed == "BrokenError"
    await ours.close()


@dataclass(frozen=True)
class Submission:
    """One call, and what becomes of it."""

    lines: tuple[tuple[int, int], ...]
    """Number and width of each."""
    turn: int
    cancelled: bool
    settles: bool
    """Whether the loop turns before the next."""


lines = st.lists(st.tuples(st.integers(0, 39), st.sampled_from(SMALL.widths)), max_size=6)
submissions = st.lists(
    st.builds(
        Submission,
        lines=lines.map(tuple),
        turn=st.integers(0, 5),
        cancelled=st.booleans(),
        settles=st.booleans(),
    ),
    max_size=20,
)


@settings(max_examples=150)
@given(
    submissions=submissions,
    recognisers=st.integers(1, 3),
    max_columns=st.integers(64, 1000),
    sizes=st.sampled_from([(), (1,), (1, 2, 4), (1, 8)]),
    broken=st.none() | st.integers(0, 39),
    unsure=st.sets(st.integers(0, 39)),
    share_columns=st.sampled_from([1, 300, 10**9]),
    cache_entries=st.sampled_from([0, 2, 1_000]),
)
def test_every_screenshot_is_answered_once_with_its_own_texts(
    submissions: list[Submission],
    recognisers: int,
    max_columns: int,
    sizes: tuple[int, ...],
    broken: int | None,
    unsure: set[int],
    share_columns: int,
    cache_entries: int,
) -> None:
    config = OcrSettings(
        widths=SMALL.widths,
        max_columns=max_columns,
        sizes=sizes,
        share_columns=share_columns,
        cache_entries=cache_entries,
    )
    fakes = [Recogniser(broken=broken, unsure=unsure) for _ in range(recognisers)]

    async def run() -> list[list[Text] | BaseException]:
        ours = Pool(*fakes, config=config)
        futures = []
        for one in submissions:
            drafted = [line(*each, draft=True) for each in one.lines]
            futures.append(ours.pool.submit(drafted, ours.shares[one.turn]))
            if one.settles:
                await settle()
            if one.cancelled:
                futures[-1].cancel()
        async with asyncio.timeout(WAIT_S):
            results = await asyncio.gather(*futures, return_exceptions=True)
        await settle()
        assert ours.pool.depth == 0
        await ours.close()
        return results

    results = asyncio.run(run())
    batches = [batch for fake in fakes for batch in fake.batches]
    shapes = Counter((number, width) for width, numbers in batches for number in numbers)
    if cache_entries == 1_000 and broken is None:
        # By the draft, and where that is unsure once more.
        assert all(times <= 1 + (number in unsure) for (number, _), times in shapes.items()), (
            "a strip ran twice"
        )
    with_broken = {number for _, numbers in batches if broken in numbers for number in numbers}
    for one, result in zip(submissions, results, strict=True):
        if isinstance(result, asyncio.CancelledError):
            assert one.cancelled
        elif isinstance(result, BaseException):
            assert isinstance(result, BrokenError)
            assert with_broken & {number for number, _ in one.lines}
        else:
            assert [(text.text, text.confidence) for text in result] == [
                (str(number), 1.0) for number, _ in one.lines
            ]
            assert all(shapes[line_of] for line_of in one.lines)
    for width, numbers in batches:
        assert len(numbers) == 1 or width * len(numbers) <= max_columns, "over the budget"
        assert not sizes or len(numbers) in sizes
    for fake in fakes:
        assert len(fake.threads) <= 1, "a session left its thread"
