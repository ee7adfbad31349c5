"""How results look to people, made for a terminal of 100 columns.

Everything is built from `Text`, never from markup: labels, file names and the text
of screenshots come from elsewhere, and must neither colour nor steer a terminal.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pagesight._changes import EnrolOutcome
from pagesight._classification import Candidate, Classification
from pagesight._errors import PagesightError, UnreadableFileError
from pagesight._listings import CalibrationInfo, GalleryInfo, ImageInfo, LabelInfo, RevisionInfo

MAX_LINES = 6
"""Matching lines shown of a candidate; --json has them all."""

MAX_LINES_WIDTH = 100
"""Columns over which matching lines are spread at most, so that the eye finds the other one."""

MAX_REJECTED = 0.1
"""Share of the gallery's own pictures that may be rejected without a warning, as the server's
commands have it (`OWN_REJECTED` in its calibration.py)."""

Answer = tuple[Path, Classification]


def shown(value: str | os.PathLike[str]) -> str:
    """Returns text that leaves the terminal alone: control characters become marks."""
    return "".join(char if _is_harmless(char) else "\ufffd" for char in os.fspath(value))


def _is_harmless(char: str) -> bool:
    # Spaces of any width, which names of files have, are not "printable" to Python.
    return char.isprintable() or unicodedata.category(char) == "Zs"


def answers(rows: Sequence[Answer]) -> Group:
    """Draws one line per picture."""
    folder = _common_folder([picture for picture, _ in rows])
    table = _answer_table(header=True, ruled=True)
    for picture, answer in rows:
        table.add_row(*_answer_cells(picture, answer, folder))
    return Group(*_heading(folder), table)


def explained(rows: Sequence[Answer]) -> Group:
    """Draws one line per picture and under it why."""
    folder = _common_folder([picture for picture, _ in rows])
    parts = _heading(folder)
    for number, (picture, answer) in enumerate(rows):
        headline = _answer_table(header=number == 0, ruled=False)
        headline.add_row(*_answer_cells(picture, answer, folder))
        parts += [headline, Padding(_evidence(answer), (0, 0, 1, 2))]
    return Group(*parts)


def _common_folder(pictures: Sequence[Path]) -> Path | None:
    """Returns the folder that need not be said with every picture, if there is one."""
    if len(pictures) < 2 or len({picture.is_absolute() for picture in pictures}) > 1:
        return None
    folder = os.path.commonpath([picture.parent for picture in pictures])
    return Path(folder) if folder else None


def _heading(folder: Path | None) -> list[RenderableType]:
    return [] if folder is None else [Text(f"in {shown(folder)}", "dim")]


def failure(picture: Path, error: PagesightError) -> str:
    """Returns one line on a picture that has no answer."""
    if isinstance(error, UnreadableFileError):  # which names the file itself
        return shown(error.message)
    return f"{shown(picture)}: {shown(error.message)}"


def near_duplicate(picture: Path, *, label: str, of: EnrolOutcome) -> str:
    """Returns one line on a picture that was almost in the gallery already."""
    near = of.near_duplicates[0]
    where = "" if near.label == label else f", but under {shown(near.label)}"
    return (
        f"{shown(picture)}: almost the same as {near.image_id[:12]}{where}; "
        "it teaches nothing new (see `pagesight gallery doctor`)"
    )


def summary(known: Sequence[Classification], *, asked: int) -> Text:
    """Says how many pictures had which kind of answer."""
    others = sum(answer.is_other for answer in known)
    review = sum(answer.review for answer in known)
    text = Text(f"{count(asked, 'picture')}: {len(known) - others} known, {others} other")
    if review:
        text.append(f", {review} to review", "magenta")
    if asked > len(known):
        text.append(f", {asked - len(known)} failed", "red")
    return text


def _answer_table(*, header: bool, ruled: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD if ruled else None,
        show_header=header,
        header_style="bold" if ruled else "dim",
        expand=not ruled,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("picture", overflow="fold", ratio=4)
    table.add_column("answer", overflow="fold", ratio=3)
    table.add_column("score", no_wrap=True, min_width=13)
    table.add_column("next best", overflow="fold", ratio=3)
    table.add_column("ms", justify="right", no_wrap=True, min_width=4)
    return table


def _answer_cells(picture: Path, answer: Classification, folder: Path | None) -> list[Text]:
    name = Text(shown(answer.label), "bold yellow" if answer.is_other else "bold green")
    if answer.review:
        name.append(" (review)", "magenta")
    sign = "≥" if answer.score >= answer.threshold else "<"
    total_ms = answer.stage_ms.get("total")
    return [
        Text(shown(picture.relative_to(folder) if folder else picture)),
        name,
        Text(f"{answer.score:.3f} {sign} {answer.threshold:.3f}"),
        _next_best(answer),
        Text("" if total_ms is None else f"{total_ms:.0f}"),
    ]


def _next_best(answer: Classification) -> Text:
    if answer.is_other:
        return Text(f"closest {shown(answer.closest_label)}" if answer.closest_label else "", "dim")
    for candidate in answer.candidates:
        if candidate.label != answer.closest_label:
            return Text(f"{shown(candidate.label)} {candidate.score:.3f}", "dim")
    return Text("")


def _evidence(answer: Classification) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    # An ellipsis would swallow what stands behind wide characters at the end of a line.
    grid.add_column(overflow="fold")
    if answer.reasons:
        grid.add_row("why", Text("\n".join(shown(reason) for reason in answer.reasons)))
    grid.add_row("doubt", Text(_doubt(answer)))
    if answer.candidates:
        grid.add_row("nearest", _candidates(answer.candidates))
    for candidate in answer.candidates:
        if candidate.matching_lines:
            grid.add_row("lines", _lines(candidate))
    return grid


def _doubt(answer: Classification) -> str:
    reasons = ", ".join(reason.replace("_", " ") for reason in answer.review_reasons)
    return f"{answer.doubt:.2f}" + (f", to review: {reasons}" if reasons else "")


def _candidates(candidates: Iterable[Candidate]) -> Group:
    # The numbers have a line of their own: below them an id stands in 80 columns unbroken, to be
    # copied, and in 40 the words are not squeezed beside them.
    lines: list[RenderableType] = [
        Text("score  rank visual  text  label, gallery picture, score", "dim")
    ]
    for one in candidates:
        numbers = f"{one.score:.3f} {one.rank_score:.3f}  {one.visual:.3f} {one.textual:.3f}"
        lines.append(Text(f"{numbers}  {shown(one.label)}"))
        below = [shown(one.image_id), *([terms] if (terms := _terms(one)) else [])]
        lines += [Padding(Text(line, "dim", overflow="fold"), (0, 0, 0, 2)) for line in below]
    return Group(*lines)


def _terms(candidate: Candidate) -> str:
    """The score as the sum that it is; terms that add nothing are left out."""
    terms = [term for term in candidate.terms if f"{term.score:.3f}" not in {"0.000", "-0.000"}]
    text = ""
    for term in terms:
        sign = "-" if term.score < 0 else "+" if text else ""
        text += f"{' ' if text else ''}{sign}{' ' if text else ''}{abs(term.score):.3f} "
        text += term.name.replace("_", " ")
    return text


def _lines(candidate: Candidate) -> Group:
    # By ratio, so that in 40 columns the words of the header stand just unbroken.
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("likeness", width=8, no_wrap=True)
    table.add_column("on the screenshot", overflow="fold", ratio=11)
    table.add_column("on the gallery's picture", overflow="fold", ratio=10)
    for line in candidate.matching_lines[:MAX_LINES]:
        same = line.query_text == line.gallery_text
        table.add_row(
            f"{line.similarity:.2f}",
            Text(shown(line.query_text)),
            Text("the same", "dim") if same else Text(shown(line.gallery_text)),
        )
    parts: list[RenderableType] = [
        Text(f"in common with {shown(candidate.label)}"),
        Constrain(table, MAX_LINES_WIDTH),
    ]
    left = len(candidate.matching_lines) - MAX_LINES
    if left > 0:
        parts.append(Text(f"and {left} more (--json has them all)", "dim"))
    return Group(*parts)


def galleries(found: Iterable[GalleryInfo]) -> Table:
    """Draws one line per gallery."""
    table = plain_table("gallery", "revision", "pictures", "labels", "threshold", "made by")
    for at in range(1, 5):
        table.columns[at].justify = "right"
    for one in found:
        made = one.calibration
        table.add_row(
            Text(shown(one.name)),
            str(one.revision),
            str(one.images),
            str(one.labels),
            "" if made is None else f"{made.threshold_with_text:.3f}",
            Text(f"{shown(one.encoder_bundle)}\n{shown(one.ocr_bundle)}"),
        )
    return table


def gallery(found: GalleryInfo) -> Table:
    """Draws all that is told of one gallery."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    rows = {
        "gallery": shown(found.name),
        "revision": str(found.revision),
        "pictures": str(found.images),
        "labels": str(found.labels),
        "made by": f"{shown(found.encoder_bundle)}, {shown(found.ocr_bundle)}",
        "other": "not calibrated yet"
        if found.calibration is None
        else _calibration(found.calibration),
    }
    for name, text in rows.items():
        grid.add_row(name, Text(text))
    return grid


