"""Comparing two reports: what counts as a change, and when there is no verdict."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from pagesight._load.compare import Comparison, compare
from pagesight._load.mix import Bytes, Item
from pagesight._load.plan import Plan
from pagesight._load.summary import report
from pagesight._load.tally import Reply, Tally

Report = dict[str, Any]
ITEM = Item(image=b"12345", group=0, bytes_are=Bytes.NEW, priority="normal", deadline_ms=0)


def reported(*latencies_s: float, errors: int = 0, each_s: float = 0.1, **plan: Any) -> Report:
    """A report of answers due one after the other, and errors after them."""
    settings: dict[str, Any] = {
        "groups": [["a.png"]],
        "names": ["a"],
        "rate": 1 / each_s,
        "warmup_s": 0.0,
    }
    counts = Tally(warmup_s=0.0)
    for number, seconds in enumerate([*latencies_s, *[0.01] * errors]):
        due_s = number * each_s
        failed = number >= len(latencies_s)
        counts.on_due(due_s, in_flight=1, sent=True)
        reply = Reply(
            at_s=due_s + seconds,
            code="UNAVAILABLE" if failed else "",
            stages_ms={} if failed else {"total": 500 * seconds},
            server="builtin",
        )
        counts.on_reply(ITEM, (), due_s=due_s, sent_s=due_s, reply=reply)
    counts.close(each_s * (len(latencies_s) + errors))
    read: Report = json.loads(json.dumps(report(counts, Plan(**settings | plan), [])))
    return read


def spread(scale: float, count: int = 2000, **more: Any) -> Report:
    draw = random.Random(7)
    return reported(*(scale * draw.uniform(0.05, 0.15) for _ in range(count)), **more)


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {row.name: row.verdict for row in comparison.rows if row.verdict}


def test_the_same_report_is_no_change() -> None:
    one = spread(1.0)
    comparison = compare(one, one, 0.1)
    assert verdicts(comparison) == dict.fromkeys(
        ("p50 ms", "p90 ms", "p95 ms", "p99 ms", "lost"), "same"
    )
    assert (comparison.verdict, comparison.notes) == ("same", ())
    assert comparison.in_words == "same (too few answers for p999 ms)"
    assert comparison.rows[0].change == 1.0


def test_slower_answers_are_worse_and_quicker_ones_better() -> None:
    slower = compare(spread(1.0), spread(1.5), 0.1)
    assert slower.verdict == "worse"
    assert verdicts(slower)["p50 ms"] == verdicts(slower)["p99 ms"] == "worse"
    assert slower.in_words.startswith("worse: p50 ms worse, p90 ms worse")
    low, high = slower.rows[0].interval or (0, 0)
    assert 1.3 < low < 1.5 < high < 1.7
    quicker = compare(spread(1.5), spread(1.0), 0.1)
    assert quicker.verdict == "better"
    assert verdicts(quicker)["p50 ms"] == "better"
    assert quicker.rows[0].change == pytest.approx(1 / 1.5, rel=0.01)


def test_one_figure_that_is_worse_outweighs_others_that_are_better() -> None:
    comparison = compare(spread(1.5), spread(1.0, errors=100), 0.1)
    assert (verdicts(comparison)["p50 ms"], verdicts(comparison)["lost"]) == ("better", "worse")
    assert comparison.verdict == "worse"


def test_a_change_within_the_tolerance_or_within_chance_is_none() -> None:
    assert compare(spread(1.0), spread(1.08), 0.1).verdict == "same"
    assert compare(spread(1.0), spread(1.08), 0.05).verdict == "worse"
    # The median of 30 answers is uncertain by a fifth; nobody knows the p99 of so few.
    few = compare(spread(1.0, count=30), spread(1.15, count=30), 0.1)
    assert few.verdict == "same"
    assert "p99 ms" not in verdicts(few)
    assert "too few answers for" in few.in_words


def test_slow_answers_in_one_spell_are_not_taken_for_as_many_all_along() -> None:
    calm = spread(1.0)
    along = reported(*(0.3 if n % 8 == 0 else 0.1 for n in range(2000)))
    spell = reported(*(0.3 if 1000 <= n < 1250 else 0.1 for n in range(2000)))
    assert verdicts(compare(calm, along, 0.1))["p90 ms"] == "worse"
    # One stall of the machine in an eighth of the time says little of the server.
    assert verdicts(compare(calm, spell, 0.1)).get("p90 ms") != "worse"


def queue(seed: int, service_s: float) -> Report:
    """One server with work of random length, seven tenths loaded where each takes 70 ms."""
    draw, free_s = random.Random(seed), 0.0
    latencies_s = []
    for number in range(600):
        free_s = max(free_s, number / 10) + draw.expovariate(1 / service_s)
        latencies_s.append(free_s - number / 10)
    return reported(*latencies_s)


@pytest.mark.heavy
def test_runs_of_one_queue_are_the_same_and_those_of_a_slower_one_worse() -> None:
    runs = [queue(seed, 0.07) for seed in range(24)]
    pairs = zip(runs[::2], runs[1::2], strict=True)
    assert [compare(one, other, 0.1).verdict for one, other in pairs] == ["same"] * 12
    slower = [queue(seed, 0.09) for seed in range(50, 54)]
    assert [compare(runs[n], slower[n], 0.1).verdict for n in range(4)] == ["worse"] * 4


def test_too_few_answers_are_no_verdict() -> None:
    comparison = compare(spread(1.0), spread(20.0, count=4), 0.1)
    assert comparison.verdict == "none"
    assert comparison.in_words.startswith("no verdict: too few answers")


def test_more_lost_messages_are_worse_where_chance_does_not_explain_them() -> None:
    calm = spread(1.0, count=100)
    assert verdicts(compare(calm, spread(1.0, count=100, errors=10), 0.1))["lost"] == "worse"
    assert verdicts(compare(spread(1.0, errors=99), spread(1.0), 0.1))["lost"] == "better"
    assert verdicts(compare(calm, spread(1.0, count=100, errors=1), 0.1))["lost"] == "same"
    assert verdicts(compare(spread(1.0, errors=2), spread(1.0, errors=9), 0.1))["lost"] == "same"


def test_a_server_that_answers_nothing_any_more_is_worse() -> None:
    comparison = compare(spread(1.0), reported(errors=200), 0.1)
    assert comparison.verdict == "worse"
    assert comparison.in_words == "worse: lost worse"


def test_a_closed_loop_is_judged_by_the_rate_of_its_answers() -> None:
    before, slower = (
        spread(1.0, count=count, each_s=each_s, rate=None)
        for count, each_s in ((2000, 0.1), (1000, 0.2))
    )
    comparison = compare(before, slower, 0.1)
    assert verdicts(comparison)["answered / s"] == "worse"
    assert verdicts(compare(slower, before, 0.1))["answered / s"] == "better"
    assert verdicts(compare(before, before, 0.1))["answered / s"] == "same"


def knee(rate: float | None, fails_at: float | None) -> Report:
    return spread(1.0, count=20) | {
        "steps": [], "knee": {"rate": rate, "fails_at": fails_at},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        pytest.param((8.0, 9.2), (4.0, 4.6), "worse", id="lower"),
        pytest.param((8.0, 9.2), (9.2, 10.4), "better", id="higher"),
        pytest.param((8.0, 9.2), (7.0, 8.05), "same", id="ranges that overlap"),
        pytest.param((8.0, None), (4.0, 4.6), "worse", id="was not reached"),
        pytest.param((8.0, 9.2), (64.0, None), "better", id="is not reached any more"),
        pytest.param((8.0, 9.2), (None, 1.0), "worse", id="no rate holds any more"),
        pytest.param((8.0, 9.2), (None, None), "none", id="the generator was the bottleneck"),
    ],
)
def test_knees_are_compared_by_the_rates_between_which_they_lie(
    before: tuple[float | None, float | None],
    after: tuple[float | None, float | None],
    verdict: str,
) -> None:
    comparison = compare(knee(*before), knee(*after), 0.1)
    assert comparison.verdict == verdict
    # Latencies at the knees are of different rates.
    assert verdicts(comparison).keys() <= {"knee / s"}


def test_loads_that_differ_have_no_verdict_and_say_why() -> None:
    one, other = spread(1.0), spread(1.5)
    for change, why in (
        ({"rate": 12.0}, "rate: 10 before, 12 after"),
        ({"rate": None, "loop": "closed"}, "rate: 10 before, none after; loop: open before"),
        ({"repeat": 0.5}, "repeat: 0.0 before, 0.5 after"),
        ({"priorities": {"high": 1.0}}, "priorities: None before"),
        ({"timeout_s": 5.0}, "timeout: 60.0 before, 5.0 after"),
    ):
        comparison = compare(one, other | {"plan": other["plan"] | change}, 0.1)
        assert comparison.verdict == "none"
        assert comparison.in_words.startswith(f"no verdict: the loads differ ({why}")
        assert verdicts(comparison) == {}
    bigger = other | {"pictures": other["pictures"] | {"mean_bytes": 500}}
    assert "pictures of 5 bytes before, 500 after" in compare(one, bigger, 0.1).in_words
    assert "one is of several rates" in compare(one, knee(1.0, 2.0), 0.1).in_words
    slo = {"slo": {"p99": {"limit_ms": 100}}}
    assert "targets: " in compare(knee(1.0, 2.0), knee(1.0, 2.0) | slo, 0.1).in_words


def test_a_rate_within_the_tolerance_is_the_same_load() -> None:
    one, other = spread(1.0), spread(1.0)
    other["plan"]["rate"] = 10.9
    assert compare(one, other, 0.1).verdict == "same"


def test_other_conditions_are_pointed_out() -> None:
    one, other = spread(1.0), spread(1.0)
    other["plan"]["duration_s"] = 60.0
    other["machine"] = {"cores": 64, "system": "other"}
    other["pagesight"] = "9.9"
    other["servers"] = {"siglip2": 5}
    other["interrupted"] = True
    comparison = compare(one, other, 0.1)
    assert comparison.verdict == "same"
    text = "\n".join(comparison.notes)
    assert "duration: 30.0 before, 60.0 after" in text
    assert "64, other after" in text
    assert "9.9 after" in text
    assert "answered by: builtin before, siglip2 after" in text
    assert "the second was interrupted" in text


def spoilt(body: Report, text: str) -> Report:
    return body | {"hdr": {"blocks": {"length_s": 1.0, "latency": {"0": text}}}}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(lambda r: [], "it has no stages_ms", id="a list"),
        pytest.param(lambda r: r | {"plan": {}}, r"it has no plan\.rate", id="no plan"),
        pytest.param(
            lambda r: r | {"latency_ms": {}}, r"it has no latency_ms\.max", id="no latencies"
        ),
        pytest.param(
            lambda r: r | {"unsent": "few"}, "its unsent is 'few'", id="a word for a number"
        ),
        pytest.param(
            lambda r: r | {"stages_ms": {"read": 1}}, r"no stages_ms\.read\.p50", id="a stage"
        ),
        *(
            pytest.param(lambda r, t=text: spoilt(r, t), "no histogram", id=text)
            for text in ("abc", "AAAA", "käse")
        ),
        pytest.param(
            lambda r: spoilt(r, r["hdr"]["blocks"]["latency"]["0"][:-8]),
            "no histogram",
            id="a histogram cut short",
        ),
        pytest.param(
            lambda r: r | {"hdr": {"latency": ""}}, r"it has no hdr\.blocks", id="an older version"
        ),
        pytest.param(
            lambda r: r | {"hdr": {"blocks": {}}}, "they are no blocks", id="blocks of nothing"
        ),
    ],
)
def test_what_is_no_report_is_refused_and_says_what_it_lacks(
    spoil: Callable[[Report], object], why: str
) -> None:
    one = spread(1.0, count=10)
    with pytest.raises(ValueError, match=f"the second is no report.json of this version of.*{why}"):
        compare(one, spoil(one), 0.1)
