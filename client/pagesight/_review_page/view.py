"""What is shown of a card, as plain values for the templates: texts masked, numbers in words.

    Card ──> CardView ─┬ pictures: the screenshot, and that of each candidate, boxes and covers
                       ├ choices:  what the keys 1 to 5 take
                       ├ terms:    what the score is made of
                       └ words:    what only one of the two shows, and lines that nearly agree

The live page and the static one show the same values. Templates escape whatever they are given.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pagesight._classification import (
    OTHER,
    Box,
    Candidate,
    Classification,
    Finding,
    ReviewReason,
    ScoreTermName,
)
from pagesight._review_page import masking
from pagesight._review_page.model import Card, Question, Stage

MAX_WORDS = 12
"""Texts of one kind that are listed; the boxes show all."""

LEAST_TERM = 0.0005
"""Terms below it are 0.000 as they are printed, and are left out."""

STAGE_TEXT: dict[Stage, str] = {
    "doubtful": "doubtful",
    "variety": "first of its kind",
    "random": "drawn at random",
    "rest": "of the rest",
}
REASON_TEXT: dict[ReviewReason, str] = {
    "near_threshold": "it only just fits well enough",
    "close_runner_up": "the runner-up fits nearly as well",
    "brand_not_visible": "none of its brands is visible",
    "looks_unlike": "it looks like no picture of the page",
    "uncalibrated": "no page has a second picture to compare with yet",
    "unknown": "a reason that this client does not know",
}
TERM_TEXT: dict[ScoreTermName, str] = {
    "looks": "looks",
    "all_text": "all text",
    "stable_text": "text the page always shows",
    "discriminative_text": "text only this page shows",
    "explained_text": "text known of this page",
    "missing_brand": "brand missing",
    "replaced_names": "other names in its place",
    "siblings": "words that tell it from the next",
    "unknown_example": "like an example of the unknown",
    "unknown": "newer evidence",
}
QUESTION_TEXT = {
    "wrong_label": "Is it rightly {0}, or {1}?",
    "odd_picture": "Is it rightly {0}? It is unlike the rest.",
    "near_duplicates": "Are these all wanted? They are almost the same.",
    "rejected_pictures": "Are these right? As queries they would be rejected.",
    "hardly_read": "Is it right? Its text could hardly be read.",
    "no_own_text": "Is {0} right as it is? It has no text of its own.",
    "few_pictures": "Are so few pictures of {0} enough?",
    "unlike_pictures": "Does this show {0}? No other picture of it resembles what is here.",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Marks a rectangle over a picture."""

    box: Box
    kind: str
    """agrees, forbids, missing, or cover."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Shows a candidate that a key takes: its picture, and the lines in which it differs."""

    rank: int
    label: str
    score: float
    image_id: str
    size: tuple[int, int] | None
    marks: tuple[Mark, ...] | None
    """None: where digits stand is not known, so that the picture is veiled."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the score, with the bar that draws it."""

    text: str
    score: float
    start: float
    """Per cent of the width."""
    width: float


@dataclass(frozen=True, slots=True)
class Words:
    """Texts of one kind."""

    kind: str
    title: str
    texts: tuple[tuple[str, str], ...]
    """Text and note."""
    more: int


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a line: of both, or of one alone."""

    text: str
    differs: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line that both show, not quite alike."""

    query: tuple[Part, ...]
    gallery: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class CardView:
    """All that is shown of a card."""

    key: str
    label: str
    closest_label: str
    rejected: bool
    stage: str
    doubt_percent: int
    score: float
    threshold: float
    margin: float
    reasons: tuple[str, ...]
    size: tuple[int, int] | None
    """Width and height that the boxes of the screenshot refer to; None: those of the picture."""
    marks: tuple[Mark, ...] | None
    """None: where digits stand is not known, so that it is veiled."""
    choices: tuple[Choice, ...]
    terms: tuple[Term, ...]
    words: tuple[Words, ...]
    revealed: bool
    revision: int


