"""From counts to verdicts: histograms, targets, the knee, comparisons and both reports."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from matplotlib.figure import Figure

from pagesight._load import plots, slo
from pagesight._load.histogram import Histogram
from pagesight._load.mix import Bytes, Item
from pagesight._load.page import page
from pagesight._load.plan import Plan
from pagesight._load.summary import report
from pagesight._load.tally import BUCKETS, Reply, Tally, bucket_s, from_plain, to_plain

Report = dict[str, Any]


def counted(*seconds: float) -> Histogram:
    histogram = Histogram()
    for value in seconds:
        histogram.record_s(value)
    return histogram


# --- histograms ---


def test_percentiles_are_within_a_thousandth() -> None:
    histogram = counted(*(n / 1000 for n in range(1, 1001)))  # 1 ms to 1 s
    for share, ms in ((50, 500), (90, 900), (99, 990), (99.9, 999), (100, 1000)):
        assert histogram.percentile_ms(share) == pytest.approx(ms, rel=0.001)
    assert histogram.max_ms == pytest.approx(1000, rel=0.001)
    assert histogram.mean_ms == pytest.approx(500.5, rel=0.001)


def test_nothing_has_no_percentiles() -> None:
    nothing = Histogram()
    assert (nothing.percentile_ms(50), nothing.max_ms, nothing.mean_ms) == (None, None, None)
    assert nothing.interval_ms(99) is None


def test_histograms_of_processes_add_up_exactly() -> None:
    draw = random.Random(1)
    values = [draw.expovariate(20) for _ in range(3000)]
    whole = counted(*values)
    merged = Histogram()
    for part in range(3):
        merged.add(Histogram.decoded(counted(*values[part::3]).encoded()))
    assert merged.curve() == whole.curve()
    assert merged.count == 3000
    assert merged.percentiles_ms([1, 50, 99.9]) == whole.percentiles_ms([1, 50, 99.9])


def test_what_is_longer_than_an_hour_or_negative_is_still_counted() -> None:
    assert counted(-1.0, 0.0, 1e9).count == 3


def test_times_that_are_none_are_counted_too_as_a_server_may_send_some() -> None:
    strange = counted(math.nan, math.inf, -math.inf)
    # 1 µs, 1 µs and an hour.
    assert strange.percentiles_ms([50, 100]) == [0.001, pytest.approx(3_600_000, rel=0.001)]


def test_the_interval_of_a_percentile_is_that_of_its_ranks() -> None:
    # 95 % of 1000 values: p99 has rank 990 ± 1.96 sqrt(1000 · 0.99 · 0.01) = 990 ± 6.2.
    low, high = counted(*(n / 1000 for n in range(1, 1001))).interval_ms(99) or (0, 0)
    assert low == pytest.approx(984, abs=1.5)
    assert high == pytest.approx(996, abs=1.5)


# --- tallies ---

ITEM = Item(image=b"12345", group=0, bytes_are=Bytes.NEW, priority="normal", deadline_ms=0)


def tally(
    *latencies_s: float, errors: int = 0, unsent: int = 0, warmup_s: float = 1.0, each_s: float = 1
) -> Tally:
    """Answers due one after the other, then errors, then what was not sent."""
    counts = Tally(warmup_s=warmup_s)
    for number, took_s in enumerate([*latencies_s, *[0.01] * (errors + unsent)]):
        due_s = warmup_s + number * each_s
        sent = number < len(latencies_s) + errors
        counts.on_due(due_s, in_flight=1, sent=sent)
        if not sent:
            continue
        failed = number >= len(latencies_s)
        reply = Reply(
            at_s=due_s + took_s,
            code="UNAVAILABLE" if failed else "",
            message="<b>gone</b>" if failed else "",
            stages_ms={} if failed else {"encode": 2.0, "total": 1000 * took_s / 2},
            server="builtin <1>",
        )
        counts.on_reply(ITEM, ("path <a>",), due_s=due_s, sent_s=due_s + 0.001, reply=reply)
    counts.cpu_share = [0.1]
    counts.close(warmup_s + each_s * (len(latencies_s) + errors + unsent))
    return counts


def test_a_tally_goes_through_json_unharmed_and_adds_up() -> None:
    one, other = tally(0.1, 0.2, errors=1), tally(0.3, unsent=2)
    read = from_plain(json.loads(json.dumps(to_plain(one))))
    assert to_plain(read) == to_plain(one)
    read.add(from_plain(json.loads(json.dumps(to_plain(other)))))
    assert (read.due, read.sent, read.ok, read.unsent) == (6, 4, 3, 2)
    assert read.errors == {"UNAVAILABLE": 1}
    assert read.latency.curve() == counted(0.1, 0.2, 0.3).curve()
    assert read.stages["encode"].count == 3
    assert read.slices["path <a>"].latency.count == 3
    assert sum(moment.due for moment in read.timeline.values()) == 6
    assert read.cpu_share == [0.1, 0.1]


def test_a_timeline_is_never_long() -> None:
    for length_s in (1.0, 30.0, 119.0, 3600.0, 24 * 3600.0):
        assert length_s / bucket_s(length_s) <= BUCKETS
    late = tally(1e6)
    assert max(late.timeline) <= 2 * BUCKETS


# --- targets ---


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("p99=150ms", "p99", 150),
        ("p50=2s", "p50", 2000),
        ("p99.9 = 1.5 s", "p99.9", 1500),
        ("p999=80ms", "p999", 80),
        ("max=5s", "max", 5000),
        ("mean=500us", "mean", 0.5),
        ("errors=1%", "errors", 0.01),
    ],
)
def test_a_target_is_read(text: str, name: str, limit: float) -> None:
    target = slo.parse(text)
    assert target.name == name
    assert target.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    "text", ["", "p99", "p99=150", "p99=-1ms", "p101=1s", "errors=1", "errors=101%", "rate=5"]
)
def test_what_is_no_target_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="p99=150ms"):
        slo.parse(text)


def test_targets_are_held_against_what_happened() -> None:
    targets = [slo.parse(t) for t in ("p50=20ms", "max=1s", "errors=10%", "p999=3s", "mean=1ms")]
    latencies, shares = slo.judge(targets, counted(0.01, 0.01, 2.0), lost_share=0.1)
    assert {name: result["met"] for name, result in latencies.items()} == {
        "p50": True, "max": False, "p999": True, "mean": False,
    }  # fmt: skip
    assert latencies["p50"]["limit_ms"] == 20
    assert latencies["p50"]["value_ms"] == pytest.approx(10, rel=0.001)
    assert shares == {"errors": {"limit": 0.1, "value": 0.1, "met": True}}


def test_no_latency_is_met_where_nothing_was_answered() -> None:
    latencies, _ = slo.judge([slo.parse("p99=1s")], Histogram(), lost_share=1.0)
    assert latencies == {"p99": {"limit_ms": 1000, "value_ms": None, "met": False}}


# --- report.json ---

PLAN = Plan(groups=[["a.png", "b.png"]], names=["<a>"], rate=1.0, warmup_s=1.0, duration_s=4.0)


def reported(counts: Tally, *targets: str) -> Report:
    built = report(counts, PLAN, [slo.parse(text) for text in targets])
    read: Report = json.loads(json.dumps(built, allow_nan=False))
    return read


def test_report_json_has_what_is_promised() -> None:
    body = reported(tally(0.1, 0.2, 0.3, errors=1, unsent=1), "p99=250ms", "p50=1s", "errors=50%")
    assert body["duration_s"] == 5.0
    assert (body["sent"], body["ok"], body["errors"]) == (4, 3, {"UNAVAILABLE": 1})
    assert body["unsent"] == 1
    assert body["sent"] == body["ok"] + sum(body["errors"].values())
    assert body["rate_offered"] == 1.0
    assert body["rate_achieved"] == 0.6
    assert set(body["latency_ms"]) >= {"p50", "p90", "p95", "p99", "p999", "max"}
    assert body["latency_ms"]["p50"] == pytest.approx(200, rel=0.001)
    assert body["latency_ms"]["max"] == pytest.approx(300, rel=0.001)
    assert body["stages_ms"]["encode"] == {
        "p50": pytest.approx(2, rel=0.001),
        "p99": pytest.approx(2, rel=0.001),
    }
    assert body["slo"] == {
        "p99": {"limit_ms": 250, "value_ms": pytest.approx(300, rel=0.001), "met": False},
        "p50": {"limit_ms": 1000, "value_ms": pytest.approx(200, rel=0.001), "met": True},
    }
    assert body["slo_shares"]["errors"]["value"] == pytest.approx(0.4)
    assert body["slo_met"] is False
    assert body["pictures"] == {
        "files": 2, "distinct_sends": 4, "repeated_sends": 0, "unchanged_sends": 0, "mean_bytes": 5,
    }  # fmt: skip


def test_latency_counts_from_when_it_was_due_and_service_from_when_it_was_sent() -> None:
    body = reported(tally(0.1))
    assert body["latency_ms"]["p50"] - body["service_ms"]["p50"] == pytest.approx(1, abs=0.1)
    assert body["outside_ms"]["p50"] == pytest.approx(50, rel=0.001)


def test_a_report_of_nothing_is_one() -> None:
    body = reported(Tally(warmup_s=1.0), "p99=1s")
    assert (body["sent"], body["rate_achieved"], body["slo_met"]) == (0, 0, False)
    assert body["latency_ms"]["p99"] is None
    assert "<title>" in page(body)


def test_a_generator_that_is_the_bottleneck_says_so() -> None:
    calm = reported(tally(0.1))
    assert not calm["generator"]["saturated"]
    busy = tally(0.1)
    busy.cpu_share = [0.2, 0.97]
    assert "97% of a core" in " ".join(reported(busy)["warnings"])
    late = tally(0.1)
    late.late.record_s(0.5)
    body = reported(late)
    assert body["generator"]["saturated"]
    assert "ms or more after they were due" in " ".join(body["warnings"])


def test_few_answers_and_lost_ones_are_pointed_out() -> None:
    warnings = " ".join(reported(tally(0.1, errors=1, unsent=1))["warnings"])
    assert "estimated from 1 answers" in warnings
    assert "were not sent" in warnings
    assert "percentiles are of answers alone" in warnings


# --- report.html ---


def test_the_bucket_in_which_a_load_ends_has_the_rate_until_its_end() -> None:
    body = reported(tally(*[0.1] * 25, each_s=0.1, warmup_s=0.0))
    assert body["duration_s"] == 2.5
    timeline = [dict(moment, at_s=number) for number, moment in enumerate(body["timeline"])]
    due = plots._due_rates(body | {"timeline": timeline})
    assert due == pytest.approx([10, 10, 10])


class Outline(HTMLParser):
    """What a browser would fetch, run, or take for a tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    return parser


