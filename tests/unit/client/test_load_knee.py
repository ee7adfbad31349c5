"""The knee: only what the server does ends the search, and what is said of each end is true."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from pagesight._load import slo
from pagesight._load.blocks import MOST, Blocks
from pagesight._load.crew import Crew, Progress
from pagesight._load.drive import Drive
from pagesight._load.knee import Step, judge
from pagesight._load.mix import Item, Mix
from pagesight._load.plan import Plan
from pagesight._load.run import Steps, climb
from pagesight._load.summary import report
from pagesight._load.tally import Reply, Tally
from tests.support.virtual_time import run_virtually

Send = Callable[[Item], Awaitable[Reply]]


def now_s() -> float:
    return asyncio.get_running_loop().time()


def taking(seconds: float) -> Send:
    """A server that answers any number of messages after the same time."""

    async def send(item: Item) -> Reply:
        await asyncio.sleep(seconds)
        return Reply(at_s=now_s())

    return send


class Workers:
    """A server of so many workers, each of which needs as long for a message.

    Args:
        workers: Messages that are worked on at a time; the others wait in the order of arrival.
        seconds: Time for each.
        most: Messages inside, waiting ones included, beyond which it sheds.
    """

    def __init__(self, workers: int, seconds: float, most: int = 1_000_000) -> None:
        self._free_s = [0.0] * workers
        self._seconds = seconds
        self._most = most
        self._inside = 0

    async def __call__(self, item: Item) -> Reply:
        if self._inside >= self._most:
            return Reply(at_s=now_s(), code="RESOURCE_EXHAUSTED", message="the queue is full")
        self._inside += 1
        worker = self._free_s.index(min(self._free_s))
        self._free_s[worker] = max(now_s(), self._free_s[worker]) + self._seconds
        await asyncio.sleep(self._free_s[worker] - now_s())
        self._inside -= 1
        return Reply(at_s=now_s())


class VirtualCrew:
    """Generates loads against a fake server in virtual time."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def run(self, plan: Plan, *, stop: asyncio.Event, progress: Progress) -> Tally:
        """Runs one load."""
        return await Drive(plan, self._send, Mix([[b"picture"]])).run(stop=stop)


def plan(**changed: Any) -> Plan:
    settings: dict[str, Any] = {
        "groups": [["a"]],
        "names": ["a"],
        "rate": 1.0,
        "arrivals": "constant",
        "warmup_s": 0.0,
        "duration_s": 10.0,
        "in_flight": 10_000,
    }
    return Plan(**(settings | changed))


def climbed(
    send: Send, load: Plan, *, rates: Sequence[float] = (), targets: Sequence[str] = ()
) -> dict[str, Any]:
    crew = cast("Crew", VirtualCrew(send))
    limits = [slo.parse(text) for text in targets]
    steps = Steps(rates=rates)
    return run_virtually(
        climb(crew, load, limits, steps, asyncio.Event(), lambda *_: None, lambda _: None)
    )


def loaded(send: Send, load: Plan) -> dict[str, Any]:
    async def run() -> Tally:
        return await Drive(load, send, Mix([[b"picture"]])).run(stop=asyncio.Event())

    return report(run_virtually(run()), load, [])


# --- what a server that keeps up is told ---


@pytest.mark.parametrize("latency_s", [0.01, 2.0, 7.0])
@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_server_of_constant_latency_holds_at_any_rate_however_short_the_steps(
    latency_s: float, arrivals: str
) -> None:
    load = plan(duration_s=3.0, arrivals=arrivals)
    found = climbed(taking(latency_s), load, rates=(1.0, 5.0, 25.0, 125.0))
    assert [row["held"] for row in found["steps"]] == [True] * 4
    for row in found["steps"]:
        assert row["rate_achieved"] == row["rate_offered"]
        assert row["lost_share"] == 0
    assert (found["knee"]["rate"], found["knee"]["fails_at"]) == (125, None)
    assert found["knee"]["in_words"] == (
        "the knee was not reached: the highest rate that was tried, 125 a second, holds"
    )


def test_answers_to_messages_of_the_warm_up_do_not_count() -> None:
    found = loaded(taking(2.0), plan(rate=10.0, warmup_s=3.0, duration_s=4.0))
    assert (found["sent"], found["rate_offered"], found["rate_achieved"]) == (40, 10, 10)


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_count_of_messages_has_the_rate_of_their_sending(arrivals: str) -> None:
    found = loaded(taking(2.0), plan(rate=10.0, count=5, arrivals=arrivals))
    assert found["rate_achieved"] == found["rate_offered"]
    if arrivals == "constant":
        assert found["rate_offered"] == 10


@pytest.mark.parametrize(
    ("warmup_s", "duration_s"), [(0.0, 1.0), (0.0, 3.0), (0.5, 3.0), (5.0, 10.0)]
)
def test_a_closed_loop_has_the_rate_of_its_answers_however_short_it_is(
    warmup_s: float, duration_s: float
) -> None:
    load = plan(rate=None, in_flight=8, warmup_s=warmup_s, duration_s=duration_s)
    found = loaded(taking(2.0), load)
    # Eight at a time, two seconds each.
    assert found["rate_achieved"] == pytest.approx(4, rel=0.001)
    assert found["rate_offered"] == pytest.approx(4, rel=0.001)
    assert found["latency_growth"] is None


