"""What pages of a label always show, what only they show, and what they ever showed."""

from __future__ import annotations

from collections.abc import Mapping

from pagesight_server.recognition.candidates import Candidate, Term
from pagesight_server.recognition.scorers.scorer import PageTextTerm, ScoredQuery


class PageText:
    """One of the three shares of `templates.TextEvidence`, which are all 0 to 1.

    Args:
        name: Which share.
        place: Place of each label in the arrays of `TextEvidence`.
    """

    def __init__(self, name: PageTextTerm, place: Mapping[str, int]) -> None:
        self.name: PageTextTerm = name
        self._place = place

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """The label's share, times its weight."""
        evidence = query.page_text
        shares = {
            "stable_text": evidence.stable,
            "discriminative_text": evidence.discriminative,
            "explained_text": evidence.explained,
        }[self.name]
        share = float(shares[self._place[candidate.label]])
        return Term(
            self.name,
            query.accepting(candidate.label).page_text * share,
            query.ranking(candidate.label).page_text * share,
        )
