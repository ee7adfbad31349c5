"""Why an answer, for a person who looks at the two pictures: which texts, and why not another.

    screenshot's lines ──in the gallery picture?──> agrees
                  └─no─in another of the label?──> agrees, but not with that picture
                              └─no───────────────> forbids: new to this page
    picture's lines that the label mostly shows, not in the screenshot ──> missing

    comparisons with the closest page and the next ──> reasons, boxed findings, why not, lines

Everything a reviewer is shown comes from one comparison per page, so no two of them can disagree.
A page costs a core about 10 ms where its pictures have 45 lines, and 0.5 s where they have 2,000
(`python -m tests.bench.bench_explanation`): for answers that somebody looks at, never on the way
of every screenshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rapidfuzz import fuzz

from pagesight_server.gallery.snapshot import OTHER, Snapshot
from pagesight_server.recognition.calibration import GUARANTEE_PICTURES
from pagesight_server.recognition.candidates import Candidate, Query, TermName
from pagesight_server.recognition.decision import Decision, ReviewReason
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.findings import Finding
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.string_rates import STABLE
from pagesight_server.text.legibility import legibility
from pagesight_server.text.lines import PageLine, page_lines
from pagesight_server.text.matching import has_word
from pagesight_server.text.reading import Reading
from pagesight_server.text.variants import find_variants

MAX_PICTURES = 50
"""Pictures of a label that are looked at; a share of more would be no different."""

NAMED = 3
"""Texts that a sentence quotes, and replaced names that a reviewer is told of."""

WORTH_TELLING = 0.05
"""Weight of a replaced name from which a reviewer is told of it: it costs the page 0.03."""

TERM_TEXT: Mapping[TermName, str] = {
    "looks": "looks",
    "all_text": "all text",
    "stable_text": "text the page always shows",
    "discriminative_text": "text only this page shows",
    "explained_text": "text known of this page",
    "missing_brand": "brand name missing",
    "replaced_names": "other names in place of its own",
    "siblings": "words that tell it from the next page",
    "unknown_example": "more like an example of unknown pages",
}
"""What a term of the score is called in a reason."""

REVIEW_TEXT: Mapping[ReviewReason, str] = {
    "near_threshold": "it fits hardly well enough",
    "close_runner_up": "the runner-up fits nearly as well",
    "brand_not_visible": "none of its brand names is visible",
    "looks_unlike": "it looks like no picture of the page",
    "uncalibrated": "no page has a second picture, so nothing says how well a known page fits",
}
"""What a reason for review is called in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMatch:
    """A line of the screenshot and the line of a gallery picture that it matches."""

    query_text: str
    gallery_text: str
    similarity: float
    """RapidFuzz ratio of their matching keys, 0.8 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a reviewer is shown beside score and threshold."""

    reasons: tuple[str, ...] = ()
    """The decision in words, one statement each."""
    findings: tuple[Finding, ...] = ()
    """Texts that can be boxed, in reading order of each picture."""
    why_not: str = ""
    """What keeps the runner-up from being the answer; empty when no other page was near."""
    matching_lines: Mapping[str, tuple[LineMatch, ...]] = field(default_factory=dict)
    """By label: the lines of the screenshot that the gallery picture of its candidate has too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageComparison:
    """The screenshot's text beside that of one candidate's page."""

    candidate: Candidate
    image_id: str
    """The gallery picture that speaks for the page."""
    findings: tuple[Finding, ...]
    matches: tuple[LineMatch, ...]
    lines: int
    """How many lines of the screenshot can tell a page at all."""

    @property
    def agreeing(self) -> int:
        """How many lines of the screenshot the page has ever shown."""
        return sum(finding.kind == "agrees" for finding in self.findings)


def explain(
    knowledge: Knowledge,
    query: Query,
    decision: Decision,
    *,
    pages: int = 1,
    without: int | None = None,
    step: Callable[[], None] = lambda: None,
) -> Explanation:
    """Lays the screenshot's text beside that of the closest pages.

    Args:
        knowledge: What answered.
        query: The screenshot.
        decision: The answer. Names that it found replaced are shown instead of what a plain
            comparison finds in the same place.
        pages: How many candidates' matching lines are wanted.
        without: Row of the snapshot that was left out to find the answer.
        step: Called before each page; what it raises ends the explanation.
    """
    if not decision.candidates:
        return Explanation(reasons=("the gallery knows no page yet",))
    snapshot, reading = knowledge.snapshot, query.reading
    compared = []
    for candidate in decision.candidates[: max(2, pages)]:
        step()
        compared.append(compare_with_page(snapshot, reading, candidate, without=without))
    return Explanation(
        reasons=tuple(_reasons(knowledge, query, decision, compared, without=without)),
        findings=() if reading is None else _boxed(compared[0]),
        why_not=_why_not(reading, decision, compared),
        matching_lines={page.candidate.label: page.matches for page in compared[:pages]},
    )


def compare_with_page(
    snapshot: Snapshot,
    reading: Reading | None,
    candidate: Candidate,
    *,
    without: int | None = None,
) -> PageComparison:
    """Compares the lines of a screenshot with those of a candidate's page.

    Digits and masks say nothing: lines without a word beside them and the phone's status bar are
    passed over. Scores are made of more lines than a person is shown.

    Args:
        snapshot: The gallery.
        reading: Text of the screenshot; None when it was not read.
        candidate: Its row is the picture that speaks for the page.
        without: Row of the snapshot that counts as not enrolled.
    """
    image_id = snapshot.pictures[candidate.row].image_id
    shown = snapshot.reading(candidate.row)
    if reading is None or shown is None:
        return PageComparison(
            candidate=candidate, image_id=image_id, findings=(), matches=(), lines=0
        )
    rows = [row for row in snapshot.sample[candidate.label] if row not in {candidate.row, without}]
    page = _telling(shown)
    keys = [line.key for line in page]
    others = [_keys(snapshot.sampled_readings[row]) for row in rows[: MAX_PICTURES - 1]]
    asked = _telling(reading)
    variants = find_variants([line.key for line in asked], [keys, *others])
    findings: list[Finding] = []
    matches: list[LineMatch] = []
    matched: set[int] = set()
    for line in asked:
        variant, *elsewhere = variants[line.key]
        other = None if variant is None else page[variant]
        findings.append(_finding(line, other, elsewhere))
        if variant is not None and other is not None:
            matched.add(variant)
            matches.append(
                LineMatch(
                    query_text=line.line.text,
                    gallery_text=other.line.text,
                    similarity=fuzz.ratio(line.key, other.key) / 100,
                )
            )
    unmatched = [line for place, line in enumerate(page) if place not in matched]
    variants = find_variants(
        [line.key for line in unmatched], [[line.key for line in asked], *others]
    )
    for line in unmatched:
        in_query, *elsewhere = variants[line.key]
        if in_query is None:
            findings += _missing(line, elsewhere)
    return PageComparison(
        candidate=candidate,
        image_id=image_id,
        findings=tuple(findings),
        matches=tuple(matches),
        lines=len(asked),
    )


def _telling(reading: Reading) -> list[PageLine]:
    """The lines of a page that say something to a person."""
    return [line for line in page_lines(reading) if has_word(line.key)]


def _keys(reading: Reading) -> list[str]:
    """The matching keys of these lines."""
    return [line.key for line in _telling(reading)]


def _finding(line: PageLine, other: PageLine | None, elsewhere: Sequence[int | None]) -> Finding:
    """Whether a line of the screenshot speaks for the page or against it.

    Args:
        line: The line.
        other: The line of the picture that speaks for the page that it matches.
        elsewhere: Which line of each other picture it matches.
    """
    shown = (other is not None) + _count(elsewhere)
    note = _shown(shown, 1 + len(elsewhere))
    return Finding(
        kind="agrees" if shown else "forbids",
        text=line.line.text,
        query_box=line.line.box,
        gallery_box=None if other is None else other.line.box,
        note=note if other is not None or not shown else f"{note}, not this one",
    )


def _missing(line: PageLine, elsewhere: Sequence[int | None]) -> Iterator[Finding]:
    """A line of the page that the screenshot lacks, where the page mostly shows it."""
    pictures = 1 + len(elsewhere)
    shown = 1 + _count(elsewhere)
    if shown >= STABLE * pictures:
        yield Finding(
            kind="missing",
            text=line.line.text,
            gallery_box=line.line.box,
            note=_shown(shown, pictures),
        )


def _count(variants: Sequence[int | None]) -> int:
    """On how many pictures a line has a variant."""
    return sum(variant is not None for variant in variants)


def _shown(count: int, pictures: int) -> str:
    if not count:
        return "no picture of this page shows it"
    if pictures == 1:
        return "the page's only picture shows it"
    return f"{count} of {pictures} pictures of this page show it"


def _boxed(page: PageComparison) -> tuple[Finding, ...]:
    """What can be boxed: replaced names first, then the lines that are not among them."""
    replaced = [
        Finding(
            kind="forbids",
            text=name.line.text,
            query_box=name.line.box,
            note=f"this page shows {name.expected!r} where it says {name.observed!r} "
            f"(weight {name.weight:.2f})",
        )
        for name in page.candidate.names.replacements
        if name.weight >= WORTH_TELLING
    ]
    boxes = {finding.query_box for finding in replaced}
    return (*replaced, *(f for f in page.findings if f.query_box not in boxes))


def _reasons(
    knowledge: Knowledge,
    query: Query,
    decision: Decision,
    compared: Sequence[PageComparison],
    *,
    without: int | None,
) -> Iterator[str]:
    """The decision in words for a reviewer, one statement each."""
    best = decision.candidates[0]
    verdict = "accepted" if decision.label != OTHER else "rejected"
    yield (
        f"closest to {best.label} ({compared[0].image_id[:12]}): score {decision.score:.3f}, "
        f"{verdict} at {decision.threshold:.3f}"
    )
    yield f"looks alike {best.visual:.3f}" + (
        f", reads alike {best.textual:.3f}" if query.reading is not None else ""
    )
    if len(best.terms) > 1:
        yield f"score {decision.score:.3f} = {_breakdown(best)}"
    yield from _about_names(best.names)
    yield _about_text(query.reading, compared[0])
    yield from _about_legibility(query.reading)
    if len(decision.candidates) > 1:
        second = decision.candidates[1]
        yield f"runner-up {second.label}: score {second.score:.3f}"
        yield from knowledge.method.differences(query, best.label, second.label, without=without)
    yield from (f"review: {REVIEW_TEXT[reason]}" for reason in decision.review_reasons)
    if decision.against is not None and decision.against.rank_score > best.rank_score:
        yield (
            f"more like an example of {decision.against.label}: "
            f"score {decision.against.rank_score:.3f}"
        )
    if not knowledge.calibration.guaranteed:
        yield f"threshold estimated: fewer than {GUARANTEE_PICTURES} pictures of the typical page"


def _breakdown(candidate: Candidate) -> str:
    """The terms of a score as a sum, those that add nothing left out."""
    shown = [term for term in candidate.terms if abs(term.score) >= 0.0005]
    parts = [
        f"{'-' if term.score < 0 else '+'} {TERM_TEXT[term.name]} {abs(term.score):.3f}"
        for term in shown
    ]
    return " ".join(parts).removeprefix("+ ")


def _about_names(names: NameEvidence) -> Iterator[str]:
    """Whether the page's names are visible, or others in their place."""
    if names.pictures:
        seen = f"{names.pictures_with_brand} of {names.pictures} gallery pictures"
        if names.visible_brand:
            yield f"brand {names.visible_brand}: visible, as in {seen}"
        else:
            yield f"brand: not visible, visible in {seen}"
    for name in names.replacements[:NAMED]:
        if name.weight >= WORTH_TELLING:
            yield f"{name.observed!r} where this page shows {name.expected!r}: {name.weight:.2f}"


