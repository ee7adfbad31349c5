"""What a detector says of gallery pictures that it has not seen.

own      each picture, its label's other pictures in the gallery: a known page
pseudo   each picture, its whole label taken out: what an unknown page would score
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.detectors.detector import Kind
from pagesight_server.recognition.leave_one_out import LeftOutScores

MAX_REFITS = 300
"""Fits on one side; larger galleries are left out in so many parts."""


def left_out(kind: Kind, embeddings: Embeddings, labels: Sequence[str]) -> LeftOutScores:
    """Fits a detector again and again, each time without a part of the gallery, and asks for it.

    A label's only picture is never `own`: without it the label would be unknown.

    Args:
        kind: The detector.
        embeddings: Of known pages.
        labels: One for each.
    """
    counts = Counter(labels)
    seen: Counter[str] = Counter()
    pictures: dict[int, list[int]] = defaultdict(list)
    places: dict[str, int] = {}
    pages: dict[int, list[int]] = defaultdict(list)
    parts = kind.folds or MAX_REFITS
    alone = kind.folds is None and len(labels) <= MAX_REFITS
    for row, label in enumerate(labels):
        if counts[label] > 1:
            # Part i holds each label's i-th pictures, so every label keeps others.
            part = row if alone else seen[label] % min(parts, counts[label])
            pictures[part].append(row)
            seen[label] += 1
        pages[places.setdefault(label, len(places)) % parts].append(row)
    return LeftOutScores(
        own=_scores(kind, embeddings, labels, pictures.values()),
        pseudo_unknown=_scores(kind, embeddings, labels, pages.values()) if len(counts) > 1 else (),
        looks=(),
        leads=(),
    )


def _scores(
    kind: Kind, embeddings: Embeddings, labels: Sequence[str], parts: Iterable[list[int]]
) -> tuple[float, ...]:
    scores: list[float] = []
    for part in parts:
        rest = np.setdiff1d(np.arange(len(labels)), part)
        detector = kind.fit(embeddings[rest], [labels[row] for row in rest])
        scores += detector.score(embeddings[part]).tolist()
    return tuple(scores)
