"""What a scorer is given, and how much looks and text weigh in one gallery."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.templates import TextEvidence

VISUAL_WEIGHT, TEXT_WEIGHT = 0.6, 0.4
"""Weights by which the picture that speaks for a label is chosen: the published ones."""

LOOKS_SHARE = 0.6
"""Share of looks against all text before a gallery says otherwise (`balance.py`): the published
one."""

MAX_TRUST = 0.6
"""Weight of a label's templates where its pictures agree on their text: as much as looks have in
the published method. Of 0.4 to 0.8 no set of the table in docs/recognition.md prefers any."""

AGREEMENT_FLOOR, TRUST_PER_AGREEMENT = 0.35, 1.1
"""Below the floor pictures of one page share no more text than unrelated pages of one app do, so
templates weigh nothing; from there trust rises until an agreement of 0.9 gives `MAX_TRUST`. Chosen
on drawn pages (agreement 0.9) and real ones in many languages (0.2): docs/recognition.md."""

PageTextTerm = Literal["stable_text", "discriminative_text", "explained_text"]
PAGE_TEXT_TERMS: tuple[PageTextTerm, ...] = get_args(PageTextTerm)
"""The three shares of `templates.TextEvidence`, a term each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Share of each kind of likeness in a score; they add up to 1 unless all text is left out."""

    looks: float
    all_text: float
    page_text: float
    """Share of each of the three terms of `page_text.py` that is used."""

    @staticmethod
    def of(
        agreement: float,
        *,
        looks_share: float = LOOKS_SHARE,
        coverage: float = 1.0,
        without: Collection[TermName] = (),
    ) -> Weights:
        """Returns the weights of one label.

        Args:
            agreement: How well the label's pictures agree on their text, 0 to 1: the more, the
                more its templates count.
            looks_share: Share of looks against all text, 0 to 1.
            coverage: Share of the query's text that any label explains, 0 to 1: templates say
                little of a text that nobody knows.
            without: Terms that are left out; the others of text or looks take their share.
        """
        trust = min(MAX_TRUST, max(0.0, TRUST_PER_AGREEMENT * (agreement - AGREEMENT_FLOOR)))
        trust *= coverage
        looks = 0.0 if "looks" in without else looks_share * (1 - trust)
        all_text = 0.0 if "all_text" in without else (1 - looks_share) * (1 - trust)
        used = [name for name in PAGE_TEXT_TERMS if name not in without]
        templates = trust if used else 0.0
        share = (1 - looks) / max(1e-9, all_text + templates)
        return Weights(
            looks=looks,
            all_text=share * all_text,
            page_text=share * templates / max(1, len(used)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredQuery:
    """What scorers know of one query; text was read."""

    ratios: Mapping[int, float]
    """How alike all text of the query and of a gallery picture reads, 0 to 1, by row."""
    page_text: TextEvidence
    """What its text says for each label of the gallery."""
    names: Callable[[str], NameEvidence]
    """Whether it goes by the names of a label; looked up once a label, and dear."""
    accepting: Callable[[str], Weights]
    """The weights of a label where it is held against the threshold: text of the query that no
    label knows speaks against all of them."""
    ranking: Callable[[str], Weights]
    """The weights of a label where labels are ranked: such text says nothing of which it is."""


class Scorer(Protocol):
    """Adds one named term to a candidate."""

    @property
    def name(self) -> TermName:
        """The name of the term, by which it can be left out."""

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """What this kind of evidence adds to the two scores of a candidate."""
