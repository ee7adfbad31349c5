"""How alike all text of query and picture reads."""

from __future__ import annotations

from typing import ClassVar

from rapidfuzz import fuzz

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.scorers.scorer import ScoredQuery


class AllText:
    """The RapidFuzz ratio of all lines: the published measure, on normalised text."""

    name: ClassVar[TermName] = "all_text"

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """The ratio with the candidate's picture, times its weight."""
        ratio = query.ratios[candidate.row]
        return Term(
            self.name,
            query.accepting(candidate.label).all_text * ratio,
            query.ranking(candidate.label).all_text * ratio,
        )


def text_ratio(text: str, other: str) -> float:
    """How alike two texts read, 0 to 1; 0 when either is empty."""
    return fuzz.ratio(text, other) / 100 if text and other else 0.0
