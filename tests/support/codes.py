"""Stores with enough pictures for product quantization, and their contents as SQL reads them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding
from pagesight_server.gallery import Change, Content, Entry, Gallery
from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.index.cosines import Hits
from pagesight_server.index.layered import nearest
from pagesight_server.recognition.calibration import Calibration
from tests.support.parts import BUNDLES, reading, unit
from tests.support.stores import picture_id, sqlite

DIMENSION = 16
ENROLLED = 540
"""Pictures enrolled at first: more than the 512 that training needs, also after removals."""
NAMES = [f"p{number}" for number in range(ENROLLED)]
LATE = [f"late{number}" for number in range(12)]
LABELS = ["a", "b", "other_x"]

UNCALIBRATED = Calibration(
    epsilon=0.05,
    pictures=1,
    guaranteed=False,
    threshold_with_text=0.5,
    threshold_without_text=0.5,
)


def only_codes(patch: pytest.MonkeyPatch | None = None) -> None:
    """Makes the index probe every list and rescore every candidate, so that its recall is 1.

    Calibration is replaced as well: leave-one-out would take most of the time.

    Args:
        patch: Undoes the changes; None in a process of its own.
    """
    patch = patch or pytest.MonkeyPatch()
    patch.setattr("pagesight_server.index.ivf.STEPS", ((1_000, 1_000),))
    patch.setattr("pagesight_server.recognition.knowledge.calibrate", lambda *_, **__: UNCALIBRATED)


def fill(path: Path) -> None:
    """Makes a store with pictures, every fifth of which has the embedding of the one before."""
    store = Gallery(path)
    sqlite(store).execute("PRAGMA synchronous = OFF")
    random = np.random.default_rng(5)
    direction = random.normal(size=DIMENSION)
    for number, name in enumerate([*NAMES, *LATE]):
        if number % 5:
            direction = random.normal(size=DIMENSION)
        content = Content(
            image_id=picture_id(name),
            width_px=108,
            height_px=240,
            data=None,
            embedding=unit(*direction),
            reading=reading("额度"),
        )
        store.put_content(content, BUNDLES)
    entries = [Entry(image_id=picture_id(n), label=LABELS[i % 3]) for i, n in enumerate(NAMES)]
    store.enrol(Change(), entries, BUNDLES)
    store.close()


class Row(NamedTuple):
    """One picture, as SQL returns it."""

    image_id: str
    label: str
    vector: NDArray[np.float64]


def at_revision(path: Path, revision: int) -> list[Row]:
    """Reads a gallery by SQL, in the order of the rows of a snapshot."""
    db = sqlite3.connect(path)
    rows = db.execute(
        "SELECT lower(hex(m.image_id)), m.label, e.vector FROM memberships m "
        "JOIN embeddings e USING (image_id) WHERE m.added_revision <= ?1 "
        "AND (m.removed_revision IS NULL OR m.removed_revision > ?1) "
        "ORDER BY m.label, m.image_id",
        (revision,),
    ).fetchall()
    db.close()
    return [Row(i, label, np.frombuffer(v, "<f2").astype(np.float64)) for i, label, v in rows]


def compare(
    snapshot: Snapshot,
    path: Path,
    search: Callable[[Embedding], Hits],
    random: np.random.Generator,
) -> None:
    """Asserts that a snapshot contains what SQL reads, and finds the nearest of that.

    Args:
        snapshot: The snapshot of a server.
        path: The store.
        search: Returns the five nearest known pictures.
        random: Draws the query: near a picture, or anywhere.
    """
    rows = at_revision(path, snapshot.revision)
    assert [(p.image_id, p.label) for p in snapshot.pictures] == [row[:2] for row in rows]
    matrix = np.stack([row.vector for row in rows])
    query = unit(*random.normal(size=DIMENSION))
    if random.random() < 0.5:
        query = unit(*matrix[random.integers(len(rows))])
    scores = matrix @ query / np.linalg.norm(matrix, axis=1)
    reserved = np.asarray([is_reserved(row.label) for row in rows])
    for subset in (np.flatnonzero(~reserved), np.flatnonzero(reserved)):
        index = nearest(snapshot.embeddings, subset)
        without = int(subset[0]) if len(subset) else None
        for k, left_out in ((1, None), (5, without), (len(rows), None)):
            allowed = [row for row in subset.tolist() if row != left_out]
            _agree(index.search(query, k, without=left_out), scores, allowed, k)
    _agree(search(query), scores, np.flatnonzero(~reserved).tolist(), 5)


def _agree(hits: Hits, scores: NDArray[np.float64], rows: list[int], k: int) -> None:
    """Asserts that the hits are the k best rows, in order, with their scores."""
    expected = sorted((-scores[rows]).tolist())[:k]
    hit_rows = hits.rows.tolist()
    assert (-hits.cosines).tolist() == pytest.approx(expected, abs=1e-6)
    assert hits.cosines.tolist() == pytest.approx(scores[hit_rows].tolist(), abs=1e-6)
    assert len(set(hit_rows)) == len(hit_rows)
    assert set(hit_rows) <= set(rows)
    pairs = list(zip((-hits.cosines).tolist(), hit_rows, strict=True))
    assert pairs == sorted(pairs)
