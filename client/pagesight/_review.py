"""What goes into the calls for the review of answers and what comes out, as plain values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from pagesight._classification import Classification, ReviewReason

KeptReason: TypeAlias = Literal["doubtful", "rejected", "random", "unknown"]
"""Why a server kept an answer: its doubt was high, it was `OTHER`, or it was drawn at random.
`unknown`: what a newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer that the server kept, without its picture."""

    image_id: str
    """SHA-256 of the picture's bytes, in hexadecimal."""
    gallery: str
    revision: int
    """Revision of the gallery that answered."""
    label: str
    """A label, or `OTHER`."""
    closest_label: str
    score: float
    threshold: float
    doubt: float
    """0 to 1."""
    review_reasons: tuple[ReviewReason, ...]
    kept_reason: KeptReason
    kept_at: datetime | None
    """UTC, when it was given."""
    decisions: int
    """How many there are of its picture."""
    reviewers: tuple[str, ...]
    """Those who made them, as the server names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLimits:
    """How much a server keeps for review."""

    capacity: int
    """Answers of each gallery; 0: it keeps none."""
    keep_days: float
    """Days after which a kept answer is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownItem:
    """A picture of the gallery, answered as if the gallery did not hold it."""

    image_id: str
    """SHA-256 in hexadecimal; `get_image` reads it."""
    label: str
    """The label that it carries in the gallery."""
    answer: Classification
    """What would be answered without it, with five candidates, reasons and findings."""


def new_decision_id() -> str:
    """An id that no other decision has."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person decided of one screenshot."""

    image_id: str
    """SHA-256 of the picture's bytes, in hexadecimal; the server need not have it."""
    label: str
    """What it shows: a label, new ones too, or `OTHER`. Empty: the person could not tell."""
    shown_label: str = ""
    """What the machine had answered: what was shown."""
    shown_closest_label: str = ""
    shown_doubt: float = 0.0
    """0 to 1."""
    revision: int = 0
    """The revision of the gallery that had answered."""
    reviewer: str = ""
    """Who decided, at most 256 characters. A server that asks for tokens puts the token's name
    before it, as in `token/name`."""
    known_label: str = ""
    """The label that a hidden known item carries. Empty: it was none."""
    seconds: float = 0.0
    """Seconds between showing and deciding. 0: unknown."""
    decision_id: str = field(default_factory=new_decision_id)
    """Names it, 1 to 128 characters: recording it again changes nothing."""
    decided_at: datetime | None = None
    """UTC; set by the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewerFigures:
    """Counts what one reviewer decided, and how many hidden known items rightly."""

    reviewer: str
    decided: int
    """Pictures, hidden known items apart."""
    known_items: int
    """Hidden known items that were decided."""
    known_right: int
    """How many of these rightly."""
    median_seconds: float
    """Median of the seconds that a decision took; 0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """What was decided of one label's answers."""

    label: str
    """The label that the machine had answered, or `OTHER`."""
    decided: int
    corrected: int
    """How many decisions gave another label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFigures:
    """What was decided on one day."""

    day: str
    """The day in UTC, such as 2026-11-29."""
    decided: int
    agreed: int
    """How many decisions agreed with the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFigures:
    """How much was decided, and how well; hidden known items count for reviewers alone."""

    decided: int
    """Pictures of which there is a decision."""
    agreed: int
    """Those whose newest decision is what the machine had answered."""
    waiting: int
    """Kept answers that nobody decided yet."""
    oldest_waiting: datetime | None
    """UTC, when the oldest of these was given; None when none waits."""
    doubly_decided: int
    """Pictures of which two reviewers or more could tell what they show."""
    kappa: float | None
    """How well these agree beyond chance: Cohen's kappa, -1 to 1. None where fewer than two
    pictures were doubly decided, or all decisions about them are one label."""
    reviewers: tuple[ReviewerFigures, ...]
    labels: tuple[LabelFigures, ...]
    days: tuple[DayFigures, ...]
    """The oldest first, at most 90."""
