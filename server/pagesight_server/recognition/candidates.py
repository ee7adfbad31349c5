"""A query and the known pages it may show, each with the breakdown of its score.

    Candidate ── terms: looks + all_text + ... - missing_brand  = score       accept or reject
                        the same, weighed to rank               = rank_score  which page it is

Nothing assigns a score: it is the sum of the terms, so a breakdown that is shown always adds up.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from pagesight_server.common.arrays import Embedding
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.text.reading import Reading

TermName = Literal[
    "looks",
    "all_text",
    "stable_text",
    "discriminative_text",
    "explained_text",
    "missing_brand",
    "replaced_names",
    "siblings",
    "unknown_example",
]
"""What a part of a score rests on; `scorers/` has a file for each, `decision.py` adds the last."""

NAME_TERMS: tuple[TermName, ...] = ("missing_brand", "replaced_names")
"""Terms that hold a page's name against a screenshot that may look and read like it."""

NO_NAMES = NameEvidence()
"""Of candidates whose names were not examined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A screenshot as far as recognition sees it."""

    embedding: Embedding
    reading: Reading | None
    """None: text was not read, so it must not count as missing."""


class Term(NamedTuple):
    """A named part of a candidate's two scores."""

    name: TermName
    score: float
    """What it adds to the score that is held against the threshold."""
    rank_score: float
    """What it adds to the score by which pages are ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Holds the evidence for one label, and its scores."""

    label: str
    row: int
    """The gallery picture that speaks for it: a row of the snapshot."""
    visual: float
    """How alike query and picture look, -1 to 1: cosine, whitened or plain as the method says."""
    textual: float
    """How alike their texts read, 0 to 1; 0 also when no text was read."""
    names: NameEvidence = NO_NAMES
    """Whether the page's names are visible, or others in their place."""
    terms: tuple[Term, ...]
    """The breakdown of both scores, in the order in which the scorers ran."""
    score: float = field(init=False)
    """The sum of the terms; the page is accepted from the threshold on."""
    rank_score: float = field(init=False)
    """The sum of the terms as they count in ranking; the greatest is the closest page."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", sum(term.score for term in self.terms))
        object.__setattr__(self, "rank_score", sum(term.rank_score for term in self.terms))

    def with_terms(self, *terms: Term) -> Candidate:
        """Returns the candidate with more terms, which count in both scores."""
        return replace(self, terms=(*self.terms, *terms))

    def without_terms(self, names: Collection[TermName]) -> Candidate:
        """The candidate as if some scorers had not run."""
        return replace(self, terms=tuple(term for term in self.terms if term.name not in names))


def by_rank(candidate: Candidate) -> tuple[float, float, int]:
    """Sorts the best first; ties go to the greater cosine, then to the earlier picture."""
    return -candidate.rank_score, -candidate.visual, candidate.row


def best_per_label(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best candidate of each label, best first."""
    best: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=by_rank):
        best.setdefault(candidate.label, candidate)
    return list(best.values())


def lead_over(label: str, candidates: Sequence[Candidate]) -> float:
    """By how much a label leads the best of the others in ranking.

    Args:
        label: The label in question.
        candidates: Known pages alone.

    Returns:
        Infinity where no other label is a candidate; minus infinity where the label is none.
    """
    own = next((c.rank_score for c in candidates if c.label == label), -math.inf)
    others = max((c.rank_score for c in candidates if c.label != label), default=-math.inf)
    return -math.inf if own == -math.inf else own - others
