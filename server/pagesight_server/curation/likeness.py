"""How alike two screenshots are that have no label: looks and text, as recognition mixes them.

    embeddings ──cosine, whitened as the gallery's──> looks ─┐
    readings ──RapidFuzz ratio of all text──────────> text ──┴─share fitted on the gallery──> 0 to 1

What pages of a label always show cannot count here: of a page that is new nobody knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.index.cosines import unit
from pagesight_server.recognition.evidence import Method, PagesightMethod
from pagesight_server.recognition.scorers.scorer import LOOKS_SHARE
from pagesight_server.text.matching import normalised_text
from pagesight_server.text.reading import Reading

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPicture:
    """A screenshot as the models see it."""

    image_id: str
    """SHA-256 of its bytes, in hexadecimal."""
    embedding: Embedding
    reading: Reading


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Pages:
    """Holds pictures prepared for being compared."""

    embeddings: Embeddings
    """Unit vectors."""
    texts: tuple[str, ...]
    """All text of each, normalised."""
    silent: NDArray[np.bool_]
    """Which of them show no text."""

    @staticmethod
    def prepared(embeddings: Embeddings, readings: Iterable[Reading]) -> Pages:
        """Pictures, given as vectors of shape (pictures, dimension) and what was read of each."""
        texts = tuple(normalised_text(reading) for reading in readings)
        silent = np.asarray([not text for text in texts], bool)
        return Pages(embeddings=unit(embeddings), texts=texts, silent=silent)

    @staticmethod
    def of(pictures: Sequence[SeenPicture]) -> Pages:
        """Prepares pictures that were seen and read."""
        embeddings = (
            np.stack([picture.embedding for picture in pictures])
            if pictures
            else np.empty((0, 0), np.float32)
        )
        return Pages.prepared(embeddings, (picture.reading for picture in pictures))

    @staticmethod
    def of_gallery(snapshot: Snapshot, rows: Sequence[int]) -> Pages:
        """Prepares the pictures of a gallery's sample."""
        embeddings = snapshot.embeddings[np.asarray(rows, np.int64)]
        return Pages.prepared(embeddings, (snapshot.sampled_readings[row] for row in rows))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Pages:
        """Returns some of the pictures, prepared as they are."""
        chosen = np.asarray(rows, np.int64)
        return Pages(
            embeddings=self.embeddings[chosen],
            texts=tuple(self.texts[row] for row in chosen.tolist()),
            silent=self.silent[chosen],
        )

    def text_between(self, others: Pages) -> Floats:
        """How alike all text reads, 0 to 1; 0 where either has none. Shape (pictures, others)."""
        ratios: Floats = process.cdist(
            self.texts, others.texts, scorer=fuzz.ratio, dtype=np.float32
        )
        ratios /= 100
        ratios[self.silent, :] = 0
        ratios[:, others.silent] = 0
        return ratios

    def silent_with(self, others: Pages) -> NDArray[np.bool_]:
        """Returns True where neither shows text, shape (pictures, others)."""
        both: NDArray[np.bool_] = self.silent[:, None] & others.silent[None, :]
        return both


class Likeness:
    """How alike pictures are for a gallery's method; safe to ask from many threads.

    Args:
        method: Of the gallery; it says how much looks count, and whitens them if it does.
    """

    def __init__(self, method: Method) -> None:
        self._method = method if isinstance(method, PagesightMethod) else None
        self._looks_share = self._method.looks_share if self._method else LOOKS_SHARE

    def between(
        self, left: Pages, right: Pages, *, left_labels: Sequence[str] | None = None
    ) -> Floats:
        """How alike each of some pictures and each of others are.

        Where neither shows text, looks are all there is to go by.

        Args:
            left: Some pictures.
            right: Others, or the same.
            left_labels: Of pictures of the gallery: the labels that they have, which then count
                as unknown.

        Returns:
            Shape (left, right), at most 1.
        """
        looks = (
            self._method.looks_between(left.embeddings, right.embeddings, left_labels=left_labels)
            if self._method
            else np.asarray(left.embeddings @ right.embeddings.T, np.float32)
        )
        mixed = self._looks_share * looks + (1 - self._looks_share) * left.text_between(right)
        silent = left.silent_with(right)
        mixed[silent] = looks[silent]
        return np.asarray(mixed, np.float32)
