"""Looking alike beyond what varies between pictures of one page."""

from __future__ import annotations

import numpy as np
import pytest

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.index.cosines import Hits
from pagesight_server.recognition.whitening import WEIGHT, Whitening

RNG = np.random.Generator(np.random.PCG64(3))
LABELS = [f"page{i // 6}" for i in range(24)]


def pictures() -> Embeddings:
    """Four pages that differ in three values by a little, and within each in a fourth by much."""
    made = np.concatenate([np.eye(4, 3, dtype=np.float32)[[i // 6]] * 0.3 for i in range(24)])
    theme = RNG.normal(0, 1, (24, 1)).astype(np.float32)
    found = np.concatenate([made + 1, theme], axis=1)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def hits(query: Embedding, known: Embeddings) -> Hits:
    return Hits(np.arange(len(known)), (known @ query).astype(np.float32))


def test_what_varies_within_pages_counts_less() -> None:
    known = pictures()
    whitening = Whitening(known, LABELS, np.arange(24))
    right = {"plain": 0, "whitened": 0}
    for row in range(24):
        rest = np.flatnonzero(np.arange(24) != row)
        plain = Hits(rest, (known[rest] @ known[row]).astype(np.float32))
        whitened = whitening.cosines(known[row], plain, without=row)
        for name, found in (("plain", plain), ("whitened", whitened)):
            nearest = int(found.rows[found.cosines.argmax()])
            right[name] += LABELS[nearest] == LABELS[row]
    assert right["whitened"] >= right["plain"] + 5


def test_a_picture_is_most_like_itself() -> None:
    known = pictures()
    found = Whitening(known, LABELS, np.arange(24)).cosines(known[5], hits(known[5], known))
    assert found.cosines[5] == pytest.approx(1, abs=1e-4)
    assert found.cosines.max() <= 1 + 1e-4
    assert found.rows.tolist() == list(range(24))


def test_too_few_pictures_teach_nothing() -> None:
    known = pictures()[:6]
    plain = hits(known[0], known)
    found = Whitening(known, LABELS[:6], np.arange(6)).cosines(known[0], plain)
    assert found.cosines.tolist() == plain.cosines.tolist()


def test_the_only_page_has_nothing_to_be_centred_on() -> None:
    known = pictures()
    plain = hits(known[0], known)
    found = Whitening(known, ["page"] * 24, np.arange(24)).cosines(known[0], plain)
    assert found.cosines == pytest.approx(plain.cosines, abs=1e-6)


def test_a_left_out_picture_is_judged_by_a_metric_that_never_saw_its_label() -> None:
    known = pictures()
    plain = hits(known[0], known)
    changed = known.copy()
    changed[:6] = changed[:6][:, ::-1]
    a = Whitening(known, LABELS, np.arange(24)).cosines(known[0], plain, without=0)
    b = Whitening(changed, LABELS, np.arange(24)).cosines(known[0], plain, without=0)
    assert a.cosines[6:] == pytest.approx(b.cosines[6:], abs=1e-5)
    assert 0 < WEIGHT < 1
