"""What speaks for each known page: the screenshot against the gallery, seen and read.

    embedding ──search──> hits ─┐
    reading ────────────────────┴─weigh──> candidates, one per label, best first

A page is found by its looks or by its words: in its app's next version it may look like any.

Two methods behind one interface. `seed` is the published prototype, kept to the
letter so that it can always be measured; `pagesight` is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, Protocol

import numpy as np
from rapidfuzz import fuzz

from pagesight_server.common.arrays import Embedding
from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.index.cosines import Hits, cosines, ranked
from pagesight_server.index.layered import nearest
from pagesight_server.recognition.entity_names import EntityNames, NameEvidence
from pagesight_server.recognition.templates import Templates, TextEvidence
from pagesight_server.recognition.whitening import Whitening
from pagesight_server.text.lines import page_lines
from pagesight_server.text.matching import normalised_text
from pagesight_server.text.reading import Reading

MethodName = Literal["seed", "pagesight"]

VISUAL_WEIGHT = 0.6
TEXT_WEIGHT = 0.4
"""The published weights; both methods use them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A screenshot as far as recognition sees it."""

    embedding: Embedding
    reading: Reading | None
    """None: text was not read, so it must not count as missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The best evidence for one label."""

    label: str
    row: int
    """The picture that speaks for it: a row of the snapshot."""
    visual: float
    """How alike query and picture look, -1 to 1: cosine, whitened or plain as the method says."""
    textual: float
    """0 to 1; 0 also when no text was read."""
    fit: float
    """How well all that looks and reads alike speaks for the label."""
    names: NameEvidence
    """What its name, or another in its place, speaks against it."""
    score: float
    """What candidates are ranked by: the fit, less a part of what the names forbid."""
    acceptance: float
    """What is held against the threshold: the fit, less all that the names forbid."""


Folded = dict[str, tuple[Reading, str]]
"""By image: what was read, and all of it folded."""


class Method(Protocol):
    """Turns a query into candidates, over one snapshot."""

    def search(self, embedding: Embedding, *, without: int | None = None) -> Hits:
        """The pictures worth comparing; `without` leaves one out, for calibration."""

    def weigh(
        self, query: Query, hits: Hits, *, without: int | None = None
    ) -> tuple[Candidate, ...]:
        """One candidate per label among the hits, best first; `without` as in `search`."""

    def differences(self, query: Query, label: str, other: str) -> tuple[str, ...]:
        """In words, what of the query tells one label from another, if anything does."""


class SeedMethod:
    """The published method: five nearest pictures, ratio of all text, 0.6 to 0.4.

    Text similarity is `rapidfuzz.fuzz.ratio`/100 of the joined lines, 0 when
    either is empty. Without OCR the score is the cosine alone. Examples of
    unknown pages did not exist for it and are not searched.
    """

    K = 5

    def __init__(self, snapshot: Snapshot, *, visual_weight: float = VISUAL_WEIGHT) -> None:
        self._visual_weight = visual_weight
        known = [i for i, p in enumerate(snapshot.pictures) if not is_reserved(p.label)]
        self._snapshot = snapshot
        self._index = nearest(snapshot.embeddings, np.asarray(known, np.int64))
        self._texts = [picture.reading.joined() for picture in snapshot.pictures]

    def search(self, embedding: Embedding, *, without: int | None = None) -> Hits:
        """The five nearest pictures."""
        return self._index.search(embedding, self.K, without=without)

    def weigh(
        self, query: Query, hits: Hits, *, without: int | None = None
    ) -> tuple[Candidate, ...]:
        """The best picture of each label among the hits; ties go to the greater cosine."""
        text = query.reading.joined() if query.reading is not None else None
        return _best_per_label(
            self._snapshot, hits, text, self._texts, visual_weight=self._visual_weight
        )

    def differences(self, query: Query, label: str, other: str) -> tuple[str, ...]:
        """Nothing: it compares whole texts."""
        return ()


MAX_DIFFERENCES = 4
"""Strings that a reason quotes."""

Piece = Literal[
    "visual",
    "whitening",
    "ratio",
    "stable",
    "discriminative",
    "explained",
    "brands",
    "names",
    "siblings",
    "examples",
]
"""A piece of evidence of `PagesightMethod` that can be left out, to measure what it is worth."""

MAX_TRUST = 0.6
"""Weight of the templates where the gallery's texts agree with themselves."""

