"""Results as Markdown, for the terminal and for docs/recognition.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.recognition.constants import Constant, Effect
from tests.bench.recognition.curve import Point
from tests.bench.recognition.figures import Figures, Rate
from tests.bench.recognition.methods import OURS, PUBLISHED
from tests.bench.recognition.results import SetResult

LAST_RELEASE = "last release"
NOTHING = "-"

TITLES = {
    "micro_f1": "micro-F1",
    "auroc": "AUROC",
    "false_rejection": "false rejection",
    "rejected": "unknown rejected",
    "rejected_in_hindsight": "rejected at 8 % false rejection",
}
COMPARED = tuple(TITLES)
"""The figures of which tables say how they moved."""


def methods_table(results: Sequence[SetResult], before: Mapping[str, Any] | None = None) -> str:
    """Every set and every method, a row each.

    Args:
        results: Of this run.
        before: What an earlier run wrote to `recognition.json`: its own method is a row.
    """
    earlier = rows_of(before)
    rows = []
    for result in results:
        lines = [(row.method, row.figures, row.cpu_ms) for row in result.rows]
        for method, figures, cpu_ms in lines:
            rows.append([result.name, method, *_figures(figures), f"{cpu_ms:.1f}"])
        if (old := earlier.get((result.name, OURS))) is not None:
            figures = figures_of(old["figures"])
            rows.append([result.name, LAST_RELEASE, *_figures(figures), f"{old['cpu_ms']:.1f}"])
    return table(
        [
            "set",
            "method",
            "known",
            "unknown",
            "micro-F1",
            "AUROC",
            "false rejection, %",
            "unknown rejected, %",
            "by kind, %",
            "rejected at 8 % false rejection, %",
            "CPU-ms",
        ],
        rows,
        left=2,
    )


def terms_table(results: Sequence[SetResult]) -> str:
    """What leaving out each term changes: figures without it less ours, over all sets.

    Args:
        results: Of this run.
    """
    changes: defaultdict[str, list[list[float]]] = defaultdict(list)
    for result in results:
        ours = result.row(OURS)
        for row in result.rows:
            if ours is not None and row.method.startswith("without "):
                changes[row.method].append(_changes(row.figures, ours.figures))
    rows = [
        [method, *(_range(list(of_figure)) for of_figure in zip(*of_sets, strict=True))]
        for method, of_sets in changes.items()
    ]
    return table(["method", *(TITLES[name] for name in COMPARED)], rows, left=1)


def splits_table(results: Sequence[SetResult]) -> str:
    """Known screenshots by version and language; empty where no set says of which they are."""
    rows = []
    for result in results:
        of_method = {(split.kind, split.method): split for split in result.splits}
        for kind in dict.fromkeys(split.kind for split in result.splits):
            ours, published = of_method[kind, OURS], of_method[kind, PUBLISHED]
            rows.append(
                [
                    result.name,
                    kind,
                    str(ours.known),
                    _fraction(ours.micro_f1),
                    _fraction(published.micro_f1),
                    _percent(ours.false_rejection),
                    _percent(published.false_rejection),
                ]
            )
    head = ["set", "known screenshots", "known"]
    head += ["micro-F1", f"`{PUBLISHED}`", "false rejection, %", f"`{PUBLISHED}`"]
    return table(head, rows, left=2) if rows else ""


def rule_table(results: Sequence[SetResult]) -> str:
    """Ours against the published method, set by set."""
    rows = [
        [
            result.name,
            _fraction(result.rule.micro_f1),
            _fraction(result.rule.published_micro_f1),
            str(result.rule.rejected),
            _percent(result.rule.false_rejection),
            _percent(result.rule.published_false_rejection),
            "yes" if result.rule.kept else "**no**",
        ]
        for result in results
        if result.rule is not None
    ]
    head = [
        "set",
        "micro-F1",
        f"`{PUBLISHED}`",
        f"unknown that `{PUBLISHED}` rejects",
        "false rejection when as many are, %",
        f"`{PUBLISHED}`, %",
        "no worse",
    ]
    return table(head, rows, left=1)


def differences_table(results: Sequence[SetResult], before: Mapping[str, Any]) -> str:
    """This run less an earlier one, for every method that both measured."""
    earlier = rows_of(before)
    rows = []
    for result in results:
        for row in result.rows:
            if (old := earlier.get((result.name, row.method))) is None:
                continue
            then = figures_of(old["figures"])
            moved = _changes(row.figures, then)
            rows.append([result.name, row.method, *(f"{change:+.3f}" for change in moved)])
    return table(["set", "method", *(TITLES[name] for name in COMPARED)], rows, left=2)


def curve_table(points: Sequence[Point]) -> str:
    """How many pictures a page needs, by ours and by the published method."""
    published = {(p.set_name, p.size): p for p in points if p.method == PUBLISHED}
    rows = []
    for ours in points:
        if ours.method == PUBLISHED:
            continue
        theirs = published[ours.set_name, ours.size]
        rows.append(
            [
                ours.set_name,
                str(ours.size),
                f"{ours.pictures:.1f}",
                f"{ours.known} + {ours.unknown}",
                _fraction(ours.micro_f1),
                _fraction(theirs.micro_f1),
                _fraction(ours.auroc),
                _fraction(theirs.auroc),
                _percent(ours.false_rejection),
                _percent(theirs.false_rejection),
                _percent(ours.rejected),
                _percent(theirs.rejected),
            ]
        )
    head = ["set", "at most", "pictures a page", "tested"]
    for title in ("micro-F1", "AUROC", "false rejection, %", "unknown rejected, %"):
        head += [title, f"`{PUBLISHED}`"]
    return table(head, rows, left=1)


def sensitivity_table(effects: Sequence[Effect], constants: Sequence[Constant]) -> str:
    """What half and twice of each constant move, least and most over the sets, and its reason.

    Args:
        effects: Of every constant on every set.
        constants: For their order and their reasons.
    """
    by_try: defaultdict[str, defaultdict[float, list[Effect]]]
    by_try = defaultdict(lambda: defaultdict(list))
    for effect in effects:
        by_try[effect.constant][effect.tried].append(effect)
    reasons: set[str] = set()
    rows = []
    for constant in constants:
        # A docstring under several numbers is told once.
        reason = "as above" if constant.reason in reasons else constant.reason
        reasons.add(constant.reason)
        cells = [f"`{constant.title}`", f"{constant.value:.3g}"]
        for tried, of_try in by_try[constant.title].items():
            rows.append(
                [
                    *cells,
                    f"{tried:.3g}",
                    _range([effect.micro_f1 for effect in of_try]),
                    _range([effect.auroc for effect in of_try]),
                    _range([effect.false_rejection for effect in of_try]),
                    _range([effect.rejected for effect in of_try]),
                    reason,
                ]
            )
            cells, reason = ["", ""], ""
    head = [
        "constant",
        "is",
        "tried",
        "micro-F1",
        "AUROC",
        "false rejection",
        "unknown rejected",
        "what it is and why",
    ]
    return table(head, rows, left=1)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A Markdown table.

    Args:
        head: Titles of the columns.
        rows: The cells.
        left: How many columns are text; the others are numbers.
    """
    marks = ["---" if i < left else "--:" for i in range(len(head))]
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def rows_of(saved: Mapping[str, Any] | None) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The rows of an earlier run, by set and method."""
    return {
        (of_set["name"], row["method"]): row
        for of_set in (saved or {}).get("sets", [])
        for row in of_set["rows"]
    }


def figures_of(saved: Mapping[str, Any]) -> Figures:
    """Figures as an earlier run wrote them."""

    def rate(name: str) -> Rate | None:
        return Rate(**saved[name]) if saved[name] else None

    return Figures(
        known=saved["known"],
        unknown=saved["unknown"],
        micro_f1=rate("micro_f1"),
        auroc=rate("auroc"),
        false_rejection=rate("false_rejection"),
        rejected=rate("rejected"),
        rejected_by_kind={kind: (n, of) for kind, (n, of) in saved["rejected_by_kind"].items()},
        rejected_in_hindsight=rate("rejected_in_hindsight"),
    )


def _changes(figures: Figures, before: Figures) -> list[float]:
    """Each of `COMPARED` less what it was; 0 where either has nothing to count."""
    rates = [(getattr(figures, name), getattr(before, name)) for name in COMPARED]
    return [now.value - then.value if now and then else 0.0 for now, then in rates]


def _figures(figures: Figures) -> list[str]:
    kinds = ", ".join(
        f"{kind.removeprefix('other_')} {100 * rejected / n:.0f}"
        for kind, (rejected, n) in figures.rejected_by_kind.items()
    )
    return [
        str(figures.known),
        str(figures.unknown),
        _interval(figures.micro_f1),
        _interval(figures.auroc),
        _interval(figures.false_rejection, percent=True),
        _interval(figures.rejected, percent=True),
        kinds or NOTHING,
        _interval(figures.rejected_in_hindsight, percent=True),
    ]


def _interval(rate: Rate | None, *, percent: bool = False) -> str:
    if rate is None:
        return NOTHING
    if percent:
        return f"{100 * rate.value:.1f} ({100 * rate.low:.0f} to {100 * rate.high:.0f})"
    return f"{rate.value:.3f} ({rate.low:.2f} to {rate.high:.2f})"


def _fraction(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _range(values: Sequence[float]) -> str:
    """The least and the greatest of some differences; 0 where nothing moved."""
    low, high = min(values), max(values)
    if max(abs(low), abs(high)) < 0.0005:
        return "0"
    return f"{low:+.3f} to {high:+.3f}" if high - low >= 0.0005 else f"{low:+.3f}"
