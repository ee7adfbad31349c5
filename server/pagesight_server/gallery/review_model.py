"""What is kept for the review of answers, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pagesight_server.common.arrays import Embedding
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.text.reading import Reading

KeptReason: TypeAlias = Literal["doubtful", "rejected", "random"]
"""Why an answer was kept: its doubt was high, it was `other`, or it was drawn at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLimits:
    """How much is kept of each gallery's answers, and for how long."""

    answers: int = 0
    """The newest so many; 0: none."""
    max_bytes: int = 1024 * 1024 * 1024
    """Bytes of their pictures, as they are kept."""
    keep_days: float = 14.0
    """Days after which an answer is forgotten."""

    def since_ms(self, now_ms: int) -> int:
        """The Unix time before which answers are forgotten."""
        return now_ms - round(self.keep_days * 24 * 60 * 60 * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer that was kept, without its picture."""

    image_id: str
    gallery: str
    revision: int
    label: str
    closest_label: str
    score: float
    threshold: float
    doubt: float
    review_reasons: tuple[str, ...]
    kept_reason: KeptReason
    kept_at_ms: int
    """Unix time, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPicture:
    """An answer to keep, with its picture and what the models made of that."""

    answer: KeptAnswer
    image: bytes
    """The picture as received, or a smaller copy."""
    bundles: Bundles
    embedding: Embedding
    reading: Reading | None
    """None where text was not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFeatures:
    """What the models made of the picture of a kept answer."""

    answer: KeptAnswer
    embedding: Embedding
    reading: Reading | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAnswer:
    """A kept answer of a listing."""

    answer: KeptAnswer
    number: int
    """Rises: the newest has the greatest."""
    decisions: int
    """How many there are of its picture, hidden known items apart."""
    reviewers: tuple[str, ...]
    """Those who made them, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The kept answers that nobody decided yet."""

    answers: int
    oldest_ms: int | None
    """When the oldest of them was given; None when none waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person decided of one screenshot."""

    decision_id: str
    image_id: str
    label: str
    """What it shows; empty: the person could not tell."""
    shown_label: str = ""
    """What the machine had answered."""
    shown_closest_label: str = ""
    shown_doubt: float = 0.0
    revision: int = 0
    """The revision of the gallery that had answered."""
    reviewer: str = ""
    decided_at_ms: int = 0
    """Unix time, UTC; set by the store."""
    known_label: str = ""
    """What a hidden known item shows. Empty: it was none."""
    seconds: float = 0.0
    """From showing to deciding; 0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDecision:
    """Holds a decision, and the number that places it in listings."""

    decision: Decision
    number: int
    """Rises: the newest has the greatest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissedPicture:
    """What was seen and read of a picture of a cluster that is of no interest."""

    image_id: str
    """SHA-256 of its bytes, in hexadecimal; of these nothing is kept."""
    embedding: Embedding
    reading: Reading