def _calibration(made: CalibrationInfo) -> str:
    placed = {"gallery": "its own pictures, left out in turn", "validation": "labelled traffic"}
    promise = (
        f"at most {made.epsilon:.0%} of known pages are rejected where traffic looks like it"
        if made.guaranteed
        else f"an estimate for {made.epsilon:.0%} of known pages rejected"
    )
    when = f", at revision {made.revision}" if made.revision else ", at an earlier revision"
    text = (
        f"below {made.threshold_with_text:.3f} with text, "
        f"{made.threshold_without_text:.3f} without\n"
        f"placed by {placed.get(made.source, 'something newer')}: "
        f"{count(made.images, 'picture')}{when}\n{promise}"
    )
    if made.images:
        text += (
            f"\nof these pictures {made.rejected_with_text:.1%} would be rejected, without text "
            f"{made.rejected_without_text:.1%}"
        )
    if too_many(made.rejected_with_text, made.epsilon):
        text += f"\n{ADVICE}: `pagesight gallery doctor` names both"
    return text


ADVICE = (
    "that is many: enrol more pictures of the labels that are rejected most, like those that are "
    "rejected, or place the threshold by labelled traffic"
)
"""What to do where many of the gallery's own pictures would be rejected."""


def too_many(rejected: float, epsilon: float = 0.0) -> bool:
    """Whether more of the gallery's own pictures would be rejected than is well.

    Args:
        rejected: The share of them, 0 to 1.
        epsilon: Share of known pages that the operator allows to be rejected.
    """
    return rejected > max(MAX_REJECTED, epsilon)


