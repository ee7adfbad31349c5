"""How much reviewers decided, and how well: they, the machine and each other held side by side.

    decisions ──newest of each reviewer and picture──┬─ hidden known items ──> right, per reviewer
                                                     ├─ as the machine said? ──> agreed, corrected
                                                     └─ pairs of reviewers ──> Cohen's kappa

A decision "cannot tell" is a decision, and no opinion about a label: it neither agrees with the
machine nor corrects it, and says nothing of how reviewers agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from statistics import median

from pagesight_server.gallery.review_model import Decision
from pagesight_server.gallery.snapshot import OTHER, is_reserved

MAX_DAYS = 90
"""Days that are told, the last ones: a quarter."""


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
    """Median over the decisions whose time is known; 0 where none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """What was decided of one label's answers."""

    label: str
    """The label that the machine had answered, or `other`."""
    decided: int
    corrected: int
    """How many decisions gave another label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFigures:
    """What was decided on one day."""

    day: str
    """ISO 8601, UTC."""
    decided: int
    agreed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFigures:
    """How much was decided, and how well; hidden known items count for reviewers alone."""

    decided: int
    """Pictures."""
    agreed: int
    """Pictures whose newest decision is what the machine had answered."""
    doubly_decided: int
    """Pictures of which two reviewers or more could tell what they show."""
    kappa: float | None
    """Cohen's kappa, -1 to 1; None where fewer than two pictures were doubly decided, or all
    decisions about them are one label."""
    reviewers: tuple[ReviewerFigures, ...]
    """The reviewers, ordered by name."""
    labels: tuple[LabelFigures, ...]
    """The labels, ordered by name."""
    days: tuple[DayFigures, ...]
    """The oldest first, the last `MAX_DAYS` that have decisions."""


def review_figures(decisions: Iterable[Decision]) -> ReviewFigures:
    """The figures of a gallery's decisions.

    Args:
        decisions: In the order in which they were made.
    """
    # Whoever decides again has changed their mind.
    newest = {(d.reviewer, d.image_id, bool(d.known_label)): d for d in decisions}
    standing = sorted(newest.values(), key=lambda decision: decision.decided_at_ms)
    known = [decision for decision in standing if decision.known_label]
    real = [decision for decision in standing if not decision.known_label]
    last_word = {decision.image_id: decision for decision in real}
    by_picture: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for decision in real:
        if decision.label:
            by_picture[decision.image_id][decision.reviewer] = answer_of(decision.label)
    doubly = [told for told in by_picture.values() if len(told) > 1]
    return ReviewFigures(
        decided=len(last_word),
        agreed=sum(map(agrees, last_word.values())),
        doubly_decided=len(doubly),
        kappa=cohens_kappa(_pairs(doubly)) if len(doubly) > 1 else None,
        reviewers=_reviewers(real, known),
        labels=_labels(real),
        days=_days(real),
    )


def answer_of(label: str) -> str:
    """The answer that a label stands for: labels of unknown pages are never one, but `other` is."""
    return OTHER if label and is_reserved(label) else label


def agrees(decision: Decision) -> bool:
    """Whether a person decided what the machine had answered."""
    return answer_of(decision.label) == answer_of(decision.shown_label)


def _corrects(decision: Decision) -> bool:
    return bool(decision.label) and not agrees(decision)


def _pairs(doubly: Iterable[dict[str, str]]) -> list[tuple[str, str]]:
    """The labels of every two reviewers of a picture, those of the earlier name first."""
    return [
        (told[first], told[second])
        for told in doubly
        for first, second in combinations(sorted(told), 2)
    ]


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two raters beyond chance, (observed - expected) / (1 - expected).

    With more reviewers than two, every pair of them counts in one table, as if the earlier name
    were one rater and the later the other: a table for each two would be too small to say what
    chance expects.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.

    Args:
        pairs: The labels that both gave to one picture.

    Returns:
        -1 to 1; None where there are no pairs, or all labels are one, so that chance explains all.
    """
    if not pairs:
        return None
    count = len(pairs)
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    observed = sum(one == other for one, other in pairs) / count
    expected = sum(n * second[label] for label, n in first.items()) / count**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def _reviewers(real: Sequence[Decision], known: Sequence[Decision]) -> tuple[ReviewerFigures, ...]:
    decided = Counter(decision.reviewer for decision in real)
    items = Counter(decision.reviewer for decision in known)
    right = Counter(d.reviewer for d in known if d.label == d.known_label)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for decision in (*real, *known):
        if decision.seconds > 0:
            seconds[decision.reviewer].append(decision.seconds)
    return tuple(
        ReviewerFigures(
            reviewer=name,
            decided=decided[name],
            known_items=items[name],
            known_right=right[name],
            median_seconds=median(seconds[name]) if seconds[name] else 0.0,
        )
        for name in sorted(decided.keys() | items.keys())
    )


def _labels(real: Sequence[Decision]) -> tuple[LabelFigures, ...]:
    decided = Counter(decision.shown_label for decision in real)
    corrected = Counter(decision.shown_label for decision in real if _corrects(decision))
    return tuple(
        LabelFigures(label=label, decided=decided[label], corrected=corrected[label])
        for label in sorted(decided)
    )


def _days(real: Sequence[Decision]) -> tuple[DayFigures, ...]:
    def day(decision: Decision) -> str:
        return datetime.fromtimestamp(decision.decided_at_ms / 1000, UTC).date().isoformat()

    decided = Counter(map(day, real))
    agreed = Counter(day(decision) for decision in real if agrees(decision))
    return tuple(
        DayFigures(day=each, decided=decided[each], agreed=agreed[each])
        for each in sorted(decided)[-MAX_DAYS:]
    )
