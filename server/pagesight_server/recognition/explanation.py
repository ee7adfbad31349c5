"""Why an answer, for a person who looks at the two pictures: which texts, and why not another.

    screenshot's lines ──in the gallery picture?──> agrees
                  └─no─in another of the label?──> agrees, but not with that picture
                              └─no───────────────> forbids: new to this page
    picture's lines that the label mostly shows, not in the screenshot ──> missing

Costs one comparison of all lines of a label, a few milliseconds: for answers that
somebody looks at, never on the way of every screenshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pagesight_server.gallery.snapshot import OTHER, Snapshot
from pagesight_server.recognition.decision import WORTH_TELLING, Decision
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.findings import Finding
from pagesight_server.recognition.string_rates import STABLE
from pagesight_server.text.lines import PageLine, page_lines
from pagesight_server.text.reading import Reading
from pagesight_server.text.variants import find_variant

MAX_PICTURES = 50
"""Pictures of a label that are looked at; a share of more would be no different."""

NAMED = 3
"""Texts that a sentence quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a reviewer is shown beside score and threshold."""

    findings: tuple[Finding, ...] = ()
    """Texts that can be boxed, in reading order of each picture."""
    why_not: str = ""
    """What keeps the runner-up from being the answer; empty when no other page was near."""


def explain(snapshot: Snapshot, reading: Reading | None, decision: Decision) -> Explanation:
    """Lays the screenshot's text beside that of the closest page and of the runner-up.

    Args:
        snapshot: The gallery that answered.
        reading: Text of the screenshot; None when it was not read.
        decision: The answer. Names that it found replaced are shown instead of what a plain
            comparison finds in the same place.
    """
    if not decision.candidates:
        return Explanation()
    weighed = _replaced(decision.candidates[0].names)
    found = list(weighed)
    if reading is not None:
        taken = {(f.query_box, f.gallery_box) for f in weighed}
        boxes = {box for pair in taken for box in pair if box is not None}
        found += [
            finding
            for finding in text_findings(snapshot, reading, decision.candidates[0].row)
            if finding.query_box not in boxes and finding.gallery_box not in boxes
        ]
    return Explanation(findings=tuple(found), why_not=_why_not(snapshot, reading, decision))


def _replaced(names: NameEvidence) -> list[Finding]:
    """Names that stand where the page's own should stand."""
    return [
        Finding(
            kind="forbids",
            text=one.line.text,
            query_box=one.line.box,
            note=f"this page shows {one.expected!r} where it says {one.observed!r} "
            f"(weight {one.weight:.2f})",
        )
        for one in names.replacements
        if one.weight >= WORTH_TELLING
    ]


def text_findings(snapshot: Snapshot, reading: Reading, row: int) -> tuple[Finding, ...]:
    """The texts in which a screenshot and a page agree and differ.

    Digits and masks say nothing; lines of fewer than two other characters and the phone's status
    bar are passed over.

    Args:
        snapshot: The gallery.
        reading: Text of the screenshot.
        row: The picture that speaks for the page.
    """
    label = snapshot.pictures[row].label
    rows = [i for i, p in enumerate(snapshot.pictures) if p.label == label and i != row]
    picture = page_lines(snapshot.pictures[row].reading)
    others = [page_lines(snapshot.pictures[i].reading) for i in rows[: MAX_PICTURES - 1]]
    asked = page_lines(reading)
    pictures = 1 + len(others)
    found = []
    matched: set[int] = set()
    for line in asked:
        here = _like(line, picture)
        shown = (here is not None) + sum(_like(line, other) is not None for other in others)
        if here is not None:
            matched.add(here)
        note = _shown(shown, pictures)
        found.append(
            Finding(
                kind="agrees" if shown else "forbids",
                text=line.line.text,
                query_box=line.line.box,
                gallery_box=picture[here].line.box if here is not None else None,
                note=note if here is not None or not shown else f"{note}, not this one",
            )
        )
    for place, line in enumerate(picture):
        if place in matched or _like(line, asked) is not None:
            continue
        shown = 1 + sum(_like(line, other) is not None for other in others)
        if shown >= STABLE * pictures:
            found.append(
                Finding(
                    kind="missing",
                    text=line.line.text,
                    gallery_box=line.line.box,
                    note=_shown(shown, pictures),
                )
            )
    return tuple(found)


def _like(line: PageLine, lines: Sequence[PageLine]) -> int | None:
    """The most similar spelling variant of a line, by its index."""
    return find_variant(line.key, [other.key for other in lines])


def _shown(count: int, pictures: int) -> str:
    if not count:
        return "no picture of this page shows it"
    if pictures == 1:
        return "the page's only picture shows it"
    return f"{count} of {pictures} pictures of this page show it"


def _why_not(snapshot: Snapshot, reading: Reading | None, decision: Decision) -> str:
    if len(decision.candidates) < 2:
        return ""
    best, second = decision.candidates[:2]
    picture = snapshot.pictures[second.row]
    told = (
        f"Why not {second.label} ({picture.image_id[:12]})? It scores {second.score:.3f}, "
        f"{best.score - second.score:.3f} less than {best.label}"
    )
    if decision.label == OTHER:
        told = (
            f"The runner-up {second.label} ({picture.image_id[:12]}) is no better: it scores "
            f"{second.score:.3f}, {best.score - second.score:.3f} less than {best.label}"
        )
    if reading is None:
        return f"{told}; text was not read."
    found = text_findings(snapshot, reading, second.row)
    agrees = sum(finding.kind == "agrees" for finding in found)
    asked = agrees + sum(finding.kind == "forbids" for finding in found)
    if not asked:
        return f"{told}; the screenshot shows no text that could tell."
    told += f"; it shows {agrees} of the screenshot's {asked} texts"
    missing = [finding.text for finding in found if finding.kind == "missing"][:NAMED]
    if missing:
        told += "; the screenshot lacks its " + ", ".join(f"“{text}”" for text in missing)
    return told + "."
