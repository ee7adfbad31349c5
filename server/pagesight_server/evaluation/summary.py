"""A run in the terminal: the main figures, the kinds of unknown pages, the worst classes."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pagesight_server.evaluation.compare import Comparison, rejected_share
from pagesight_server.evaluation.mistakes import Mistakes
from pagesight_server.evaluation.rounding import percent, rate
from pagesight_server.evaluation.run import Run

WORST = 5
"""Most classes in the table of the worst, so that the main figures stay on the screen."""


def summary(run: Run) -> Group:
    """The output of `evaluate`: tables and warnings, for a rich console."""
    mistakes = Mistakes.of(run.predictions)
    style = "bold yellow" if mistakes.wrong else "bold"
    parts: list[RenderableType] = [Text(mistakes.sentence, style), _figures(run, mistakes)]
    if run.metrics.open_set.kinds:
        parts.append(_kinds(run))
    if any(figures.f1 < 1 for figures in run.metrics.per_class.values()):
        parts.append(_worst(run))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in run.warnings]
    return Group(*parts)


def compared(comparison: Comparison) -> Group:
    """The further output of `evaluate --compare`: one row for each method."""
    table = Table(
        title="open-set methods on the same images; shares rejected in %",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    header, rows = comparison_cells(comparison)
    table.add_column(header[0], overflow="fold", min_width=16)
    for name in header[1:]:
        # One word a line, so that columns are only as wide as their figures.
        table.add_column(escape(name.replace(" ", "\n")), justify="right", no_wrap=True)
    last = comparison.rows[0].family if comparison.rows else ""
    for row, cells in zip(comparison.rows, rows, strict=True):
        if row.family != last:
            table.add_section()
        last = row.family
        # Long names wrap between their words.
        table.add_row(*map(escape, (cells[0].replace("_", " "), *cells[1:])))
    note = (
        f"left out: threshold at the {comparison.epsilon:.0%} quantile of the leave-one-out scores "
        "of gallery pictures; both sides: threshold of decision 0005"
    )
    if comparison.validated:
        note += f", of {' and '.join(comparison.validated)} the served one, from labelled traffic"
    return Group(table, Text(note, style="dim"))


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table: `compare.md`."""
    header, rows = comparison_cells(comparison)
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the comparison's table, as text; shares in per cent."""
    kinds = list(comparison.unknown)
    header = ["method", "micro F1", "AUROC", "FPR95", "left out: known", "left out: unknown"]
    header += ["both sides: known", *(f"both sides: {kind}" for kind in kinds)]
    rows = []
    for row in comparison.rows:
        cells = [row.name, *map(_short, (row.micro_f1, row.auroc, row.fpr_at_95tpr))]
        left_out, both_sides = row.left_out, row.both_sides
        cells += [
            _share(left_out.false_rejection_rate if left_out else None),
            _share(rejected_share(left_out, comparison.unknown) if left_out else None),
            _share(both_sides.false_rejection_rate if both_sides else None),
            *(_share(both_sides.rejected[kind] if both_sides else None) for kind in kinds),
        ]
        rows.append(cells)
    return header, rows


def _figures(run: Run, mistakes: Mistakes) -> Table:
    metrics, opened = run.metrics, run.metrics.open_set
    table = Table(title=escape(f"gallery {run.gallery}"), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    unknown = sum(kind.n for kind in opened.kinds.values())
    table.add_row("known test images", str(metrics.n))
    table.add_row("unknown test images", str(unknown))
    table.add_row("wrong answers", f"{mistakes.wrong} of {mistakes.answers}")
    for name, value in (
        ("micro F1, whatever the threshold", metrics.micro_f1),
        ("macro F1, whatever the threshold", metrics.macro_f1),
        ("accuracy, whatever the threshold", metrics.accuracy),
        ("AUROC known against unknown", opened.auroc),
        ("FPR at 95 % TPR", opened.fpr_at_95tpr),
        ("false rejection rate", opened.false_rejection_rate),
        ("accuracy, unknown images included", opened.overall_accuracy),
    ):
        table.add_row(name, _rate(value))
    if run.outputs.per_class.keys() != metrics.per_class.keys():
        table.add_row("business labels, micro F1", _rate(run.outputs.micro_f1))
        table.add_row("business labels, macro F1", _rate(run.outputs.macro_f1))
    if run.drift is not None:
        table.add_row("drift: downward shift of scores", _rate(run.drift.score_shift))
    if run.seconds_per_image is not None:
        name = f"seconds per image, mean of {run.timed_alone} alone"
        table.add_row(name, f"{run.seconds_per_image:.3f}")
    return table


def _kinds(run: Run) -> Table:
    table = Table(title="unknown pages", title_justify="left")
    table.add_column("kind")
    for name in ("images", "rejected", "AUROC"):
        table.add_column(name, justify="right")
    for kind, figures in run.metrics.open_set.kinds.items():
        rejected = f"{figures.rejected} ({percent(figures.rejected / figures.n, unit='%')})"
        table.add_row(escape(kind), str(figures.n), rejected, _rate(figures.auroc))
    return table


def _worst(run: Run) -> Table:
    table = Table(title=f"classes with the lowest F1, at most {WORST}", title_justify="left")
    table.add_column("label")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right")
    ranked = sorted(run.metrics.per_class.items(), key=lambda item: (item[1].f1, item[0]))
    for label, figures in ranked[:WORST]:
        if figures.f1 < 1:
            rates = (figures.precision, figures.recall, figures.f1)
            table.add_row(escape(label), *map(_rate, rates), str(figures.support))
    return table


def _short(value: float | None) -> str:
    return rate(value, digits=3, none="-")


def _share(value: float | None) -> str:
    return percent(value, none="-", unit="")


def _rate(value: float | None) -> str:
    return rate(value, none="-")
