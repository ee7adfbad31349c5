"""How a load and a comparison look to people: progress while it runs, tables at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pagesight._cli.render import shown

if TYPE_CHECKING:
    from pagesight._load.compare import Comparison
    from pagesight._load.plan import Plan


class Teller:
    """Tells how a load goes, on stderr, if a person looks."""

    def __init__(self, messages: Console, bar: Progress, plan: Plan, *, several: bool) -> None:
        self._messages = messages
        self._bar = bar
        whole_s = None if several else plan.warmup_s + plan.duration_s
        self._task = bar.add_task("loading", total=whole_s)

    def counts(self, sent: int, ok: int, failed: int) -> None:
        """Shows how many were sent, answered and failed so far."""
        elapsed_s = self._bar.tasks[0].elapsed or 0.0
        said = f"sent {sent}, answered {ok}" + (f", failed {failed}" if failed else "")
        self._bar.update(self._task, completed=elapsed_s, description=said)

    def say(self, line: str) -> None:
        """Prints a line about one step."""
        self._messages.print(line)


@contextmanager
def watching(plan: Plan, several: bool) -> Iterator[Teller]:
    """Shows progress for the time of the block."""
    messages = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not messages.is_terminal,
    )
    with bar:
        yield Teller(messages, bar, plan, several=several)


def summary(report: Mapping[str, Any]) -> RenderableType:
    """Draws what was found."""
    parts: list[RenderableType] = []
    if "steps" in report:
        parts += [_steps(report), _knee(report)]
    lost = report["sent"] - report["ok"] + report["unsent"]
    head = Text(
        f"{report['ok']} of {report['sent'] + report['unsent']} answered in "
        f"{report['duration_s']:.4g} s: {report['rate_achieved']:.4g} a second, "
        f"{report['rate_offered']:.4g} offered"
    )
    if lost:
        head.append(f"; {lost} lost", "red")
    if report["interrupted"]:
        head.append("  (broken off)", "yellow")
    parts += [head, _latencies(report)]
    if report["stages_ms"]:
        parts.append(_stages(report))
    for code, count in report["errors"].items():
        example = shown(report["error_examples"].get(code, ""))
        parts.append(Text(f"{count} x {code}: {example}", "red"))
    if report["slo"] or report["slo_shares"]:
        parts.append(_targets(report))
    parts += [Text(f"note: {warning}", "yellow") for warning in report["warnings"]]
    return Group(*parts)


def comparison(found: Comparison) -> RenderableType:
    """Draws two reports side by side, with the verdict below."""
    table = _table("", "before", "after", "change", "at least", "at most", "")
    for row in found.rows:
        style = {"worse": "red", "better": "green"}.get(row.verdict or "", "dim")
        values = (row.before, row.after)
        table.add_row(
            Text(shown(row.name)),
            *(_share(value) if row.is_share else _figure(value) for value in values),
            *(_change(end, row.is_share) for end in (row.change, *(row.interval or (None, None)))),
            Text(row.verdict or "", style),
        )
    notes = [Text(f"note: {shown(text)}", "yellow") for text in found.notes]
    if found.verdict == "none":
        return Group(table, *notes)  # the command fails with the words
    styles = {"worse": "bold red", "better": "bold green"}
    verdict = Text(shown(found.in_words), styles.get(found.verdict, "bold"))
    return Group(table, *notes, verdict)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _change(value: float | None, is_share: bool) -> str:
    if value is None:
        return ""
    return f"{100 * value:+.2f} points" if is_share else f"x {value:.3f}"


def _latencies(report: Mapping[str, Any]) -> Table:
    names = ("p50", "p90", "p95", "p99", "p999", "max")
    table = _table("ms", *names)
    rows = {"from when due": report["latency_ms"], "from sending": report["service_ms"]}
    rows |= {name: part["latency_ms"] for name, part in report["slices"].items()}
    for name, found in rows.items():
        table.add_row(Text(shown(name)), *(_figure(found[key]) for key in names))
    return table


def _stages(report: Mapping[str, Any]) -> Table:
    table = _table("stage, ms", "p50", "p99")
    for stage, found in report["stages_ms"].items():
        table.add_row(Text(shown(stage)), _figure(found["p50"]), _figure(found["p99"]))
    outside = report["outside_ms"]
    table.add_row("outside the server", _figure(outside["p50"]), _figure(outside["p99"]))
    return table


def _targets(report: Mapping[str, Any]) -> Table:
    table = _table("target", "at most", "found", "")
    rows = [
        (name, f"{found['limit_ms']:g} ms", f"{_figure(found['value_ms'])} ms", found["met"])
        for name, found in report["slo"].items()
    ] + [
        (name, _share(found["limit"]), _share(found["value"]), found["met"])
        for name, found in report["slo_shares"].items()
    ]
    for name, limit, value, met in rows:
        verdict = Text("met", "green") if met else Text("missed", "red")
        table.add_row(name, limit, value, verdict)
    return table


def _steps(report: Mapping[str, Any]) -> Table:
    table = _table("rate", "due / s", "answered / s", "p50 ms", "p99 ms", "lost", "")
    for row in report["steps"]:
        verdict = Text("holds", "green")
        if not row["held"]:
            verdict = Text(row["why_not"], "yellow" if row["limited_by_generator"] else "red")
        table.add_row(
            f"{row['rate']:.4g}",
            f"{row['rate_offered']:.4g}",
            f"{row['rate_achieved']:.4g}",
            _figure(row["p50_ms"]),
            _figure(row["p99_ms"]),
            f"{row['lost_share']:.1%}",
            verdict,
        )
    return table


def _knee(report: Mapping[str, Any]) -> Text:
    knee = report["knee"]
    if knee["rate"] is None:
        return Text(f"{knee['in_words']}; at that rate:", "bold red")
    return Text(f"{knee['in_words']}; at {knee['rate']:.4g} a second:", "bold")


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for at, name in enumerate(names):
        table.add_column(name, justify="right" if at and name else "left", overflow="fold")
    return table


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