def test_a_few_slow_answers_fail_no_rate() -> None:
    number = 0

    async def send(item: Item) -> Reply:
        nonlocal number
        number += 1
        await asyncio.sleep(5.0 if number == 20 else 0.05)
        return Reply(at_s=now_s())

    found = climbed(send, plan(rate=2.0), rates=(2.0, 4.0, 8.0))
    assert [row["held"] for row in found["steps"]] == [True] * 3


def test_a_cache_that_the_lowest_rate_happens_to_hit_fails_no_rate() -> None:
    number = 0

    async def mostly_remembered(item: Item) -> Reply:
        nonlocal number
        number += 1
        await asyncio.sleep(0.4 if number > 4 and number % 4 == 0 else 0.005)
        return Reply(at_s=now_s())

    found = climbed(mostly_remembered, plan(duration_s=3.0), rates=(1.0, 8.0, 64.0))
    assert [row["held"] for row in found["steps"]] == [True] * 3


# --- where the knee is ---


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [pytest.param(2, 0.1, id="quick"), pytest.param(40, 2.0, id="slow, many at a time")],
)
@pytest.mark.parametrize("first", [1.0, 3.0])
def test_the_knee_is_where_a_backlog_begins_to_grow(
    workers: int, seconds: float, first: float
) -> None:
    found = climbed(Workers(workers, seconds), plan(rate=first, duration_s=8.0))
    # It can do 20 a second; growth of a tenth, about what is found from 22 on, may still hold.
    knee = found["knee"]
    assert 20 / 1.15 <= knee["rate"] <= 23
    assert knee["rate"] < knee["fails_at"] <= 1.16 * knee["rate"]
    assert (
        f"the knee is at {knee['rate']:.4g} a second: {knee['fails_at']:.4g} does not hold"
        in (knee["in_words"])
    )
    assert found["plan"]["rate"] == knee["rate"]
    overloaded = found["steps"][-1]
    assert overloaded["latency_growth"] == pytest.approx(overloaded["rate"] / 20 - 1, rel=0.25)
    assert "it falls behind: latency grew by" in overloaded["why_not"]


def test_a_knee_by_slo_is_where_it_is_still_met() -> None:
    class Slowing:
        """A server whose latency is 10 ms for each message inside."""

        inside = 0

        async def __call__(self, item: Item) -> Reply:
            self.inside += 1
            await asyncio.sleep(0.01 * self.inside)
            self.inside -= 1
            return Reply(at_s=now_s())

    found = climbed(Slowing(), plan(rate=10.0), targets=("p50=15ms",))
    assert found["slo_met"] is True
    # With more than one inside on average: above 100 a second.
    assert 80 <= found["knee"]["rate"] <= 200
    assert "(the SLO is missed: p50)" in found["knee"]["in_words"]


def test_a_server_that_is_overloaded_at_the_first_rate_is_called_so() -> None:
    found = climbed(Workers(1, 0.1), plan(rate=40.0))
    [row] = found["steps"]
    assert (found["knee"]["rate"], found["knee"]["fails_at"]) == (None, 40)
    assert found["knee"]["in_words"].startswith(
        "the server is overloaded at the lowest rate, 40 a second: it falls behind"
    )
    assert found["knee"]["in_words"].endswith("begin lower, with --rate")
    # 10 of 40 a second are done: the last waits 30 s after 10.
    assert row["latency_growth"] == pytest.approx(3, rel=0.1)
    assert any("does not keep up" in warning for warning in found["warnings"])


def test_a_server_that_sheds_is_overloaded_and_one_that_refuses_is_not() -> None:
    shedding = climbed(Workers(1, 0.1, most=3), plan(rate=40.0))
    assert "overloaded" in shedding["knee"]["in_words"]
    assert " x RESOURCE_EXHAUSTED" in shedding["steps"][0]["why_not"]

    async def refusing(item: Item) -> Reply:
        return Reply(at_s=now_s(), code="NOT_FOUND")

    refused = climbed(refusing, plan(rate=2.0))
    assert refused["knee"]["in_words"] == (
        "no rate holds: the lowest rate, 2 a second: nothing was answered, 20 x NOT_FOUND; "
        "begin lower, with --rate"
    )


def test_the_limit_of_messages_in_flight_is_not_the_servers() -> None:
    load = plan(rate=50.0, in_flight=256)
    found = climbed(taking(2.0), load)
    assert (found["knee"]["rate"], found["knee"]["fails_at"]) == (100, None)
    assert found["knee"]["in_words"].startswith(
        "the knee was not reached up to 100 a second: 200 says nothing of the server"
    )
    assert "--in-flight allows more" in found["steps"][-1]["why_not"]
    assert found["steps"][-1]["limited_by_generator"] is True
    # The same limit reached by a server that is too slow is the server's.
    slow = climbed(Workers(1, 0.1), plan(rate=5.0, in_flight=20), rates=(5.0, 100.0))
    assert slow["knee"]["fails_at"] == 100


