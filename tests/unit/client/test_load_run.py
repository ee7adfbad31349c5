"""Rates tried one after the other, broken off in the middle."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pagesight._load.crew import Crew, Progress
from pagesight._load.mix import Bytes, Item
from pagesight._load.plan import Plan
from pagesight._load.run import Steps, climb
from pagesight._load.tally import Reply, Tally

PLAN = Plan(groups=[["a.png"]], names=["a"], rate=1.0, warmup_s=0.0, duration_s=4.0)
ITEM = Item(image=b"1", group=0, bytes_are=Bytes.NEW, priority="normal", deadline_ms=0)


class FakeCrew:
    """Has every message answered in 10 ms; the run is broken off during its last load."""

    def __init__(self, loads: int) -> None:
        self.rates: list[float | None] = []
        self._loads = loads

    async def run(self, plan: Plan, *, stop: asyncio.Event, progress: Progress) -> Tally:
        """Counts as many messages as there are seconds."""
        self.rates.append(plan.rate)
        if len(self.rates) == self._loads:
            stop.set()
        tally = Tally(warmup_s=0.0)
        for at_s in range(4):
            tally.on_due(at_s, in_flight=1, sent=True)
            tally.on_reply(
                ITEM, (), due_s=at_s, sent_s=at_s, reply=Reply(at_s=at_s + 0.01, code="")
            )
        tally.close(4.0)
        return tally


async def climbed(crew: FakeCrew, rates: tuple[float, ...]) -> dict[str, Any]:
    return await climb(
        cast("Crew", crew), PLAN, [], Steps(rates=rates), asyncio.Event(), lambda *_: None, str
    )


@pytest.mark.parametrize(
    ("broken_off_in", "shown"),
    [
        pytest.param(1, [2.0], id="the first: all that there is"),
        pytest.param(3, [2.0, 4.0], id="a later one: it shows nothing of its rate"),
        pytest.param(9, [2.0, 4.0, 8.0], id="never"),
    ],
)
async def test_a_rate_in_the_middle_of_which_a_run_was_broken_off_is_left_out(
    broken_off_in: int, shown: list[float]
) -> None:
    crew = FakeCrew(broken_off_in)
    report = await climbed(crew, (2.0, 4.0, 8.0))
    assert [row["rate"] for row in report["steps"]] == shown
    assert crew.rates == [2.0, 4.0, 8.0][:broken_off_in]
    assert report["knee"]["rate"] == shown[-1]
