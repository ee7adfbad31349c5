"""The published method, kept to the letter so that it can always be measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pagesight_server.common.arrays import Embedding
from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.index.cosines import Hits
from pagesight_server.index.layered import nearest
from pagesight_server.recognition.candidates import Candidate, Query, Term, best_per_label
from pagesight_server.recognition.scorers.all_text import text_ratios

VISUAL_WEIGHT = 0.6
"""Weight of the cosine, against 0.4 of the text; both are the prototype's."""


class SeedMethod:
    """Five nearest pictures, ratio of all text, 0.6 to 0.4.

    Text similarity is `rapidfuzz.fuzz.ratio`/100 of the joined lines, 0 when
    either is empty. Without OCR the score is the cosine alone. Examples of
    unknown pages did not exist for it and are not searched.

    Args:
        snapshot: The gallery.
        visual_weight: Weight of the cosine; the text has the rest.
    """

    K = 5

    def __init__(self, snapshot: Snapshot, *, visual_weight: float = VISUAL_WEIGHT) -> None:
        self._visual_weight = visual_weight
        known = [row for row, p in enumerate(snapshot.pictures) if not is_reserved(p.label)]
        self._snapshot = snapshot
        self._index = nearest(snapshot.embeddings, np.asarray(known, np.int64))
        readings = snapshot.readings(range(len(snapshot.pictures)))
        self._texts = [reading.joined() if reading else "" for reading in readings]

    def search(self, embedding: Embedding, *, without: int | None = None) -> Hits:
        """Finds the five nearest pictures."""
        return self._index.search(embedding, self.K, without=without)

    def weigh(
        self, query: Query, hits: Hits, *, without: int | None = None
    ) -> tuple[Candidate, ...]:
        """The best picture of each label among the hits; ties go to the greater cosine."""
        text = None if query.reading is None else query.reading.joined()
        return tuple(
            best_per_label(
                [
                    self._candidate(row, cosine, text)
                    for row, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True)
                ]
            )
        )

    def differences(
        self, query: Query, label: str, other: str, *, without: int | None = None
    ) -> tuple[str, ...]:
        """Names nothing, as this method compares whole texts."""
        return ()

    def labels_sharing_text(self) -> Mapping[str, tuple[str, ...]]:
        """Names nothing, as this method compares whole texts."""
        return {}

    def _candidate(self, row: int, cosine: float, text: str | None) -> Candidate:
        theirs, textual = self._texts[row], 0.0
        looks = cosine if text is None else self._visual_weight * cosine
        terms = [Term("looks", looks, looks)]
        if text is not None:
            textual = float(text_ratios(text, [theirs])[0])
            read = (1 - self._visual_weight) * textual
            terms.append(Term("all_text", read, read))
        return Candidate(
            label=self._snapshot.pictures[row].label,
            row=row,
            visual=cosine,
            textual=textual,
            terms=tuple(terms),
        )