def _about_text(reading: Reading | None, page: PageComparison) -> str:
    """How much of the screenshot's text the closest picture has."""
    if reading is None:
        return "text was not read: pages that differ in words alone look the same"
    if not reading.lines:
        return "the screenshot shows no text"
    if not page.lines:
        return "the screenshot shows no text that could tell"
    return f"{len(page.matches)} of {page.lines} lines are on that picture too"


def _about_legibility(reading: Reading | None) -> Iterator[str]:
    """Whether the screenshot's text was hardly read, so that it says little for or against."""
    if reading is not None and (read := legibility(reading)).poor:
        yield (
            f"{read.hardly_read} of {read.lines} lines were hardly read: the OCR bundle may not "
            "know the script"
        )


def _why_not(
    reading: Reading | None, decision: Decision, compared: Sequence[PageComparison]
) -> str:
    """What keeps the runner-up from being the answer, in one sentence."""
    if len(decision.candidates) < 2:
        return ""
    best, second = decision.candidates[:2]
    page = compared[1]
    behind = best.rank_score - second.rank_score
    scores = f"it scores {second.score:.3f} and ranks {behind:.3f} behind {best.label}"
    sentence = f"Why not {second.label} ({page.image_id[:12]})? {scores.capitalize()}"
    if decision.label == OTHER:
        sentence = f"The runner-up {second.label} ({page.image_id[:12]}) is no better: {scores}"
    if reading is None:
        return f"{sentence}; text was not read."
    if not page.lines:
        return f"{sentence}; the screenshot shows no text that could tell."
    sentence += f"; it shows {page.agreeing} of the screenshot's {page.lines} texts"
    missing = [finding.text for finding in page.findings if finding.kind == "missing"][:NAMED]
    if missing:
        sentence += "; the screenshot lacks its " + ", ".join(f"“{text}”" for text in missing)
    return sentence + "."
