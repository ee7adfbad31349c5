"""Cross-validated scores of a detector on the gallery itself.

own      each picture left out, its label's other pictures kept: scores of known pages
pseudo   each picture's whole label left out: scores of pseudo-unknown pages
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.detectors.detector import Kind
from pagesight_server.recognition.leave_one_out import LeftOutScores

MAX_REFITS = 300
"""Most fits for either kind of score, about a second at milliseconds each; larger galleries are
cross-validated in so many folds."""


def left_out(kind: Kind, embeddings: Embeddings, labels: Sequence[str]) -> LeftOutScores:
    """Cross-validates a detector: fits it without each fold of the gallery, and scores the fold.

    A label's only picture is never `own`: without it the label would be unknown.

    Args:
        kind: The detector.
        embeddings: Embeddings of known pages, shape (pictures, dimension).
        labels: The label of each picture.
    """
    counts = Counter(labels)
    assigned: Counter[str] = Counter()
    picture_folds: dict[int, list[int]] = defaultdict(list)
    label_numbers: dict[str, int] = {}
    label_folds: dict[int, list[int]] = defaultdict(list)
    fold_count = kind.folds or MAX_REFITS
    leave_one_out = kind.folds is None and len(labels) <= MAX_REFITS
    for row, label in enumerate(labels):
        if counts[label] > 1:
            # Fold i has the i-th picture of each label, so that every label keeps others.
            fold = row if leave_one_out else assigned[label] % min(fold_count, counts[label])
            picture_folds[fold].append(row)
            assigned[label] += 1
        label_folds[label_numbers.setdefault(label, len(label_numbers)) % fold_count].append(row)
    own = _scores(kind, embeddings, labels, picture_folds.values())
    pseudo_unknown: tuple[float, ...] = ()
    if len(counts) > 1:
        pseudo_unknown = _scores(kind, embeddings, labels, label_folds.values())
    return LeftOutScores(own=own, pseudo_unknown=pseudo_unknown, looks=(), leads=())


def _scores(
    kind: Kind, embeddings: Embeddings, labels: Sequence[str], folds: Iterable[list[int]]
) -> tuple[float, ...]:
    """The scores of all rows in the folds, each by a detector fitted without its fold."""
    scores: list[float] = []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        detector = kind.fit(embeddings[rest], [labels[row] for row in rest])
        scores += detector.score(embeddings[fold]).tolist()
    return tuple(scores)