# --- one rate ---


def measured(*latencies_s: float, each_s: float = 0.1) -> Blocks:
    blocks = Blocks()
    for number, seconds in enumerate(latencies_s):
        blocks.record_s(number * each_s, seconds)
    return blocks


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"ok": 99, "errors": {"INTERNAL": 1}}, ""),
        ({"ok": 98, "errors": {"INTERNAL": 2}}, "2.0% had no answer, 2 x INTERNAL"),
        ({"ok": 98, "errors": {"INTERNAL": 2}, "slo_missed": (), "limits_errors": True}, ""),
        (
            {"ok": 98, "errors": {"INTERNAL": 2}, "slo_missed": ("errors",), "limits_errors": True},
            "the SLO is missed: errors",
        ),
        ({"blocks": measured(*[0.5] * 100)}, "p95 is more than 4 times that at the lowest rate"),
        ({"blocks": measured(*[0.5] * 100), "slo_missed": ()}, ""),
        ({"slo_missed": ("p99", "max")}, "the SLO is missed: p99, max"),
        ({"ok": 0, "errors": {"INTERNAL": 100}}, "nothing was answered, 100 x INTERNAL"),
    ],
)
def test_why_a_rate_does_not_hold(changed: dict[str, Any], why: str) -> None:
    values: dict[str, Any] = {"due": 100, "ok": 100, "blocks": measured(*[0.1] * 100)}
    judgement = judge(Step(**(values | changed)), Step(**values))
    assert (judgement.why_not, judgement.holds, judgement.by_generator) == (why, not why, False)


@pytest.mark.parametrize(
    ("generator", "why"),
    [
        ({"late_ms": 300.0}, "the generator sent 300 ms late by itself"),
        ({"generator_share": 0.97}, "the generator used 97% of a core"),
    ],
)
def test_a_rate_at_which_the_generator_is_late_says_nothing(
    generator: dict[str, Any], why: str
) -> None:
    lowest = Step(due=100, ok=100, blocks=measured(*[0.1] * 100))
    slow = Step(due=100, ok=100, blocks=measured(*[0.5] * 100), **generator)
    judgement = judge(slow, lowest)
    assert judgement.by_generator
    assert judgement.why_not.startswith(why)
    # It sustained what it did sustain.
    assert judge(Step(due=100, ok=100, blocks=lowest.blocks, **generator), lowest).holds


# --- blocks ---


def test_latency_that_grows_is_told_from_latency_that_varies() -> None:
    assert measured(*(0.03 * n for n in range(100))).growth() == pytest.approx(0.3, rel=0.05)
    assert measured(*[2.0] * 100).growth() == 0
    assert measured(*(0.1 + 0.3 * (n % 7) for n in range(100))).growth() == 0
    # Ten in each half are the fewest that have an interval.
    assert measured(*(0.5 * n for n in range(12))).growth() is None


def test_a_percentile_of_answers_that_are_alike_in_time_is_less_certain() -> None:
    mixed = measured(*(0.1 + 0.01 * (n % 10) for n in range(1000)))
    in_spells = measured(*(0.1 + 0.01 * (n // 100) for n in range(1000)))
    assert mixed.whole() == in_spells.whole()
    low, high = mixed.interval_ms(50) or (0, 0)
    lower, higher = in_spells.interval_ms(50) or (0, 0)
    assert low == pytest.approx(140, rel=0.01)
    assert high == pytest.approx(150, rel=0.01)
    assert lower <= 120
    assert higher >= 170
    assert measured(*[0.1] * 9).interval_ms(50) is None


def test_blocks_of_processes_merge_exactly_whatever_their_lengths() -> None:
    whole, one, other = Blocks(), Blocks(), Blocks()
    for number in range(700):
        part = one if number < 50 or number % 2 else other
        for blocks in (whole, part):
            blocks.record_s(number / 10, 0.01 * (number % 13))
    short = Blocks.from_plain(other.plain())
    short.add(one)
    one.add(other)
    assert one.plain() == short.plain() == whole.plain()
    assert len(whole.plain()["latency"]) <= MOST


def test_the_rate_of_answers_is_certain_to_the_spread_of_the_blocks() -> None:
    low, high = measured(*[0.1] * 200).rate_interval() or (0.0, 0.0)
    assert low <= 10 <= high
    assert high - low < 0.5
    assert measured(0.1, each_s=1.0).rate_interval() is None


@pytest.mark.parametrize(
    "plain",
    [{}, {"length_s": 1, "latency": []}, {"length_s": 0, "latency": {}},
     {"length_s": 1, "latency": {"20": "x"}}, {"length_s": "long", "latency": {}}],
    ids=str,
)  # fmt: skip
def test_what_are_no_blocks_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no blocks"):
        Blocks.from_plain(plain)
