"""The operator's brand names, visible or not."""

from __future__ import annotations

from typing import ClassVar

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.scorers.scorer import ScoredQuery

SCORE_PER_NAT = 0.05
"""Score that one nat of a missing brand name costs. Ten pictures that all show it make 3.1 nats: so
a page that was scrolled past its brand can be accepted, and one that bears another name, whose cost
is in `replaced`, cannot."""

RANKED_SHARE = 0.1
"""Part of what names forbid that counts in ranking: a name that is scrolled away says little about
which of the known pages this is, and much about whether it is any."""


class MissingBrand:
    """Costs what it is surprising that none of the label's brand names is visible."""

    name: ClassVar[TermName] = "missing_brand"

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """Minus the surprise, in nats, times its price."""
        cost = SCORE_PER_NAT * query.names(candidate.label).missing_nats
        return Term(self.name, -cost, -RANKED_SHARE * cost)
