"""`pagesight load`: how fast a server answers, and how much of it, under a load of choice.

What generates the load is `pagesight._load`, imported when it is needed.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pagesight._cli import files, session, wire

if TYPE_CHECKING:
    from pagesight._load.compare import Comparison
    from pagesight._load.plan import Plan
    from pagesight._load.run import Steps
    from pagesight._load.slo import Target

MISSED = 3
"""Exit code when the server answers, but not as it should."""
SIGNALLED = 128
"""Added to the number of the signal that broke a run off, as shells do."""


@session.teaching
def load(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH...",
            help="Pictures to send, or folders that are searched for them.",
            show_default=False,
        ),
    ] = None,
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    gallery: session.GalleryOption = "default",
    rate: Annotated[
        float | None,
        typer.Option(help="Open loop: send so many a second, whatever comes back."),
    ] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="Closed loop: send when an answer came.")
    ] = False,
    find_knee: Annotated[
        bool,
        typer.Option("--find-knee", help="Raise the rate, from --rate or 1 on, until it breaks."),
    ] = False,
    steps: Annotated[
        str, typer.Option(metavar="R,R,...", help="Open loops at these rates, one after another.")
    ] = "",
    arrivals: Annotated[
        str, typer.Option(help="poisson: at random, as from many callers; constant: equal gaps.")
    ] = "poisson",
    duration: Annotated[float, typer.Option(help="Seconds that are measured, of each rate.")] = 30,
    warmup: Annotated[float, typer.Option(help="Seconds before that, not counted.")] = 5,
    count: Annotated[
        int | None, typer.Option(help="Sends at most.", show_default="as time allows")
    ] = None,
    unary: Annotated[
        bool, typer.Option("--unary", help="A call for each picture, in place of streams.")
    ] = False,
    streams: Annotated[int, typer.Option(help="Streams, each on a connection of its own.")] = 1,
    in_flight: Annotated[
        int | None,
        typer.Option(
            help="Unanswered on each stream. Closed loop: kept; open: what is due beyond it is "
            "counted as not sent.",
            show_default="8 closed, 256 open",
        ),
    ] = None,
    repeat: Annotated[
        float,
        typer.Option(
            help="Share of sends, 0 to 1, in bytes sent before, which servers remember. All "
            "others are made distinct: same pixels, other bytes."
        ),
    ] = 0.0,
    weights: Annotated[
        str, typer.Option(metavar="W,W,...", help="How often each PATH is drawn.")
    ] = "",
    priority: Annotated[
        str, typer.Option(help="low, normal or high, or a mix: high=1,normal=9.")
    ] = "",
    deadline_ms: Annotated[
        str, typer.Option(help="Budget of each message, or a mix: 500=1,2000=9.")
    ] = "",
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for an answer, also when the time is over.")
    ] = 60,
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Ask to read no text.")] = False,
    processes: Annotated[
        int, typer.Option(help="Generate from so many processes, if one is too slow.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of arrivals and of what is drawn.")] = 0,
    slo: Annotated[
        list[str] | None,
        typer.Option(help="Target: p99=150ms, p50=2s, max=5s, errors=1%. May be given again."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.json and report.html."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json in place of the summary.")
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="BEFORE.json",
            help="Compare with this earlier report.json: the load, or without one the report.json "
            "that is named in place of pictures.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="With --compare: a ratio that is no change yet, less 1.")
    ] = 0.1,
) -> None:
    """Measure how a server answers under load.

    An open loop (--rate) sends at times drawn beforehand and counts latency from then, so a
    stall cannot hide; a closed loop (--closed) shows the most that so many waiting callers get.

    Examples:
      pagesight load screenshots/ --rate 5 --slo p99=2s --slo errors=1% --out loadtest
      pagesight load screenshots/ --closed --streams 2 --in-flight 8 --repeat 0.5
      pagesight load screenshots/ --find-knee --duration 20 --slo p99=2s
      pagesight load small/ tall/ --weights 9,1 --rate 5 --priority high=1,normal=9
      pagesight load screenshots/ --rate 5 --compare before/report.json --out after
      pagesight load --compare before/report.json after/report.json

    --compare gives a verdict on each figure and on all: better, same or worse. A figure changed
    when it did so by more than --tolerance and by more than chance explains (95 % interval).

    Exit code 0: every target is met, and with --compare nothing is worse; 3: a target is missed,
    no rate of --steps or --find-knee holds, or --compare found it worse; 1: it failed, nothing was
    answered, or --compare allows no verdict (the loads differ, or answers are too few); 2: the
    command line is wrong. Ctrl-C and SIGTERM break a load off: the report is of what was measured
    so far, and the exit code 130 or 143.
    """
    paths = paths or []
    chosen = bool(closed) + (rate is not None or bool(steps) or find_knee)
    if tolerance < 0:
        _wrong("--tolerance is 0 or more")
    if compare is not None and not chosen:
        if len(paths) != 1:
            _wrong("--compare takes two report.json, before and after, or a load to compare with")
        _compare(compare, paths[0], tolerance, as_json=as_json)
        return
    from pagesight._load import slo as slos
    from pagesight._load.plan import Plan, parse_weighted
    from pagesight._load.run import Steps

    if not paths:
        _wrong("name pictures or folders to send")
    if chosen != 1 or (steps and find_knee):
        _wrong("choose a load: --rate R, --closed, --steps R,R,... or --find-knee")
    if steps and rate is not None:
        _wrong("--steps says the rates: leave --rate out")
    if arrivals not in ("poisson", "constant"):
        _wrong(f"--arrivals is poisson or constant, not {arrivals!r}")
    in_folders = [files.pictures([path]) for path in paths]
    for found in in_folders:
        session.tell_left_out(found.left_out_in_words)
    try:
        targets = [slos.parse(text) for text in slo or []]
        rates = sorted(_numbers(steps, "--steps")) if steps else []
        budgets = parse_weighted(deadline_ms, "--deadline-ms") if deadline_ms else {}
        plan = Plan(
            groups=[[str(file) for file in found.pictures] for found in in_folders],
            names=[str(path) for path in paths],
            weights=_numbers(weights, "--weights") if weights else [],
            repeat=repeat,
            rate=None if closed else rates[0] if rates else 1.0 if rate is None else rate,
            arrivals="constant" if arrivals == "constant" else "poisson",
            duration_s=duration,
            warmup_s=warmup,
            count=count,
            calls="unary" if unary else "stream",
            # Each process needs one of its own.
            streams=max(streams, processes),
            in_flight=in_flight,
            timeout_s=timeout,
            gallery=gallery,
            ocr=False if no_ocr else None,
            priorities=parse_weighted(priority, "--priority") if priority else None,
            deadlines_ms={_whole(ms): weight for ms, weight in budgets.items()} or None,
            processes=processes,
            seed=seed,
        )
        climb = Steps(rates=rates) if steps or find_knee else None
        for one in rates:
            if not 0 < one <= 1e6:
                raise ValueError(f"--steps: a rate is above 0, got {one:g}")
    except ValueError as error:
        _wrong(str(error))
    before = None if compare is None else _Before(_read(compare), tolerance)
    if before is not None:
        before.compared(before.report)  # what is no report is found out before the load, not after
    _run(plan, targets, climb, before, address=address, out=out, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Before:
    """The report that a load is compared with."""

    report: object
    tolerance: float

    def compared(self, after: object) -> Comparison:
        """Compares a later report with it; fails where one of them is no report."""
        from pagesight._load.compare import compare

        try:
            return compare(self.report, after, self.tolerance)
        except ValueError as error:
            session.fail(str(error))


def _run(
    plan: Plan,
    targets: list[Target],
    steps: Steps | None,
    before: _Before | None,
    *,
    address: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> None:
    from pagesight._cli import load_page
    from pagesight._load.crew import WorkerError
    from pagesight._load.run import run
    from pagesight._load.wire import Access

    with session.preparing(address):
        proof = session.Proof.from_environment()
        access = Access(address=",".join(address), token=proof.token, tls=proof.tls)
        access.endpoint(plan.timeout_s)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            session.fail(f"--out: cannot write to {out}: {error.strerror}")
    try:
        with session.answering(), load_page.watching(plan, steps is not None) as tell:
            report = run(access, plan, targets, steps=steps, progress=tell.counts, say=tell.say)
    except WorkerError as error:
        session.fail(str(error))
    comparison = None if before is None else before.compared(report)
    if comparison is not None:
        report["comparison"] = comparison.plain()
    if out is not None:
        _write(report, out)
    if as_json:
        wire.print_text(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        session.output().print(load_page.summary(report))
        if comparison is not None:
            session.output().print(load_page.comparison(comparison))
        if out is not None:
            session.output().print(f"written: {out / 'report.html'} and {out / 'report.json'}")
    if by := report["interrupted_by"]:
        session.warn(f"pagesight: broken off by {by} after {report['duration_s']:.4g} s")
        raise typer.Exit(SIGNALLED + signal.Signals[by])
    if not report["ok"]:
        why = ", ".join(f"{count} x {code}" for code, count in report["errors"].items())
        session.fail(f"nothing was answered: {why or 'nothing was sent'}")
    if "knee" in report and report["knee"]["rate"] is None:
        session.warn(f"pagesight: {report['knee']['in_words']}")
        raise typer.Exit(MISSED)
    if not report["slo_met"]:
        raise typer.Exit(MISSED)
    if comparison is not None:
        _end(comparison)


def _write(report: dict[str, Any], out: Path) -> None:
    from pagesight._load.page import page

    try:
        text = json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False)
        for name, content in (("report.json", text + "\n"), ("report.html", page(report))):
            # As on the terminal: the name of a PATH may be no text at all.
            (out / name).write_text(content, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        session.fail(f"--out: cannot write to {out}: {error.strerror}")


def _compare(before: Path, after: Path, tolerance: float, *, as_json: bool) -> None:
    from pagesight._cli import load_page

    comparison = _Before(_read(before), tolerance).compared(_read(after))
    if as_json:
        wire.print_text(json.dumps(comparison.plain(), ensure_ascii=False) + "\n")
    else:
        session.output().print(load_page.comparison(comparison))
    _end(comparison)


def _end(comparison: Comparison) -> None:
    """Ends the command as the verdict says; returns when nothing is worse."""
    if comparison.verdict == "none":
        session.fail(comparison.in_words)
    if comparison.verdict == "worse":
        raise typer.Exit(MISSED)


def _read(path: Path) -> object:
    try:
        report: object = json.loads(path.read_text("utf-8"))
    except OSError as error:
        session.fail(f"cannot read {path}: {error.strerror}")
    except ValueError:
        session.fail(f"{path} is no report.json of `pagesight load`")
    return report


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not numbers with commas between them") from None


def _whole(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"--deadline-ms: {text!r} is no whole number of milliseconds")
    return int(text)


def _wrong(message: str) -> NoReturn:
    raise typer.BadParameter(message)
