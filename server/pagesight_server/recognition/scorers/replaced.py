"""Other names where the label's own should stand."""

from __future__ import annotations

from typing import ClassVar

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.scorers.brands import RANKED_SHARE
from pagesight_server.recognition.scorers.scorer import ScoredQuery

SCORE_PER_NAME, MAX_NAMES = 1.0, 1.5
"""Score that one replaced name costs, and how many count. One that is surely another's costs all
that looks and text can give: 1."""


class ReplacedNames:
    """Costs what it says of a page that another name stands where its own always stood."""

    name: ClassVar[TermName] = "replaced_names"

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """Minus the replaced names, each as surely as it is one, times their price."""
        cost = SCORE_PER_NAME * min(MAX_NAMES, query.names(candidate.label).replaced)
        return Term(self.name, -cost, -RANKED_SHARE * cost)
