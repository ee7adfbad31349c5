"""The seam for galleries that outgrow one machine: pictures in, nearest pictures out, by id.

    Engine ── LocalEngine    this process: vectors and index of this package
          └── MilvusEngine   a Milvus cluster (milvus.py, the only importer of pymilvus)

By id, because rows are one snapshot's affair. Both give true cosines, ties by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from pagesight_server.common.arrays import Embedding
from pagesight_server.index.layered import FlatBase, LayeredIndex
from pagesight_server.index.vectors import Generation, Vectors


class Stored(NamedTuple):
    """A picture as an engine keeps it."""

    image_id: str
    label: str
    embedding: Embedding
    """Rounded to fp16 when it is stored, as the gallery does."""


class Near(NamedTuple):
    """A picture near a query."""

    image_id: str
    label: str
    cosine: float


class Engine(Protocol):
    """Keeps pictures and finds the nearest; what was put is found by the next search."""

    def put(self, pictures: Sequence[Stored]) -> None:
        """Adds pictures; one that is there gets the new label and embedding."""

    def remove(self, image_ids: Sequence[str]) -> None:
        """Takes pictures out; those that are not there are left alone."""

    def search(self, query: Embedding, k: int, *, without: str = "") -> list[Near]:
        """The `k` nearest, or all when there are fewer, nearest first, ties by id.

        Args:
            query: Unit vector.
            k: How many.
            without: The id of a picture to leave out.
        """


class LocalEngine:
    """The engine in this process; changes and searches must not overlap."""

    def __init__(self, dimension: int) -> None:
        empty = np.empty((0, dimension), np.float16)
        self._vectors = Vectors.fresh(Generation(halves=empty, base=FlatBase(empty)))
        self._pictures: dict[str, str] = {}
        """Label by id, in the order of the rows."""
        self._index = LayeredIndex(self._vectors, np.empty(0, np.int64))

    def put(self, pictures: Sequence[Stored]) -> None:
        """Adds pictures; one that is there gets the new label and embedding."""
        new = {picture.image_id: picture for picture in pictures}
        labels = self._pictures | {image_id: picture.label for image_id, picture in new.items()}
        before = {image_id: row for row, image_id in enumerate(self._pictures)}
        ids = sorted(labels)
        kept = [-1 if image_id in new else before[image_id] for image_id in ids]
        added = [new[image_id].embedding for image_id in ids if image_id in new]
        self._move({image_id: labels[image_id] for image_id in ids}, kept, added)

    def remove(self, image_ids: Sequence[str]) -> None:
        """Takes pictures out; those that are not there are left alone."""
        gone = set(image_ids)
        kept = [row for row, image_id in enumerate(self._pictures) if image_id not in gone]
        self._move({i: label for i, label in self._pictures.items() if i not in gone}, kept, [])

    def search(self, query: Embedding, k: int, *, without: str = "") -> list[Near]:
        """The `k` nearest, or all when there are fewer, nearest first, ties by id."""
        ids = list(self._pictures)
        row = ids.index(without) if without in self._pictures else None
        hits = self._index.search(query, k, without=row)
        return [
            Near(ids[row], self._pictures[ids[row]], cosine)
            for row, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True)
        ]

    def _move(
        self, pictures: dict[str, str], kept: Sequence[int], added: Sequence[Embedding]
    ) -> None:
        halves = np.asarray(added, np.float16).reshape(len(added), self._vectors.shape[1])
        self._vectors = self._vectors.after(np.asarray(kept, np.int64), halves)
        self._pictures = pictures
        self._index = LayeredIndex(self._vectors, np.arange(len(pictures), dtype=np.int64))
