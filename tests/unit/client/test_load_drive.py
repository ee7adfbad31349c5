"""The generator in virtual time: what it sends, what it counts, and that a stall cannot hide."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pagesight._load.drive import Drive, Part
from pagesight._load.mix import Item, Mix
from pagesight._load.plan import Plan
from pagesight._load.tally import Reply, Tally
from tests.support.virtual_time import run_virtually

Send = Callable[[Item], Awaitable[Reply]]


def now_s() -> float:
    return asyncio.get_running_loop().time()


class OneAtATime:
    """A server that needs 10 ms for each, and once stands still for a second."""

    def __init__(self, stall_at_s: float) -> None:
        self._free_s = 0.0
        self._stall_at_s: float | None = stall_at_s

    async def __call__(self, item: Item) -> Reply:
        begins_s = max(now_s(), self._free_s)
        if self._stall_at_s is not None and begins_s >= self._stall_at_s:
            begins_s, self._stall_at_s = begins_s + 1.0, None
        self._free_s = begins_s + 0.01
        await asyncio.sleep(self._free_s - now_s())
        return Reply(at_s=now_s(), stages_ms={"total": 10.0})


def taking(seconds: float) -> Send:
    async def send(item: Item) -> Reply:
        await asyncio.sleep(seconds)
        return Reply(at_s=now_s())

    return send


def plan(**changed: Any) -> Plan:
    settings: dict[str, Any] = {
        "groups": [["a"]],
        "names": ["a"],
        "warmup_s": 0.0,
        "duration_s": 10.0,
    }
    return Plan(**(settings | changed))


def driven(
    load: Plan, send: Send, *, part: Part | None = None, stop_after_s: float | None = None
) -> Tally:
    async def run() -> Tally:
        stop = asyncio.Event()
        if stop_after_s is not None:
            asyncio.get_running_loop().call_later(stop_after_s, stop.set)
        return await Drive(load, send, Mix([[b"picture"]]), part).run(stop=stop)

    return run_virtually(run())


def ms(tally: Tally, share: float) -> float:
    percentile_ms = tally.latency.percentile_ms(share)
    assert percentile_ms is not None
    return percentile_ms


def test_a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() -> None:
    opened = driven(plan(rate=50.0, arrivals="constant"), OneAtATime(stall_at_s=5.0))
    # 500 messages; the 100 due from the stall on wait 1010, 1000, 990 ... ms longer.
    assert opened.ok == 500
    assert ms(opened, 50) == pytest.approx(10, rel=0.01)
    assert 950 < ms(opened, 99) < 1000
    closed = driven(plan(in_flight=1), OneAtATime(stall_at_s=5.0))
    # 900 messages, one of which took a second: nobody else was there to wait.
    assert closed.ok == pytest.approx(900, abs=2)
    assert ms(closed, 50) == pytest.approx(10, rel=0.01)
    assert ms(closed, 99) == pytest.approx(10, rel=0.01)
    assert closed.latency.max_ms == pytest.approx(1010, rel=0.01)


def test_what_the_generator_itself_is_late_counts_and_is_told() -> None:
    async def run() -> Tally:
        loop: Any = asyncio.get_running_loop()

        def hang() -> None:  # the loop is busy for 0.5 s of its clock
            loop._virtual.now_s += 0.5

        loop.call_later(2.0, hang)
        load = plan(rate=100.0, arrivals="constant", duration_s=4.0)
        return await Drive(load, taking(0.001), Mix([[b"x"]])).run(stop=asyncio.Event())

    tally = run_virtually(run())
    assert tally.sent == tally.ok == 400
    late_ms, service_ms = tally.late.percentile_ms(99), tally.service.percentile_ms(99)
    assert late_ms is not None
    assert service_ms is not None
    assert late_ms > 400
    assert ms(tally, 99) > 400
    assert service_ms < 2
    assert tally.loop_lag.max_ms == pytest.approx(500, rel=0.1)


def test_the_warm_up_is_sent_and_not_counted() -> None:
    sent: list[float] = []

    async def slow_at_first(item: Item) -> Reply:
        sent.append(now_s())
        await asyncio.sleep(2.0 if len(sent) <= 20 else 0.01)
        return Reply(at_s=now_s())

    load = plan(rate=10.0, arrivals="constant", warmup_s=2.0, duration_s=3.0)
    tally = driven(load, slow_at_first)
    assert len(sent) == 50
    assert (tally.warmup_sent, tally.due, tally.sent, tally.ok) == (20, 30, 30, 30)
    assert ms(tally, 100) < 20
    assert tally.window_s == pytest.approx(3.0)


def test_what_cannot_be_sent_is_counted_not_dropped() -> None:
    load = plan(rate=10.0, arrivals="constant", duration_s=2.0, in_flight=3)
    tally = driven(load, taking(100.0))
    assert (tally.due, tally.sent, tally.unsent) == (20, 3, 17)
    assert tally.ok == 3  # however late
    assert tally.answers_within == pytest.approx(0.06, rel=0.05)  # 2 s of 100 s each


def test_a_closed_loop_keeps_as_many_in_flight_as_asked() -> None:
    most = now = 0

    async def send(item: Item) -> Reply:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.1)
        now -= 1
        return Reply(at_s=now_s())

    tally = driven(plan(streams=2, in_flight=3, duration_s=5.0), send)
    assert most == 6
    assert tally.ok == pytest.approx(300, abs=6)
    assert tally.answers_within == pytest.approx(300, abs=1)


@pytest.mark.parametrize("rate", [None, 20.0])
def test_a_count_ends_the_run(rate: float | None) -> None:
    tally = driven(plan(rate=rate, count=30, in_flight=20), taking(0.1))
    assert tally.sent == tally.ok == 30
    assert tally.window_s is not None
    assert tally.window_s < 5


def test_processes_share_rate_count_and_streams() -> None:
    load = plan(rate=30.0, arrivals="constant", count=31, streams=3)
    tallies = [driven(load, taking(0.01), part=Part(number=n, of=3)) for n in range(3)]
    assert [tally.sent for tally in tallies] == [11, 10, 10]


@pytest.mark.parametrize("rate", [None, 20.0])
def test_a_run_that_is_broken_off_tells_what_it_has(rate: float | None) -> None:
    answered = 0

    async def ten_answers(item: Item) -> Reply:
        nonlocal answered
        answered += 1
        await asyncio.sleep(0.2 if answered <= 10 else 1000.0)
        return Reply(at_s=now_s())

    tally = driven(plan(rate=rate, in_flight=100), ten_answers, stop_after_s=4.0)
    assert tally.ok == 10
    assert tally.errors == {"CANCELLED": tally.sent - 10}
    assert tally.window_s == pytest.approx(4.0)


def test_errors_are_counted_by_status_and_are_no_latencies() -> None:
    number = 0

    async def every_fourth_fails(item: Item) -> Reply:
        nonlocal number
        number += 1
        if number % 4 == 0:
            return Reply(at_s=now_s(), code="RESOURCE_EXHAUSTED", message=f"full, {number}")
        if number == 5:
            raise RuntimeError("a bug of ours")
        await asyncio.sleep(0.05)
        return Reply(at_s=now_s())

    tally = driven(plan(rate=20.0, arrivals="constant", count=40), every_fourth_fails)
    assert tally.errors == {"RESOURCE_EXHAUSTED": 10, "INTERNAL": 1}
    assert tally.sent == 40
    assert tally.ok == tally.latency.count == 29
    assert tally.examples["RESOURCE_EXHAUSTED"] == "full, 4"
    assert "a bug of ours" in tally.examples["INTERNAL"]
