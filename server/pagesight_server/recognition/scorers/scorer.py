"""What a scorer is given, and how much looks and text weigh in one gallery."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from pagesight_server.recognition.candidates import Candidate, Term, TermName
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.templates import TextEvidence

VISUAL_WEIGHT, TEXT_WEIGHT = 0.6, 0.4
"""Weights of looks and of all text where templates have none: the published ones."""

MAX_TRUST = 0.6
"""Weight of the templates where the gallery's texts agree with themselves."""

AGREEMENT_FLOOR, TRUST_PER_AGREEMENT = 0.35, 1.1
"""Below the floor pictures of one page share no more text than unrelated pages of one app do, so
templates weigh nothing; from there trust rises until an agreement of 0.9 gives `MAX_TRUST`. Chosen
on drawn pages (agreement 0.9) and real ones in many languages (0.2): docs/recognition.md."""

PageTextTerm = Literal["stable_text", "discriminative_text", "explained_text"]
PAGE_TEXT_TERMS: tuple[PageTextTerm, ...] = get_args(PageTextTerm)
"""The three shares of `templates.TextEvidence`, a term each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredQuery:
    """What scorers know of one query; text was read."""

    ratios: Mapping[int, float]
    """How alike all text of the query and of a gallery picture reads, 0 to 1, by row."""
    page_text: TextEvidence
    """What its text says for each label of the gallery."""
    names: Callable[[str], NameEvidence]
    """Whether it goes by the names of a label; looked up once a label, and dear."""


class Scorer(Protocol):
    """Adds one named term to a candidate."""

    @property
    def name(self) -> TermName:
        """The name of the term, by which it can be left out."""

    def term(self, query: ScoredQuery, candidate: Candidate) -> Term:
        """What this kind of evidence adds to the two scores of a candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Share of each kind of likeness in the score; they add up to 1 unless all text is left out."""

    looks: float
    all_text: float
    page_text: float
    """Of each of the three terms of `page_text.py` that is used."""

    @staticmethod
    def of(agreement: float, without: Collection[TermName] = ()) -> Weights:
        """The weights of a gallery.

        Args:
            agreement: How well its texts agree with themselves, 0 to 1: the more, the more the
                templates count.
            without: Terms that are left out; the others of text or looks take their share.
        """
        trust = min(MAX_TRUST, max(0.0, TRUST_PER_AGREEMENT * (agreement - AGREEMENT_FLOOR)))
        looks = 0.0 if "looks" in without else VISUAL_WEIGHT * (1 - trust)
        all_text = 0.0 if "all_text" in without else TEXT_WEIGHT * (1 - trust)
        used = [name for name in PAGE_TEXT_TERMS if name not in without]
        templates = trust if used else 0.0
        share = (1 - looks) / max(1e-9, all_text + templates)
        return Weights(
            looks=looks,
            all_text=share * all_text,
            page_text=share * templates / max(1, len(used)),
        )