def test_the_page_stands_alone_and_escapes_what_came_from_elsewhere() -> None:
    body = reported(tally(0.1, 0.2, 0.3, errors=1), "p99=250ms", "errors=1%")
    html = page(body)
    read = outline(html)
    assert "script" not in read.tags
    assert "link" not in read.tags
    assert "b" in read.tags  # ours
    assert "<b>gone" not in html
    assert "&lt;b&gt;gone&lt;/b&gt;" in html
    assert "builtin &lt;1&gt;" in html
    assert "path &lt;a&gt;" in html
    assert all(link.startswith("#") for link in read.links)
    assert read.tags.count("svg") == 3
    assert "prefers-color-scheme: dark" in html
    # Every colour of a drawing is one of the page's.
    drawings = html[html.index("<svg") :]
    assert "#0" not in drawings
    assert "var(--ink)" in drawings or "var(--soft)" in drawings


def test_the_page_draws_throughput_against_latency_where_rates_were_tried() -> None:
    body = reported(tally(0.1, 0.2, 0.3))
    row = {
        "rate": 1.0, "held": True, "why_not": "", "rate_offered": 1.0, "rate_achieved": 1.0,
        "sent": 3, "ok": 3, "lost_share": 0.0, "p50_ms": 100.0, "p99_ms": 200.0,
        "latency_growth": None, "limited_by_generator": False,
    }  # fmt: skip
    failed = row | {"rate": 2.0, "held": False, "why_not": "the SLO is missed", "p50_ms": None}
    knee = {
        "rate": 1.0, "fails_at": 2.0, "in_words": "the knee is <here>", "holds_when": "p99 < 1 s",
    }  # fmt: skip
    html = page(body | {"steps": [row, failed], "knee": knee})
    assert outline(html).tags.count("svg") == 4
    assert "the SLO is missed" in html
    assert "The knee is &lt;here&gt;." in html
    assert "p99 &lt; 1 s" in html
    assert "knee: 1 a second<" in html
    assert "not reached up to: 1 a second<" in page(
        body | {"steps": [row], "knee": knee | {"fails_at": None}}
    )


