"""A run in the terminal: the figures that decide, the kinds of unknown pages, the worst classes."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pagesight_server.evaluation.run import Run

WORST = 5


def summary(run: Run) -> Group:
    """What `evaluate` prints: tables and warnings, for a rich console."""
    parts: list[RenderableType] = [_figures(run)]
    if run.metrics.open_set.kinds:
        parts.append(_kinds(run))
    if any(figures.f1 < 1 for figures in run.metrics.per_class.values()):
        parts.append(_worst(run))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in run.warnings]
    return Group(*parts)


def _figures(run: Run) -> Table:
    metrics, opened = run.metrics, run.metrics.open_set
    table = Table(title=escape(f"gallery {run.gallery}"), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    unknown = sum(kind.n for kind in opened.kinds.values())
    table.add_row("known test images", str(metrics.n))
    table.add_row("unknown test images", str(unknown))
    for name, value in (
        ("micro F1", metrics.micro_f1),
        ("macro F1", metrics.macro_f1),
        ("accuracy", metrics.accuracy),
        ("AUROC known against unknown", opened.auroc),
        ("FPR at 95 % TPR", opened.fpr_at_95tpr),
        ("false rejection rate", opened.false_rejection_rate),
        ("overall accuracy, with other", opened.overall_accuracy),
    ):
        table.add_row(name, _rate(value))
    if run.seconds_per_image is not None:
        table.add_row("seconds per image", f"{run.seconds_per_image:.3f}")
    return table


def _kinds(run: Run) -> Table:
    table = Table(title="unknown pages", title_justify="left")
    table.add_column("kind")
    for name in ("images", "rejected", "AUROC"):
        table.add_column(name, justify="right")
    for kind, figures in run.metrics.open_set.kinds.items():
        rejected = f"{figures.rejected} ({figures.rejected / figures.n:.1%})"
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


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