def environment(**values: object) -> Environment:
    """Returns the templates, which escape all that they are given."""
    made = Environment(
        loader=PackageLoader("pagesight._review_page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"OTHER": OTHER, "version": version("pagesight"), **values}
    made.filters["number"] = lambda value: f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
    made.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    made.filters["percent"] = lambda value: f"{value:.0%}"
    made.filters["count"] = lambda value: f"{value:,}"
    made.filters["mask"] = masking.mask
    return made


def printable(text: str) -> str:
    """Returns a text that can be sent: names of files may hold bytes that are no UTF-8."""
    return text.encode(errors="replace").decode()


def _finalize(value: object) -> object:
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(str(value)) if plain else value


SizeOf = Callable[[str], tuple[int, int] | None]


def card_view(card: Card, size_of: SizeOf) -> CardView:
    """Returns what is shown of a card; digits are masked unless they are revealed.

    Args:
        card: What to show.
        size_of: Width and height in which the boxes of a gallery picture count, by its id; None
            where that is not known.
    """
    answer, shown = card.answer, _text(card.revealed)
    # What waits is answered as it is shown; a known item was answered as the gallery received it,
    # of which the server may keep a smaller picture.
    known = card.waiting.origin == "known"
    size = size_of(card.waiting.image_id) if known else None
    on_query = [
        Mark(one.query_box, one.kind) for one in answer.findings if one.query_box is not None
    ]
    query_covers = () if card.revealed else masking.query_covers(answer)
    on_page = [
        Mark(one.gallery_box, one.kind) for one in answer.findings if one.gallery_box is not None
    ]
    choices = tuple(
        Choice(
            rank=rank,
            label=candidate.label,
            score=candidate.score,
            image_id=candidate.image_id,
            size=size_of(candidate.image_id),
            # Texts are boxed for the closest page alone.
            marks=_marks(
                on_page if rank == 1 else (),
                _gallery_covers(card, candidate),
                placed=size_of(candidate.image_id) is not None,
            ),
            lines=tuple(_lines(candidate, shown)),
        )
        for rank, candidate in enumerate(answer.candidates, start=1)
    )
    return CardView(
        key=card.key,
        label=answer.label,
        closest_label=answer.closest_label,
        rejected=answer.is_other,
        stage=STAGE_TEXT[card.stage],
        doubt_percent=round(100 * answer.doubt),
        score=answer.score,
        threshold=answer.threshold,
        margin=answer.score - answer.threshold,
        reasons=tuple(REASON_TEXT[reason] for reason in answer.review_reasons),
        size=size,
        marks=_marks(on_query, query_covers, placed=size is not None or not known),
        choices=choices,
        terms=tuple(_terms(answer)),
        words=tuple(_words(answer, shown)),
        revealed=card.revealed,
        revision=answer.revision,
    )


def _marks(
    boxes: Iterable[Mark], covers: Sequence[Box], *, placed: bool
) -> tuple[Mark, ...] | None:
    """What is drawn over a picture; None where it has covers and no place for them is known."""
    if covers and not placed:
        return None
    return (*boxes, *(Mark(box, "cover") for box in covers))


def _gallery_covers(card: Card, candidate: Candidate) -> tuple[Box, ...]:
    return () if card.revealed else masking.gallery_covers(card.answer, candidate)


def question_text(question: Question) -> str:
    """What a finding asks, in words."""
    labels = [*question.finding.labels, "another", "another"]
    return QUESTION_TEXT[question.finding.kind].format(*labels)


def _text(revealed: bool) -> Callable[[str], str]:
    return str if revealed else masking.mask


def _terms(answer: Classification) -> Iterator[Term]:
    terms = answer.candidates[0].terms if answer.candidates else ()
    # One scale for all bars, zero where the most negative of them ends.
    below = -min([0.0, *(term.score for term in terms)])
    span = below + max([0.0, *(term.score for term in terms)]) or 1.0
    telling = [term for term in terms if abs(term.score) >= LEAST_TERM]
    for term in sorted(telling, key=lambda term: -abs(term.score)):
        start = 100 * (below + min(term.score, 0.0)) / span
        yield Term(TERM_TEXT[term.name], term.score, start, 100 * abs(term.score) / span)


def _words(answer: Classification, shown: Callable[[str], str]) -> Iterator[Words]:
    kinds = (
        ("forbids", "Only the screenshot shows"),
        ("missing", "Only the page shows"),
        ("agrees", "Both show"),
    )
    for kind, title in kinds:
        texts = list(_told([one for one in answer.findings if one.kind == kind], shown))
        if texts:
            yield Words(kind, title, tuple(texts[:MAX_WORDS]), max(0, len(texts) - MAX_WORDS))


def _told(findings: Iterable[Finding], shown: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    for finding in findings:
        note = finding.note if shown is str else masking.mask_quoted(finding.note)
        yield shown(finding.text), note


def _lines(candidate: Candidate, shown: Callable[[str], str]) -> Iterator[Line]:
    """The lines that nearly agree, the stretches that do not marked."""
    for line in candidate.matching_lines:
        query, gallery = shown(line.query_text), shown(line.gallery_text)
        if query == gallery:
            continue
        matcher = difflib.SequenceMatcher(None, query, gallery, autojunk=False)
        codes = matcher.get_opcodes()
        yield Line(
            tuple(Part(query[a:b], tag != "equal") for tag, a, b, _, _ in codes if b > a),
            tuple(Part(gallery[c:d], tag != "equal") for tag, _, _, c, d in codes if d > c),
        )
