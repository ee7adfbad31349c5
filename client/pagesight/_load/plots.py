"""The plots of report.html; the only importer of matplotlib, which is slow to import.

    report ──> Figure ──> SVG, its colours replaced by CSS variables of the page

So the same plot fits a light and a dark page, and its text remains text.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pagesight._load.histogram import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pagesight._load.summary import Report

# Placeholder colours that occur nowhere else, so that they can be replaced in the SVG.
INK, SOFT, LINE = "#010101", "#020202", "#030303"
FIRST, SECOND, GOOD, BAD = "#040404", "#050505", "#060606", "#070707"
_VARIABLES = {
    INK: "--ink", SOFT: "--soft", LINE: "--line",
    FIRST: "--first", SECOND: "--second", GOOD: "--good", BAD: "--bad",
}  # fmt: skip
_STAGES = (
    "queue", "decode", "encode", "detect", "recognise", "read", "search", "evidence", "decide",
    "total",
)  # fmt: skip
"""The server's stages in the order of the pipeline (pagesight/v1/classifier.proto)."""
FAR = 3.0
"""Ratio of a target to the longest latency above which it is not drawn to scale: the curve would be
flattened to less than a third of the height."""
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def percentiles(report: Report) -> str:
    """Latency by percentile, from the due time and from the send time of messages."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        curves = (
            ("latency", FIRST, "from the due time"),
            ("service", SECOND, "from the send time"),
        )
        most, longest_ms = 1, 0.0
        for name, colour, label in curves:
            histogram = Histogram.decoded(report["hdr"][name])
            most, longest_ms = max(most, histogram.count), max(longest_ms, histogram.max_ms or 0.0)
            xs, ys = _by_nines(histogram)
            dashed = "--" if name == "service" else "-"
            axes.plot(xs, ys, dashed, color=colour, label=label, drawstyle="steps-pre")
        # A target far above the curve would flatten it: it becomes an arrow at the upper edge.
        top_ms = max(
            [1.1 * longest_ms]
            + [1.1 * ms for _, _, ms in _limits(report) if ms <= FAR * longest_ms]
        )  # fmt: skip
        last = max(10.0, float(most))
        for name, share, limit_ms in _limits(report):
            shape, at_ms = ("v", limit_ms) if limit_ms < top_ms else ("^", 0.96 * top_ms)
            above = "" if limit_ms < top_ms else ", above"
            axes.plot(
                [min(1 / (1 - share / 100), last)], [at_ms], shape, markersize=8, clip_on=False,
                color=GOOD if report["slo"][name]["met"] else BAD,
                label=f"SLO {name} = {limit_ms:g} ms{above}",
            )  # fmt: skip
        ticks = [share for share in (0, 50, 90, 99, 99.9, 99.99, 99.999) if _fits(share, most)]
        axes.set_xscale("log")
        axes.set_xticks([1 / (1 - share / 100) for share in ticks], [f"{s:g} %" for s in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(1, last)
        axes.set_ylim(0, top_ms or 1.0)
        axes.set_xlabel("share of answers that took no longer")
        axes.set_ylabel("ms")
        axes.tick_params(axis="x", pad=7)
        _legend(axes, 4)

    return _svg("percentiles", (9.2, 3.4), draw)


def timeline(report: Report) -> str:
    """Latency, rates of messages due, answered and lost, and messages in flight, over time."""
    moments: list[dict[str, Any]] = report["timeline"]

    def draw(figure: Figure) -> None:
        above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1])
        at = [moment["at_s"] + moment["length_s"] / 2 for moment in moments]
        for key, colour, label in (
            ("p50_ms", FIRST, "p50"), ("p99_ms", SECOND, "p99"), ("max_ms", SOFT, "max"),
        ):  # fmt: skip
            values = [math.nan if m[key] is None else m[key] for m in moments]
            thin = 0.8 if key == "max_ms" else 1.8
            above.plot(at, values, ".-", color=colour, label=label, linewidth=thin, markersize=4)
        above.set_ylim(bottom=0)
        above.set_ylabel("latency in ms, by due time")
        _legend(above, 3)

        def rate(key: str) -> list[float]:
            return [moment[key] / moment["length_s"] for moment in moments]

        middle.plot(at, _due_rates(report), color=SOFT, label="due", linewidth=1)
        middle.plot(at, rate("ok"), color=GOOD, label="answered")
        lost = [a + b for a, b in zip(rate("failed"), rate("unsent"), strict=True)]
        if any(lost):
            middle.plot(at, lost, color=BAD, label="failed or not sent")
        middle.set_ylim(bottom=0)
        middle.set_ylabel("a second")
        _legend(middle, 3)
        # Known when a message is due: not after the end of the sending.
        most = [m["in_flight"] if m["due"] else math.nan for m in moments]
        below.plot(at, most, color=SECOND, linewidth=1.2)
        below.set_ylim(bottom=0)
        below.set_ylabel("in flight")
        below.set_xlabel("seconds from the start of the measured time")
        for axes in (above, middle, below):
            if moments and moments[0]["at_s"] < 0:
                axes.axvspan(moments[0]["at_s"], 0, color=LINE, alpha=0.5, linewidth=0)
            axes.axvline(report["duration_s"], color=SOFT, linewidth=0.8, linestyle=":")

    return _svg("timeline", (9.2, 5.6), draw)


def _due_rates(report: Report) -> list[float]:
    """Messages due a second; of the bucket in which the load ends, until its end."""
    rates = []
    for moment in report["timeline"]:
        covered_s = min(moment["length_s"], report["duration_s"] - moment["at_s"])
        rates.append(moment["due"] / (covered_s if covered_s > 0 else moment["length_s"]))
    return rates


def stages(report: Report) -> str:
    """Median and 99th percentile of each stage, as reported by the server."""
    order = {name: number for number, name in enumerate(_STAGES)}
    rows = [
        *sorted(report["stages_ms"].items(), key=lambda row: order.get(row[0], len(order))),
        *([("outside the server", report["outside_ms"])] if report["outside_ms"]["p50"] else []),
    ]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ys = range(len(rows))
        axes.barh(ys, [row["p99"] for _, row in rows], height=0.62, color=SECOND, alpha=0.45,
                  label="p99")  # fmt: skip
        axes.barh(ys, [row["p50"] for _, row in rows], height=0.62, color=FIRST, label="p50")
        longest = max((row["p99"] for _, row in rows), default=1.0)
        for y, (_, row) in enumerate(rows):
            both = f"{_figure(row['p50'])} / {_figure(row['p99'])}"
            axes.text(row["p99"] + longest * 0.01, y, both, va="center", color=SOFT, fontsize=9)
        axes.set_yticks(ys, [_printable(name) for name, _ in rows])
        axes.tick_params(axis="y", colors=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, longest * 1.18)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("ms; stages overlap, so they do not add up")
        _legend(axes, 2)

    return _svg("stages", (9.2, 0.9 + 0.3 * max(2, len(rows))), draw)


def curve(report: Report) -> str:
    """Latency (above) and the share that is kept up with (below), by the rate that is offered."""
    from matplotlib.ticker import LogLocator

    rows = report["steps"]
    rates = [row["rate"] for row in rows]

    def mark(axes: Axes, row: Report, y: float | None, colour: str) -> None:
        shape = "o" if row["held"] else "D" if row["limited_by_generator"] else "X"
        if y is not None:
            axes.plot([row["rate"]], [y], shape, color=colour, markersize=8 if shape == "X" else 6,
                      clip_on=False, zorder=3)  # fmt: skip

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.6])
        for key, colour in (("p50_ms", FIRST), ("p99_ms", SECOND)):
            ys = [math.nan if row[key] is None else row[key] for row in rows]
            above.plot(rates, ys, "-", color=colour, label=key.removesuffix("_ms"))
            for row in rows:
                mark(above, row, row[key], colour)
        above.set_yscale("log")
        above.set_ylim(*_wide([row[key] for row in rows for key in ("p50_ms", "p99_ms")]))
        above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        above.yaxis.set_major_formatter("{x:g}")
        above.yaxis.set_minor_formatter("")
        above.set_ylabel("latency in ms")
        below.plot(rates, [_kept_up(row) for row in rows], "-", color=INK)
        for row in rows:
            mark(below, row, _kept_up(row), INK)
        below.set_ylim(0, 105)
        below.set_yticks([0, 50, 100])
        below.set_ylabel("kept up, %")
        below.set_xlabel("rate, messages a second; X: does not hold; diamond: says nothing")
        if report["knee"]["rate"] is not None:
            knee, name = report["knee"]["rate"], "knee"
            if report["knee"]["fails_at"] is None:
                name = "not reached up to"
            for axes in (above, below):
                axes.axvline(knee, color=GOOD, linestyle="--", linewidth=1.2,
                             label=f"{name}: {knee:.4g} a second")  # fmt: skip
        _scale_rates(below, rates)
        _legend(above, 4)

    return _svg("curve", (9.2, 4.6), draw)


def _kept_up(row: Report) -> float:
    """The share of a rate that the server answers as fast as it comes, in per cent.

    It is NaN, which is not drawn, where the generator was the bottleneck.
    """
    if row["limited_by_generator"]:
        return math.nan
    growth: float = max(0.0, row["latency_growth"] or 0.0)
    lost: float = row["lost_share"]
    return 100 * (1 - lost) / (1 + growth)


def _wide(values_ms: Sequence[float | None]) -> tuple[float, float]:
    """Ends of a logarithmic axis of latencies: at least a factor of ten, so that noise is flat."""
    drawn = [value for value in values_ms if value]
    low, high = min(drawn, default=1.0), max(drawn, default=1.0)
    margin = max(1.3, math.sqrt(10 * low / high))
    return low / margin, high * margin


def _scale_rates(axes: Axes, rates: Sequence[float]) -> None:
    """Scales an axis of rates, logarithmically where the lowest would be pressed together."""
    low, high = min(rates), max(rates)
    if high > 8 * low:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(low / 1.1, high * 1.1)
    else:
        axes.set_xlim(0, 1.05 * high)
    axes.tick_params(axis="x", pad=7)


def _legend(axes: Axes, columns: int) -> None:
    # Above the plot, where it covers nothing.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns)


def _by_nines(histogram: Histogram) -> tuple[list[float], list[float]]:
    """The percentile curve, thinned to a few points for each pixel.

    Returns:
        x = 1 / (1 - share), of which each factor of ten adds a nine, and y in milliseconds.
    """
    xs: list[float] = []
    ys: list[float] = []
    count = histogram.count
    for ms, total in histogram.curve():
        # No share is above the largest value, and x would be infinite: half a value is assumed.
        x = count / max(count - total, 0.5)
        # Points that are closer than 0.5 % fall onto one pixel of the logarithmic axis.
        if xs and x < xs[-1] * 1.005 and total < count:
            ys[-1] = ms
        else:
            xs.append(min(x, float(count)))
            ys.append(ms)
    return xs, ys


def _limits(report: Report) -> list[tuple[str, float, float]]:
    """The targets of percentiles below 100: name, share in percent, limit in ms."""
    targets = [(name, _share_of(name), slo["limit_ms"]) for name, slo in report["slo"].items()]
    return [(name, share, ms) for name, share, ms in targets if share is not None and share < 100]


def _figure(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def _share_of(name: str) -> float | None:
    """The share of a percentile's name in per cent, such as 99 of p99; None of max and mean."""
    if name == "p999":
        return 99.9
    return float(name[1:]) if re.fullmatch(r"p\d+(\.\d+)?", name) else None


def _fits(share: float, count: int) -> bool:
    return 1 / (1 - share / 100) <= max(10, count)


def _printable(name: str) -> str:
    """A name of a stage, from an untrusted server; matplotlib would read $ as mathematics."""
    return "".join(c if c.isprintable() and c != "$" else "\ufffd" for c in name)[:40]


def _svg(name: str, size: Sequence[float], draw: Callable[[Figure], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {**_STYLE, "svg.hashsalt": name}
    with rc_context(settings):
        figure = Figure(figsize=(size[0], size[1]), layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    # Ids of shapes are hashes of their contents and are referenced. Those of groups repeat in
    # every plot, and nothing refers to them.
    svg = re.sub(r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib|xtick|ytick)[^"]*"', "",
                 svg)  # fmt: skip
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{name}"', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
