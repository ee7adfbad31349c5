"""How alike query and picture look."""

from __future__ import annotations

from typing import ClassVar

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.scorers.scorer import ScoredQuery


class Looks:
    """The cosine of query and picture, whitened where there is enough to learn that from."""

    name: ClassVar[TermName] = "looks"

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """Looks times their weight."""
        return Term(
            self.name,
            query.accepting(candidate.label).looks * candidate.visual,
            query.ranking(candidate.label).looks * candidate.visual,
        )
