"""What speaks for each known page: the screenshot against the gallery, seen and read.

    embedding ──search──> nearest pictures ─┐
    reading ──────read alike────> labels ───┴─> best picture of each label
                                                   └─ scorers, one term each ─> candidates, ranked

A page is found by its looks or by its words: in its app's next version it may look like any.
What the terms are is in `scorers/`; this module says which pictures are compared and in which
order the scorers run. The published method, `seed.py`, stands behind the same interface.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.index.cosines import Hits, Rows, by_cosine, cosines, ranked
from pagesight_server.index.layered import nearest
from pagesight_server.recognition.balance import MAX_PICTURES as MAX_FITTED
from pagesight_server.recognition.balance import MIN_PICTURES as MIN_FITTED
from pagesight_server.recognition.balance import Floats, fit_looks_share
from pagesight_server.recognition.candidates import (
    Candidate,
    Query,
    Term,
    TermName,
    by_rank,
)
from pagesight_server.recognition.entity_names import EntityNames
from pagesight_server.recognition.scorers.all_text import AllText, text_ratios
from pagesight_server.recognition.scorers.brands import MissingBrand
from pagesight_server.recognition.scorers.looks import Looks
from pagesight_server.recognition.scorers.page_text import PageText
from pagesight_server.recognition.scorers.replaced import ReplacedNames
from pagesight_server.recognition.scorers.scorer import (
    LOOKS_SHARE,
    PAGE_TEXT_TERMS,
    TEXT_WEIGHT,
    VISUAL_WEIGHT,
    ScoredQuery,
    Scorer,
    Weights,
)
from pagesight_server.recognition.scorers.siblings import Siblings
from pagesight_server.recognition.seed import SeedMethod
from pagesight_server.recognition.templates import Templates, TextEvidence
from pagesight_server.recognition.whitening import Whitening
from pagesight_server.text.matching import normalised_text
from pagesight_server.text.reading import Reading

MethodName = Literal["seed", "pagesight"]

MAX_DIFFERENCES = 4
"""Strings that a reason quotes."""

LeftOut = TermName | Literal["whitening", "gallery_weights"]
"""A kind of evidence that can be left out, to measure what it is worth."""

NormalisedTexts = dict[str, tuple[Reading, str]]
"""What was read of each picture of the sample, by its id, and all of it as `normalised_text`."""


class Method(Protocol):
    """Turns a query into candidates, over one snapshot."""

    def search(self, embedding: Embedding, *, without: int | None = None) -> Hits:
        """The pictures worth comparing; `without` leaves one out, for calibration."""

    def search_many(self, embeddings: Embeddings, *, without: Rows | None = None) -> list[Hits]:
        """Does what `search` does for several at once, faster; `without` has a row for each."""

    def weigh(
        self, query: Query, hits: Hits, *, without: int | None = None
    ) -> tuple[Candidate, ...]:
        """One candidate per label among the hits, best first; `without` as in `search`."""

    def differences(
        self, query: Query, label: str, other: str, *, without: int | None = None
    ) -> tuple[str, ...]:
        """Says in words what of the query tells one label from another, if anything does.

        `without` is as in `search`.
        """

    def labels_sharing_text(self) -> Mapping[str, tuple[str, ...]]:
        """The labels that no text tells from others, with these, where the method mines texts."""


class PagesightMethod:
    """The best picture of every label nearby, and what the pages of that label always show.

    Digits, masks and case say nothing about the page, so they are normalised before
    comparing. How much the templates count is the gallery's to say: much where a
    label's pictures share their text, little where they are in many languages.
    Examples of unknown pages are searched too: `decision.py` lets them forbid an
    answer.

    Args:
        snapshot: The gallery.
        without: Kinds of evidence to leave out.
        before: Of an earlier revision: what it knew of pictures and labels that did not change
            is taken over, to the same end.
        refit: Whether to fit the whitening anew. Not: that of `before` serves on, which
            saves a second where there are many pictures.
    """

    K = 64
    """Pictures compared because they look alike. Of an app's next version, none of its page's may
    be among them: three of the four errors on drawn seed 22 (docs/recognition.md)."""

    READ_LABELS, READ_PICTURES = 8, 8
    """Labels compared because they read alike, and how many pictures of each, or of one that has
    more pictures than are read: those that look most alike of its sample."""

    EVIDENCE: ClassVar[Mapping[LeftOut, str]] = {
        "looks": "how alike the pictures look",
        "whitening": "looking alike beyond what varies between pictures of one page",
        "gallery_weights": "the share of looks against text, fitted on the gallery",
        "all_text": "how alike all text reads",
        "stable_text": "what the label always shows",
        "discriminative_text": "what only this label shows",
        "explained_text": "how much of the text the label has ever shown",
        "missing_brand": "the operator's brand names, visible or not",
        "replaced_names": "other names where the label's own should stand",
        "siblings": "comparing the best labels on the words in which they differ",
        "unknown_example": "enrolled examples of unknown pages",
    }

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        without: Collection[LeftOut] = (),
        before: PagesightMethod | None = None,
        refit: bool = True,
    ) -> None:
        self._without = frozenset(without)
        reserved = np.asarray([is_reserved(p.label) for p in snapshot.pictures], bool)
        self._snapshot = snapshot
        self._known = nearest(snapshot.embeddings, np.flatnonzero(~reserved))
        self._unknown = nearest(snapshot.embeddings, np.flatnonzero(reserved))
        self._normalised: NormalisedTexts = _normalised(
            snapshot, before._normalised if before else {}
        )
        self._texts: dict[int, str] = {
            row: self._normalised[snapshot.pictures[row].image_id][1]
            for row in snapshot.sampled_readings
        }
        """`normalised_text` of each picture of the sample, by row."""
        self._templates: Templates = Templates(snapshot, before._templates if before else None)
        self._names: EntityNames = EntityNames(snapshot, before._names if before else None)
        self._whitening: Whitening = Whitening(
            snapshot.embeddings,
            [p.label for p in snapshot.pictures],
            np.flatnonzero(~reserved),
            fitted=before._whitening if before and not refit else None,
        )
        self._place = {label: i for i, label in enumerate(self._templates.labels)}
        self._agreements = self._templates.agreements(
            label for label in self._templates.labels if not is_reserved(label)
        )
        left_out: set[TermName] = {
            term for term in self._without if term != "whitening" and term != "gallery_weights"
        }
        self._terms_left_out = left_out
        likeness: list[Scorer] = [
            Looks(),
            AllText(),
            *(PageText(name, self._place) for name in PAGE_TEXT_TERMS),
        ]
        vetoes: list[Scorer] = [MissingBrand(), ReplacedNames()]
        self._scorers = [scorer for scorer in likeness if scorer.name not in left_out]
        self._vetoes = [scorer for scorer in vetoes if scorer.name not in left_out]
        self._siblings = None if "siblings" in left_out else Siblings(self._place)
        self.looks_share: float = LOOKS_SHARE
        if before and not refit:
            self.looks_share = before.looks_share
        elif "gallery_weights" not in self._without:
            self.looks_share = self._fit_looks_share()

    def search(self, embedding: Embedding, *, without: int | None = None) -> Hits:
        """The 64 nearest of known pages, and the 64 nearest examples of unknown ones.

        Searched apart, so that many examples crowd out no known page.
        """
        left_out = None if without is None else np.asarray([without], np.int64)
        return self.search_many(embedding[None, :], without=left_out)[0]

    def search_many(self, embeddings: Embeddings, *, without: Rows | None = None) -> list[Hits]:
        """Does what `search` does for several at once, faster; `without` has a row for each."""
        known = self._known.search_many(embeddings, self.K, without=without)
        if "unknown_example" in self._without:
            return known
        unknown = self._unknown.search_many(embeddings, self.K, without=without)
        return [by_cosine(*both) for both in zip(known, unknown, strict=True)]

    def weigh(
        self, query: Query, hits: Hits, *, without: int | None = None
    ) -> tuple[Candidate, ...]:
        """The best picture of each label among the hits, and what the label always shows."""
        if query.reading is None:
            return self._by_looks(query.embedding, hits, without=without)
        scored, chosen = self._compare(query.embedding, query.reading, hits, without=without)
        likely = sorted((self._likeness(scored, candidate) for candidate in chosen), key=by_rank)
        vetoed = self._veto(scored, likely)
        return vetoed if self._siblings is None else self._siblings.rank(scored, vetoed)

    def _compare(
        self, embedding: Embedding, reading: Reading, hits: Hits, *, without: int | None
    ) -> tuple[ScoredQuery, list[Candidate]]:
        """What scorers need of a query, and the picture that speaks for each label."""
        page_text = self._templates.weigh(reading, without=without)
        hits = self._with_labels_read_alike(embedding, hits, page_text, without=without)
        hits = self._with_sample(embedding, hits, without=without)
        hits = self._whitened(embedding, hits, without=without)
        text = normalised_text(reading)
        rows = [row for row in hits.rows.tolist() if row in self._texts]
        others = [self._texts[row] for row in rows]
        ratios = dict(zip(rows, text_ratios(text, others).tolist(), strict=True))
        lines = page_text.lines
        coverage = float(page_text.explained.max(initial=0.0))
        scored = ScoredQuery(
            ratios=ratios,
            page_text=page_text,
            names=cache(lambda label: self._names.weigh(label, lines, without=without)),
            accepting=cache(self._weights),
            ranking=cache(lambda label: self._weights(label, coverage)),
        )
        return scored, self._chosen(hits, ratios)

    def _weights(self, label: str, coverage: float = 1.0) -> Weights:
        """How much each kind of likeness counts for a label."""
        return Weights.of(
            self._agreements[label],
            looks_share=self.looks_share,
            coverage=coverage,
            without=self._terms_left_out,
        )

    def _fit_looks_share(self) -> float:
        """The share of looks against all text that ranks the gallery's own pictures best."""
        pictures, sample = self._snapshot.pictures, self._snapshot.sample
        rows = sorted(
            row
            for label, of_label in sample.items()
            if len(of_label) > 1 and not is_reserved(label)
            for row in of_label
        )
        rows = rows[:: max(1, -(-len(rows) // MAX_FITTED))]
        if len(rows) < MIN_FITTED:
            return LOOKS_SHARE
        evidence, own = [], []
        without = np.asarray(rows, np.int64)
        embeddings = self._snapshot.embeddings[without]
        hits_of = self.search_many(embeddings, without=without)
        for row, embedding, hits in zip(rows, embeddings, hits_of, strict=True):
            reading = self._snapshot.sampled_readings[row]
            scored, chosen = self._compare(embedding, reading, hits, without=row)
            candidates = [one for one in chosen if not is_reserved(one.label)]
            labels = [candidate.label for candidate in candidates]
            if pictures[row].label in labels:
                evidence.append(self._evidence(scored, candidates))
                own.append(labels.index(pictures[row].label))
        return fit_looks_share(evidence, own)

    def _evidence(self, query: ScoredQuery, candidates: Sequence[Candidate]) -> Floats:
        """Looks, all text and page text of each candidate, as they are ranked by: shape (n, 3)."""
        page_text = query.page_text
        rows = []
        for candidate in candidates:
            place = self._place[candidate.label]
            shares = (page_text.stable, page_text.discriminative, page_text.explained)
            trust = len(PAGE_TEXT_TERMS) * query.ranking(candidate.label).page_text
            agrees = sum(float(share[place]) for share in shares) / len(PAGE_TEXT_TERMS)
            rows.append((candidate.visual, query.ratios[candidate.row], trust * agrees))
        return np.asarray(rows, np.float64)

    def looks_between(
        self,
        left: Embeddings,
        right: Embeddings,
        *,
        left_labels: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """How alike pictures look, as candidates are compared; see `Whitening.between`."""
        if "whitening" in self._without:
            return np.asarray(left @ right.T, np.float32)
        return self._whitening.between(left, right, left_labels=left_labels)

    def differences(
        self, query: Query, label: str, other: str, *, without: int | None = None
    ) -> tuple[str, ...]:
        """The strings of the query that one label shows more often than the other."""
        if query.reading is None:
            return ()
        page_text = self._templates.weigh(query.reading, without=without)
        _, strings = page_text.odds(self._place[label], self._place[other])
        if not strings:
            return ()
        quoted = ", ".join(
            f"{string!r} ({rate:.0%} to {other_rate:.0%})"
            for string, rate, other_rate in strings[:MAX_DIFFERENCES]
        )
        return (f"words that tell {label} from {other}: {quoted}",)

    def labels_sharing_text(self) -> Mapping[str, tuple[str, ...]]:
        """The labels whose stable text all stands as often on pages of others, with these."""
        return self._templates.labels_sharing_text()

    def _whitened(self, embedding: Embedding, hits: Hits, *, without: int | None) -> Hits:
        if "whitening" in self._without:
            return hits
        return self._whitening.cosines(embedding, hits, without=without)

    def _with_labels_read_alike(
        self, embedding: Embedding, hits: Hits, page_text: TextEvidence, *, without: int | None
    ) -> Hits:
        """Adds pictures of the labels that read most alike, where hits have none of them."""
        agrees = page_text.stable + page_text.discriminative + page_text.explained
        seen = {self._snapshot.pictures[row].label for row in hits.rows.tolist()}
        parts = [hits]
        for i in np.argsort(-agrees, kind="stable")[: self.READ_LABELS].tolist():
            label = self._templates.labels[i]
            unsought = is_reserved(label) and "unknown_example" in self._without
            if agrees[i] <= 0 or label in seen or unsought:
                continue
            parts.append(self._nearest_of_sample(embedding, label, {without}))
        return Hits(*map(np.concatenate, zip(*parts, strict=True)))

    def _with_sample(self, embedding: Embedding, hits: Hits, *, without: int | None) -> Hits:
        """Adds pictures of the sample of each label of which hits have a picture outside it.

        Such a picture looks like its label; what the label reads like its sample says.
        """
        seen = set(hits.rows.tolist())
        outside = {self._snapshot.pictures[row].label for row in seen if row not in self._texts}
        but = seen | {without}
        parts = [hits, *(self._nearest_of_sample(embedding, name, but) for name in sorted(outside))]
        return Hits(*map(np.concatenate, zip(*parts, strict=True)))

    def _nearest_of_sample(
        self, embedding: Embedding, label: str, but: Collection[int | None]
    ) -> Hits:
        """Those of a label's sample that look most alike, some left out."""
        rows = [row for row in self._snapshot.sample[label] if row not in but]
        near = cosines(embedding, self._snapshot.embeddings[rows])
        return ranked(np.asarray(rows, np.int64), near, self.READ_PICTURES)

    def _by_looks(
        self, embedding: Embedding, hits: Hits, *, without: int | None
    ) -> tuple[Candidate, ...]:
        """One candidate per label where no text was read."""
        hits = self._with_sample(embedding, hits, without=without)
        hits = self._whitened(embedding, hits, without=without)
        chosen = self._chosen(hits, dict.fromkeys(hits.rows.tolist(), 0.0))
        return tuple(
            sorted(
                (one.with_terms(Term("looks", one.visual, one.visual)) for one in chosen),
                key=by_rank,
            )
        )

    def _chosen(self, hits: Hits, ratios: Mapping[int, float]) -> list[Candidate]:
        """The picture that speaks for each label: the most alike by the published weights.

        It is one of the sample, as a person is shown its text; the label looks like any of its.

        Args:
            hits: Pictures; of each label one of the sample among them.
            ratios: How alike the text of each hit of the sample reads, by row.
        """
        best: dict[str, tuple[float, float, int]] = {}
        outside: dict[str, float] = {}
        for row, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True):
            label = self._snapshot.pictures[row].label
            if row not in self._texts:
                outside[label] = max(cosine, outside.get(label, cosine))
                continue
            key = (-(VISUAL_WEIGHT * cosine + TEXT_WEIGHT * ratios[row]), -cosine, row)
            best[label] = min(best.get(label, key), key)
        return [
            Candidate(
                label=label,
                row=row,
                visual=max(-negated, outside.get(label, -negated)),
                textual=ratios[row],
                terms=(),
            )
            for label, (_, negated, row) in best.items()
        ]

    def _likeness(self, query: ScoredQuery, candidate: Candidate) -> Candidate:
        """A candidate with what looks and reads alike; `textual` is all that text says of it."""
        terms = tuple(scorer.term(query, candidate) for scorer in self._scorers)
        read = sum(term.score for term in terms if term.name != "looks")
        looks = query.accepting(candidate.label).looks
        return Candidate(
            label=candidate.label,
            row=candidate.row,
            visual=candidate.visual,
            textual=read / (1 - looks),
            terms=terms,
        )

    def _veto(self, query: ScoredQuery, likely: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Subtracts what names forbid, from as many of the best as may still come first.

        Names cost most of all evidence, and only subtract: a candidate that is behind the best
        so far cannot overtake it.
        """
        vetoed: list[Candidate] = []
        best = -np.inf
        for candidate in likely:
            if candidate.rank_score < best:
                break
            if not is_reserved(candidate.label):
                terms = [scorer.term(query, candidate) for scorer in self._vetoes]
                candidate = replace(candidate, names=query.names(candidate.label))
                candidate = candidate.with_terms(*terms)
                best = max(best, candidate.rank_score)
            vetoed.append(candidate)
        return tuple(sorted((*vetoed, *likely[len(vetoed) :]), key=by_rank))


METHODS: Mapping[MethodName, type[SeedMethod | PagesightMethod]] = {
    "seed": SeedMethod,
    "pagesight": PagesightMethod,
}


def _normalised(snapshot: Snapshot, before: NormalisedTexts) -> NormalisedTexts:
    """All text of the sample's pictures, by id; of what is known already, as it was."""
    texts = {}
    for row, reading in snapshot.sampled_readings.items():
        image_id = snapshot.pictures[row].image_id
        known = before.get(image_id)
        if known is None or known[0] is not reading:
            known = (reading, normalised_text(reading))
        texts[image_id] = known
    return texts