def values(data: Any) -> list[float]:
    return [float(value) for value in data]


def test_the_plot_of_rates_has_the_rate_on_its_axis_and_not_what_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Figure] = []

    def keep(_name: str, _size: object, draw: Callable[[Figure], None]) -> str:
        drawn.append(Figure())
        draw(drawn[-1])
        return ""

    monkeypatch.setattr(plots, "_svg", keep)
    rows = [
        {
            "rate": rate, "rate_achieved": rate / 2, "p50_ms": 10.0, "p99_ms": 20.0,
            "held": rate < 40, "lost_share": lost, "latency_growth": growth,
            "limited_by_generator": False,
        }
        for rate, lost, growth in ((10.0, 0.0, None), (20.0, 0.1, -0.3), (40.0, 0.0, 1.0))
    ]  # fmt: skip
    plots.curve({"steps": rows, "knee": {"rate": 20.0, "fails_at": 40.0}})
    above, below = drawn[0].axes
    p50, *_ = above.lines
    kept_up, *_ = below.lines
    assert values(p50.get_xdata()) == values(kept_up.get_xdata()) == [10, 20, 40]
    # All; less the tenth that is lost; of two seconds' messages one second's is answered in each.
    assert values(kept_up.get_ydata()) == pytest.approx([100, 90, 50])
    [knee] = [line for line in above.lines if str(line.get_label()).startswith("knee")]
    assert values(knee.get_xdata()) == [20, 20]
    # Differences of milliseconds are no peaks.
    low, high = above.get_ylim()
    assert low == pytest.approx(20**0.5)
    assert high == pytest.approx(2000**0.5)


def test_a_target_far_above_the_curve_does_not_press_it_flat() -> None:
    html = page(reported(tally(0.1, 0.2, 0.3), "p90=800ms", "p99=90s"))
    assert "SLO p90 = 800 ms<" in html
    assert "SLO p99 = 90000 ms, above<" in html
    drawing = html[html.index("Latency by percentile") : html.index("Over time")]
    assert ">800<" in drawing  # the last of the marks
    assert ">1000<" not in drawing