def images(found: Iterable[ImageInfo]) -> Iterator[Text]:
    """Yields the lines of a listing, under a heading for each label."""
    label = None
    for image in found:
        if image.label != label:
            label = image.label
            yield Text(shown(label), "bold")
        pixels = f"{image.width_px}×{image.height_px}"
        day = image.added_at.date().isoformat() if image.added_at else ""
        yield Text(f"  {shown(image.image_id)}  {pixels:>9}  {day:10}  r{image.added_revision}")


def revisions(found: Iterable[RevisionInfo]) -> Table:
    """Draws a history."""
    table = plain_table("revision", "when (UTC)", "who", "what", "pictures", "summary")
    for at in (0, 4):
        table.columns[at].justify = "right"
    for made in found:
        table.add_row(
            str(made.revision),
            _minute(made.made_at),
            Text(shown(made.author)),
            Text(shown(made.kind)),
            str(made.images),
            Text(shown(made.summary)),
        )
    return table


def labels(found: Iterable[LabelInfo]) -> Table:
    """Draws what is known of each label."""
    table = plain_table("label", "pictures", "brands", "outputs")
    table.columns[1].justify = "right"
    for known in found:
        table.add_row(
            Text(shown(known.label)),
            str(known.images),
            Text(shown(", ".join(known.brands))),
            Text(shown(", ".join(known.outputs or (known.label,)))),
        )
    return table


def enrolled(rows: Iterable[tuple[str, int, int, int, int]]) -> Table:
    """Draws what became of each label: added, known, failed, revision."""
    table = plain_table("label", "added", "known before", "failed", "revision")
    for at in range(1, 5):
        table.columns[at].justify = "right"
    for label, *numbers in rows:
        table.add_row(Text(shown(label)), *map(str, numbers))
    return table


def plain_table(*names: str) -> Table:
    """Makes an empty table under a heading."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _minute(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else ""


def count(number: int, what: str) -> str:
    """Returns a number with its noun, in the plural where it belongs."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
