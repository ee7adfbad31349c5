"""report.html: one self-contained file, for light and dark screens.

Everything that came from files, servers or options is escaped; nothing is fetched, and there are
no scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from pagesight._load import plots
from pagesight._load.style import STYLE
from pagesight._load.summary import Report

_PLAN_NAMES = {"groups": "files of each path", "names": "paths"}
"""Names of plan fields that differ from their keys."""


def page(report: Report) -> str:
    """Renders the HTML of a report, given the object of `report.json`."""
    plan = report["plan"]
    parts = [_head(report), _tiles(report), _warnings(report), _targets(report)]
    if "steps" in report:
        parts.append(_section("Throughput and latency", _knee(report), plots.curve(report)))
        parts.append(_scroll(_steps(report)))
    if report["ok"]:
        how = (
            "Latency counts from when a message was <em>due</em>, so that a stall of the server "
            "shows in every message that it delayed."
            if plan["loop"] == "open"
            else "A closed loop sends only after an answer: a stall of the server also stops the "
            "sending, and shows in few messages (coordinated omission). Use an open loop (--rate) "
            "to see it."
        )
        parts.append(_section("Latency by percentile", how, plots.percentiles(report)))
    parts.append(_scroll(_latencies(report)))
    if report["timeline"]:
        how = "Shaded: the warm-up, which is not counted. Dotted: the end of the measured time."
        parts.append(_section("Over time", how, plots.timeline(report)))
    if report["stages_ms"]:
        how = "Times that the server reports in its replies; <em>outside</em> is the rest: "
        how += "network, flow control, the generator. Each is over the answers that went through "
        how += "that stage: screenshots in the server's cache skip most."
        parts.append(_section("Stages of the server", how, plots.stages(report)))
    parts += [_errors(report), _generator(report), _conditions(report)]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>pagesight load</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body><main>\n{body}\n</main></body>\n</html>\n"
    )


def _head(report: Report) -> str:
    plan = report["plan"]
    if plan["loop"] == "open":
        load = f"open loop, {plan['arrivals']} arrivals, {_figure(plan['rate'])} a second"
    else:
        load = f"closed loop, {plan['streams']} × {plan['in_flight']} in flight"
    calls = "streams" if plan["calls"] == "stream" else "unary calls"
    interrupted = ' <span class="badge bad">interrupted</span>' if report["interrupted"] else ""
    return (
        f"<h1>pagesight load{interrupted}</h1>\n"
        f'<p class="soft">{escape(load)}, {calls}; {_figure(report["duration_s"])} s measured '
        f"after {_figure(plan['warmup_s'])} s of warm-up; {escape(report['made_at'])}</p>"
    )


def _tiles(report: Report) -> str:
    latency = report["latency_ms"]
    failed = report["sent"] - report["ok"] + report["unsent"]
    tiles = (
        (_ms(latency["p50"]), "p50", "half of the answers"),
        (_ms(latency["p99"]), "p99", "99 % of the answers"),
        (
            f"{_figure(report['rate_achieved'])} / s",
            "answered",
            f"{_figure(report['rate_offered'])} / s offered",
        ),
        (f"{failed}", "failed or not sent", f"of {report['sent'] + report['unsent']} due"),
    )
    cards = "".join(
        f'<div class="card tile"><b>{escape(value)}</b><span class="name">{escape(name)}</span>'
        f"<span>{escape(note)}</span></div>"
        for value, name, note in tiles
    )
    return f'<div class="tiles">{cards}</div>'


def _warnings(report: Report) -> str:
    if not report["warnings"]:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in report["warnings"])
    return f'<ul class="warnings">{items}</ul>'


def _targets(report: Report) -> str:
    rows = [
        (name, _ms(result["limit_ms"]), _ms(result["value_ms"]), result["met"])
        for name, result in report["slo"].items()
    ] + [
        (name, _percent(result["limit"]), _percent(result["value"]), result["met"])
        for name, result in report["slo_shares"].items()
    ]
    if not rows:
        return ""
    cells = [
        [escape(name), limit, value, _badge(met, "met" if met else "missed")]
        for name, limit, value, met in rows
    ]
    return "<h2>Targets</h2>" + _card(_table(["target", "at most", "measured", ""], cells))


def _knee(report: Report) -> str:
    words = escape(report["knee"]["in_words"])
    return (
        f"{words[:1].upper()}{words[1:]}. A rate holds when {escape(report['knee']['holds_when'])}."
        " <em>Kept up</em> is the share of the rate that is answered as fast as it comes."
    )


def _steps(report: Report) -> str:
    cells = [
        [
            _figure(row["rate"]),
            _figure(row["rate_offered"]),
            _figure(row["rate_achieved"]),
            _ms(row["p50_ms"]),
            _ms(row["p99_ms"]),
            _percent(row["lost_share"]),
            "—" if row["latency_growth"] is None else f"{row['latency_growth']:.2g} s/s",
            str(row["sent"]),
            _badge(
                row["held"],
                "holds" if row["held"] else escape(row["why_not"]),
                bad="warn" if row["limited_by_generator"] else "bad",
            ),
        ]
        for row in report["steps"]
    ]
    heads = ["rate", "due / s", "answered / s", "p50", "p99", "lost", "latency grows", "sent", ""]
    return _table(heads, cells, "last")


def _latencies(report: Report) -> str:
    names = ("p50", "p90", "p95", "p99", "p999", "max", "mean")
    rows: list[tuple[str, Any, Mapping[str, Any]]] = [
        ("answers, from the due time", report["ok"], report["latency_ms"]),
        ("answers, from the send time", report["ok"], report["service_ms"]),
    ]
    rows += [(name, part["ok"], part["latency_ms"]) for name, part in report["slices"].items()]
    cells = [
        [escape(name), str(count), *(_ms(figures[key]) for key in names)]
        for name, count, figures in rows
    ]
    return _table(["", "answers", *names], cells)


def _errors(report: Report) -> str:
    rows = [
        [escape(code), str(count), escape(report["error_examples"].get(code, ""))]
        for code, count in report["errors"].items()
    ]
    if report["unsent"]:
        rows.append(["not sent", str(report["unsent"]), "too many were in flight"])
    if not rows:
        return ""
    return "<h2>Errors</h2>" + _card(_table(["status", "messages", "for example"], rows, "text"))


def _generator(report: Report) -> str:
    generator = report["generator"]
    shares = ", ".join(f"{share:.0%}" for share in generator["cpu_share"])
    rows = [
        ["processes", str(generator["processes"])],
        ["CPU of each, of one core", shares or "—"],
        ["delay of sending, p99 / max", f"{_ms(generator['late_ms']['p99'])} / "
         f"{_ms(generator['late_ms']['max'])}"],
        ["event loop lag, p99 / max", f"{_ms(generator['loop_lag_ms']['p99'])} / "
         f"{_ms(generator['loop_lag_ms']['max'])}"],
        ["verdict", _badge(not generator["saturated"],
         "saturated: see the warnings" if generator["saturated"] else "not the bottleneck")],
    ]  # fmt: skip
    how = "Whether the server or the load generator limits the figures."
    return _section("The generator", how, "") + _card(_table(["", ""], rows))


def _conditions(report: Report) -> str:
    plan, pictures = report["plan"], report["pictures"]
    rows = [
        ["pictures", f"{pictures['files']} files, {pictures['mean_bytes']:,} bytes on average"],
        ["messages with new bytes", str(pictures["distinct_sends"])],
        ["messages with repeated bytes", str(pictures["repeated_sends"])],
        ["messages with unchanged files", str(pictures["unchanged_sends"])],
        *(["answered by", f"{name} ({count})"] for name, count in report["servers"].items()),
        *(_plan_row(key, value) for key, value in plan.items() if value not in (None, [], "")),
        ["machine", f"{report['machine']['system']}, {report['machine']['cores']} cores"],
        ["pagesight", report["pagesight"]],
    ]
    cells = [[escape(name), escape(value)] for name, value in rows]
    return "<h2>Conditions</h2>" + _card(_table(["", ""], cells, "text"))


def _plan_row(key: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        value = [f"{name}: {weight:g}" for name, weight in value.items()]
    values = value if isinstance(value, list) else [value]
    text = ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in values)
    name, unit = (key.removesuffix("_s"), " s") if key.endswith("_s") else (key, "")
    return [_PLAN_NAMES.get(name, name.replace("_", " ")), text + unit]


def _section(title: str, how: str, drawing: str) -> str:
    card = _card(drawing) if drawing else ""
    return f'<h2>{title}</h2>\n<p class="how">{how}</p>\n{card}'


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    heads = list(heads)
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    head = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<table class="{kind}">{head}<tbody>{body}</tbody></table>'


def _card(inside: str) -> str:
    return f'<div class="card scroll">{inside}</div>'


def _scroll(inside: str) -> str:
    return f'<div class="card scroll below">{inside}</div>'


def _badge(good: bool, text: str, *, bad: str = "bad") -> str:
    return f'<span class="badge {"good" if good else bad}">{text}</span>'


def _ms(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value / 1000:.3g} s" if value >= 10_000 else f"{value:.4g} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _figure(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:,.0f}"
