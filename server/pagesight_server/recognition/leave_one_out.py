"""Each picture of a gallery as if it were a query and not enrolled.

    picture, not enrolled ──> candidates ─┬─ its own label among them ──> what a known page scores
                                          └─ its own label left out ────> what an unknown one would

Calibration, diagnostics and the comparison of methods all judge a gallery by this loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.recognition.candidates import NAME_TERMS, Candidate, Query, lead_over
from pagesight_server.recognition.evidence import Method

EMPTY_SCORE = -1.0
"""Score of an answer from a gallery that holds no known page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutScores:
    """Holds what pictures score that were left out in turn."""

    own: tuple[float, ...]
    """Of pictures whose label has others: what a known page scores."""
    pseudo_unknown: tuple[float, ...]
    """Of all pictures against the other labels alone: what an unknown page of a like kind scores.
    What names forbid does not count: an unknown page may bear the name."""
    looks: tuple[float, ...]
    """How alike pictures whose label has others look to the most alike of those."""
    leads: tuple[float, ...]
    """By how much the own label led the best other one, where it led and there was another."""

    def __add__(self, other: LeftOutScores) -> LeftOutScores:
        """The scores of these pictures and of others."""
        return LeftOutScores(
            own=self.own + other.own,
            pseudo_unknown=self.pseudo_unknown + other.pseudo_unknown,
            looks=self.looks + other.looks,
            leads=self.leads + other.leads,
        )


class LeftOut(NamedTuple):
    """A picture that was left out and taken for a query."""

    row: int
    query: Query
    candidates: tuple[Candidate, ...]


def leave_one_out(
    method: Method, snapshot: Snapshot, rows: Iterable[int], *, with_text: bool
) -> Iterator[LeftOut]:
    """The candidates of each picture, that picture left out.

    Args:
        method: Compares queries with the snapshot.
        snapshot: The gallery.
        rows: The pictures to leave out in turn.
        with_text: Whether their text counts as read. Then pictures are passed over whose text
            cannot be read any more, as they were purged or have changed on the disk: by looks alone
            they would be held against what others score with their text.
    """
    for row in rows:
        reading = snapshot.reading(row) if with_text else None
        if with_text and reading is None:
            continue
        query = Query(embedding=snapshot.embeddings[row], reading=reading)
        hits = method.search(query.embedding, without=row)
        yield LeftOut(row, query, method.weigh(query, hits, without=row))


def left_out_scores(
    method: Method, snapshot: Snapshot, rows: Sequence[int], *, with_text: bool
) -> LeftOutScores:
    """Scores pictures of known pages, each left out, against their own label and all others.

    A label's only picture cannot be left out and still be known: it speaks only for how
    well the other pages fit it.

    Args:
        method: Compares queries with the snapshot.
        snapshot: The gallery.
        rows: Pictures of known pages.
        with_text: Whether their text counts as read.
    """
    counts = snapshot.sample.counts
    own: list[float] = []
    pseudo: list[float] = []
    looks: list[float] = []
    leads: list[float] = []
    for row, _, candidates in leave_one_out(method, snapshot, rows, with_text=with_text):
        label = snapshot.pictures[row].label
        if counts[label] > 1:
            own.append(answer_score(candidates))
            known = [c for c in candidates if not is_reserved(c.label)]
            looks += [c.visual for c in known if c.label == label]
            if 0 < (lead := lead_over(label, known)) < math.inf:
                leads.append(lead)
        others = [candidate for candidate in candidates if candidate.label != label]
        nearest = next((c for c in others if not is_reserved(c.label)), None)
        if nearest is not None:
            pseudo.append(nearest.without_terms(NAME_TERMS).score - unknown_lead(others))
    return LeftOutScores(
        own=tuple(own),
        pseudo_unknown=tuple(pseudo),
        looks=tuple(looks),
        leads=tuple(leads),
    )


def unread_scores(method: Method, snapshot: Snapshot, rows: Sequence[int]) -> tuple[float, ...]:
    """What a page would score that looks exactly like a picture and shows none of its text.

    Args:
        method: Compares queries with the snapshot.
        snapshot: The gallery.
        rows: Pictures of known pages; those without text say nothing here.
    """
    scores = []
    for row in rows:
        reading = snapshot.reading(row)
        if reading is None or not reading.lines:
            continue
        query = Query(embedding=snapshot.embeddings[row], reading=replace(reading, lines=()))
        candidates = method.weigh(query, method.search(query.embedding))
        own = next(c for c in candidates if c.label == snapshot.pictures[row].label)
        scores.append(own.without_terms(NAME_TERMS).score)
    return tuple(scores)


def answer_score(candidates: Sequence[Candidate]) -> float:
    """The score of an answer: of the closest known page, less the lead of an unknown example.

    Args:
        candidates: Best first, examples of unknown pages among them.
    """
    known = next((c for c in candidates if not is_reserved(c.label)), None)
    return EMPTY_SCORE if known is None else known.score - unknown_lead(candidates)


def unknown_lead(candidates: Sequence[Candidate]) -> float:
    """By how much the best example of an unknown page ranks above the closest known page, or 0."""
    known = next((c for c in candidates if not is_reserved(c.label)), None)
    example = next((c for c in candidates if is_reserved(c.label)), None)
    if known is None or example is None:
        return 0.0
    return max(0.0, example.rank_score - known.rank_score)
