"""Strips of many screenshots in common batches: none lost, none twice, none for nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.timings import Run, StageTimes, recording
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import OcrSettings
from tests.support import WAIT_S
from tests.support.line_pools import SMALL, BrokenError, Pool, Recogniser, line, said, settle


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
