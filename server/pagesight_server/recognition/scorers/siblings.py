"""The words in which a label differs from the one ranked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pagesight_server.gallery.snapshot import is_reserved
from pagesight_server.recognition.candidates import Candidate, Term, TermName, by_rank
from pagesight_server.recognition.scorers.scorer import ScoredQuery

SCORE_PER_NAT, MAX_NATS = 0.03, 5.0
"""Score that one nat of `TextEvidence.odds` moves a label past the one ranked first, and how many
count: what a redesign changes of the looks. Of 0.01 to 0.05, errors are fewest from 0.02 to 0.04,
on real pages and on drawn ones."""


class Siblings:
    """Lets labels pass the first where the words in which the two differ say so.

    Unlike the other scorers it compares candidates with each other, so it runs last, over all.

    Args:
        place: Place of each label in the arrays of `TextEvidence`.
    """

    name: ClassVar[TermName] = "siblings"

    def __init__(self, place: Mapping[str, int]) -> None:
        self._place = place

    def rank(self, query: ScoredQuery, ranked: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates with what is added to their ranking, best first.

        Args:
            query: The query.
            ranked: Candidates, best first.
        """
        if not ranked or is_reserved(ranked[0].label):
            return tuple(ranked)
        first, *rest = ranked
        return tuple(
            sorted((first, *(self._passing(query, one, first) for one in rest)), key=by_rank)
        )

    def _passing(self, query: ScoredQuery, candidate: Candidate, first: Candidate) -> Candidate:
        behind = first.rank_score - candidate.rank_score
        if is_reserved(candidate.label) or behind >= SCORE_PER_NAT * MAX_NATS:
            return candidate
        nats, _ = query.page_text.odds(self._place[candidate.label], self._place[first.label])
        ahead = SCORE_PER_NAT * min(MAX_NATS, nats)
        return candidate.with_terms(Term(self.name, 0.0, ahead)) if ahead > behind else candidate
