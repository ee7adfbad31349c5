"""How alike all text of query and picture reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

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


def text_ratios(text: str, others: Sequence[str]) -> NDArray[np.float64]:
    """How alike a text and each of some others read, 0 to 1; 0 when either is empty."""
    if not text or not others:
        return np.zeros(len(others))
    # All in one call, which runs without the GIL.
    ratios: NDArray[np.float64] = (
        process.cdist([text], others, scorer=fuzz.ratio, dtype=np.float64)[0] / 100
    )
    ratios[[not other for other in others]] = 0.0
    return ratios
