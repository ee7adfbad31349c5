"""How alike query and picture look."""

from __future__ import annotations

from typing import ClassVar

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.scorers.scorer import ScoredQuery


class Looks:
    """The cosine of query and picture, whitened where there is enough to learn that from.

    Args:
        weight: Share of looks in the score.
    """

    name: ClassVar[TermName] = "looks"

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """Looks times their weight."""
        score = self._weight * candidate.visual
        return Term(self.name, score, score)