MISSING_WEIGHT = 0.15
"""Score that one nat of a missing brand name costs. Ten pictures that all show it make 3.1 nats."""

REPLACED_WEIGHT, MAX_REPLACED = 0.65, 1.5
"""Score that one replaced name costs, and how many count."""

SIBLING_WEIGHT, MAX_SIBLING_NATS = 0.03, 5.0
"""Score that one nat of `TextEvidence.odds` moves a label past the one ranked first, and how many
count: what a redesign changes of the looks. Of 0.01 to 0.05, errors are fewest from 0.02 to 0.04,
on real pages and on drawn ones."""

RANKED_SHARE = 0.1
"""Part of what names forbid that counts in ranking: a name that is scrolled away says little about
which of the known pages this is, and much about whether it is any."""

NO_NAMES = NameEvidence()
"""Of candidates whose names were not looked at."""


class PagesightMethod:
    """The best picture of every label nearby, and what the pages of that label always show.

    Digits, masks and case say nothing about the page, so they are folded before
    comparing. How much the templates count is the gallery's to say: much where a
    label's pictures share their text, little where they are in many languages.
    Examples of unknown pages are searched too: `decision.py` lets them forbid an
    answer.

    Args:
        snapshot: The gallery.
        without: Pieces of evidence to leave out.
        before: Of an earlier revision: what it knew of pictures and labels that did not change
            is taken over, to the same end.
        refit: Whether to fit the metric of looks anew. Not: that of `before` serves on, which
            saves a second where there are many pictures.
    """

    K = 64
    """Pictures compared because they look alike. Of an app's next version, none of its page's may
    be among them: three of the four errors on drawn seed 22 (docs/recognition.md)."""

    READ_LABELS, READ_PICTURES = 8, 8
    """Labels compared because they read alike, and how many pictures of each: those that look most
    alike of `templates.MAX_PICTURES`."""

    PIECES: ClassVar[Mapping[Piece, str]] = {
        "visual": "how alike the pictures look",
        "whitening": "looking alike beyond what varies between pictures of one page",
        "ratio": "how alike all text reads",
        "stable": "what the label always shows",
        "discriminative": "what only this label shows",
        "explained": "how much of the text the label has ever shown",
        "brands": "the operator's brand names, visible or not",
        "names": "other names where the label's own should stand",
        "siblings": "comparing the best labels on the words in which they differ",
        "examples": "enrolled examples of unknown pages",
    }

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        without: Collection[Piece] = (),
        before: PagesightMethod | None = None,
        refit: bool = True,
    ) -> None:
        self._without = frozenset(without)
        reserved = np.asarray([is_reserved(p.label) for p in snapshot.pictures], bool)
        self._snapshot = snapshot
        self._known = nearest(snapshot.embeddings, np.flatnonzero(~reserved))
        self._unknown = nearest(snapshot.embeddings, np.flatnonzero(reserved))
        self._folded: Folded = _folded(snapshot, before._folded if before else {})
        self._texts = [text for _, text in self._folded.values()]
        self._templates: Templates = Templates(snapshot, before._templates if before else None)
        self._names: EntityNames = EntityNames(snapshot, before._names if before else None)
        self._whitening: Whitening = Whitening(
            snapshot.embeddings,
            [p.label for p in snapshot.pictures],
            np.flatnonzero(~reserved),
            fitted=before._whitening if before and not refit else None,
        )
        self._place = {label: i for i, label in enumerate(self._templates.labels)}
        agreement = self._templates.agreement(
            label for label in self._templates.labels if not is_reserved(label)
        )
        self._trust = min(MAX_TRUST, max(0.0, 1.1 * (agreement - 0.35)))

    def search(self, embedding: Embedding, *, without: int | None = None) -> Hits:
        """The 64 nearest of known pages, and the 64 nearest examples of unknown ones.

        Searched apart, so that many examples crowd out no known page.
        """
        known = self._known.search(embedding, self.K, without=without)
        if "examples" in self._without:
            return known
        unknown = self._unknown.search(embedding, self.K, without=without)
        cosines = np.concatenate([known.cosines, unknown.cosines])
        order = np.argsort(-cosines, kind="stable")
        return Hits(np.concatenate([known.rows, unknown.rows])[order], cosines[order])

    def weigh(
        self, query: Query, hits: Hits, *, without: int | None = None
    ) -> tuple[Candidate, ...]:
        """The best picture of each label among the hits, and what the label always shows."""
        if query.reading is None:
            hits = self._whitened(query.embedding, hits, without=without)
            return _best_per_label(self._snapshot, hits, None, self._texts)
        said = self._templates.weigh(query.reading, without=without)
        hits = self._reading_alike(query.embedding, hits, said, without=without)
        hits = self._whitened(query.embedding, hits, without=without)
        text = normalised_text(query.reading)
        found = _best_per_label(self._snapshot, hits, text, self._texts)
        fits = sorted((self._with_templates(c, said) for c in found), key=_by_score)
        asked = partial(self._names.weigh, lines=page_lines(query.reading), without=without)
        named = self._with_names(fits, asked)
        return named if "siblings" in self._without else self._siblings(named, said)

    def differences(self, query: Query, label: str, other: str) -> tuple[str, ...]:
        """The strings of the query that one label shows more often than the other."""
        if query.reading is None:
            return ()
        said = self._templates.weigh(query.reading)
        _, strings = said.odds(self._place[label], self._place[other])
        if not strings:
            return ()
        quoted = ", ".join(
            f"{string!r} ({rate:.0%} to {other_rate:.0%})"
            for string, rate, other_rate in strings[:MAX_DIFFERENCES]
        )
        return (f"words that tell {label} from {other}: {quoted}",)

    def _whitened(self, embedding: Embedding, hits: Hits, *, without: int | None) -> Hits:
        if "whitening" in self._without:
            return hits
        return self._whitening.cosines(embedding, hits, without=without)

    def _reading_alike(
        self, embedding: Embedding, hits: Hits, said: TextEvidence, *, without: int | None
    ) -> Hits:
        """Adds pictures of the labels that read most alike, where hits have none of them."""
        agrees = said.stable + said.discriminative + said.explained
        seen = {self._snapshot.pictures[row].label for row in hits.rows.tolist()}
        found = [hits]
        for i in np.argsort(-agrees, kind="stable")[: self.READ_LABELS].tolist():
            label = self._templates.labels[i]
            unsought = is_reserved(label) and "examples" in self._without
            if agrees[i] <= 0 or label in seen or unsought:
                continue
            rows = [row for row in self._templates.drawn[label] if row != without]
            near = cosines(embedding, self._snapshot.embeddings[rows])
            found.append(ranked(np.asarray(rows, np.int64), near, self.READ_PICTURES))
        return Hits(*map(np.concatenate, zip(*found, strict=True)))

    def _with_templates(self, candidate: Candidate, said: TextEvidence) -> Candidate:
        """Mixes what the label always shows into the textual evidence of its best picture."""
        i = self._place[candidate.label]
        pieces: dict[Piece, float] = {
            "stable": float(said.stable[i]),
            "discriminative": float(said.discriminative[i]),
            "explained": float(said.explained[i]),
        }
        kept = [value for piece, value in pieces.items() if piece not in self._without]
        trust = self._trust
        visual_weight = VISUAL_WEIGHT * (1 - trust)
        ratio_weight = 0.0 if "ratio" in self._without else TEXT_WEIGHT * (1 - trust)
        trust = trust if kept else 0.0
        agrees = sum(kept) / len(kept) if kept else 0.0
        textual = (ratio_weight * candidate.textual + trust * agrees) / max(
            1e-9, ratio_weight + trust
        )
        seen = 0.0 if "visual" in self._without else visual_weight
        fit = seen * candidate.visual + (1 - seen) * textual
        return replace(candidate, textual=textual, fit=fit, score=fit, acceptance=fit)

    def _with_names(
        self, fits: Sequence[Candidate], asked: Callable[[str], NameEvidence]
    ) -> tuple[Candidate, ...]:
        """Subtracts what names forbid, from as many of the best as may still come first."""
        weighed: list[Candidate] = []
        best = -np.inf
        for candidate in fits:
            if candidate.fit < best:
                break
            if not is_reserved(candidate.label):
                found = asked(candidate.label)
                forbidden = self._forbidden(found)
                candidate = replace(
                    candidate,
                    names=found,
                    score=candidate.fit - RANKED_SHARE * forbidden,
                    acceptance=candidate.fit - forbidden,
                )
                best = max(best, candidate.score)
            weighed.append(candidate)
        return tuple(sorted((*weighed, *fits[len(weighed) :]), key=_by_score))

    def _siblings(self, ranked: Sequence[Candidate], said: TextEvidence) -> tuple[Candidate, ...]:
        """Lets labels pass the first where the words in which the two differ say so."""
        first = ranked[0] if ranked else None
        if first is None or is_reserved(first.label):
            return tuple(ranked)
        compared = []
        for candidate in ranked:
            behind = first.score - candidate.score
            if candidate is not first and behind < SIBLING_WEIGHT * MAX_SIBLING_NATS:
                nats, _ = said.odds(self._place[candidate.label], self._place[first.label])
                ahead = SIBLING_WEIGHT * min(MAX_SIBLING_NATS, nats) - behind
                if ahead > 0 and not is_reserved(candidate.label):
                    candidate = replace(candidate, score=first.score + ahead)
            compared.append(candidate)
        return tuple(sorted(compared, key=_by_score))

    def _forbidden(self, found: NameEvidence) -> float:
        missing = 0.0 if "brands" in self._without else MISSING_WEIGHT * found.missing_nats
        replaced = 0.0 if "names" in self._without else min(MAX_REPLACED, found.replaced)
        return missing + REPLACED_WEIGHT * replaced


METHODS: dict[MethodName, type[SeedMethod | PagesightMethod]] = {
    "seed": SeedMethod,
    "pagesight": PagesightMethod,
}


def _by_score(candidate: Candidate) -> tuple[float, float, int]:
    """Sorts the best first; ties go to the greater cosine."""
    return -candidate.score, -candidate.visual, candidate.row


def _best_per_label(
    snapshot: Snapshot,
    hits: Hits,
    text: str | None,
    texts: Sequence[str],
    *,
    visual_weight: float = VISUAL_WEIGHT,
) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for row, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True):
        other = texts[row]
        textual = fuzz.ratio(text, other) / 100 if text and other else 0.0
        score = cosine if text is None else visual_weight * cosine + (1 - visual_weight) * textual
        label = snapshot.pictures[row].label
        found.append(
            Candidate(
                label=label,
                row=row,
                visual=cosine,
                textual=textual,
                fit=score,
                names=NO_NAMES,
                score=score,
                acceptance=score,
            )
        )
    found.sort(key=_by_score)
    best: dict[str, Candidate] = {}
    for candidate in found:
        best.setdefault(candidate.label, candidate)
    return tuple(best.values())


def _folded(snapshot: Snapshot, before: Folded) -> Folded:
    """The folded text of each picture, by id; of what is known already, as it was."""
    found = {}
    for picture in snapshot.pictures:
        known = before.get(picture.image_id)
        if known is None or known[0] is not picture.reading:
            known = (picture.reading, normalised_text(picture.reading))
        found[picture.image_id] = known
    return found
