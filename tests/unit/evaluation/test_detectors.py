"""Detectors of unknown pages: hand-worked scores, and that they tell far from near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pagesight_server.common.arrays import Embeddings
from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation.detectors import KINDS, Kind, check, kinds, left_out
from pagesight_server.evaluation.detectors.detector import Scores
from pagesight_server.evaluation.detectors.gaussian import Mahalanobis
from pagesight_server.evaluation.detectors.neighbours import KthNeighbour, NeighbourRatio, TopOne
from tests.support.parts import unit

GALLERY = np.stack([unit(1, 0, 0), unit(4, 3, 0), unit(0, 1, 0), unit(0, 3, 4)])
LABELS = ["a", "a", "b", "b"]


def test_the_nearest_picture_scores_its_cosine() -> None:
    scores = TopOne.fit(GALLERY, LABELS).score(np.stack([unit(1, 0, 0), unit(0, 0, 1)]))
    assert scores == pytest.approx([1.0, 0.8])


def test_the_second_nearest_picture_scores_its_distance() -> None:
    # From (1, 0, 0) the second nearest is (0.8, 0.6, 0): sqrt(2 - 1.6).
    scores = KthNeighbour.fit(GALLERY, LABELS).score(unit(1, 0, 0)[None])
    assert scores == pytest.approx([-(0.4**0.5)], abs=1e-6)


def test_a_query_halfway_between_two_labels_has_ratio_one() -> None:
    gallery = np.stack([unit(1, 0), unit(0, 1)])
    detector = NeighbourRatio.fit(gallery, ["a", "b"])
    # On a picture the nearest distance is 0.
    assert detector.score(np.stack([unit(1, 1), unit(1, 0)])) == pytest.approx([0.0, 1.0])


def test_the_ratio_of_a_single_label_is_to_the_farthest_there_is() -> None:
    detector = NeighbourRatio.fit(np.stack([unit(1, 0)]), ["a"])
    assert detector.score(unit(0, 1)[None]) == pytest.approx([1 - 2**0.5 / 2])


def test_what_varies_within_pages_costs_less_than_what_does_not() -> None:
    # Both pages vary along the third axis and nowhere else.
    gallery = np.stack([unit(5, 0, 1), unit(5, 0, -1), unit(0, 5, 1), unit(0, 5, -1)])
    detector = Mahalanobis.fit(gallery, LABELS)
    along, across = detector.score(np.stack([unit(5, 0, 2), unit(5, 2, 0)]))
    assert along > across


def cloud(
    seed: int, count: int, centres: Embeddings, spread: float
) -> tuple[Embeddings, list[str]]:
    """`count` embeddings around each centre, and whose they are."""
    random = np.random.default_rng(seed)
    rows, labels = [], []
    for number, centre in enumerate(centres):
        for _ in range(count):
            rows.append(unit(*(centre + spread * random.standard_normal(len(centre)))))
            labels.append(f"page {number}")
    return np.stack(rows), labels


CENTRES = np.eye(12, dtype=np.float32)[:6]
PAGES, PAGE_LABELS = cloud(0, 5, CENTRES, 0.08)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_detector_scores_known_pages_above_unknown_ones(kind: Kind) -> None:
    known, _ = cloud(1, 4, CENTRES, 0.08)
    unknown, _ = cloud(2, 4, np.eye(12, dtype=np.float32)[6:], 0.08)
    detector = kind.fit(PAGES, PAGE_LABELS)
    assert np.median(detector.score(known)) > np.median(detector.score(unknown))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_detector_scores_the_same_twice_and_one_query_at_a_time(kind: Kind) -> None:
    known, _ = cloud(1, 1, CENTRES, 0.08)
    detector = kind.fit(PAGES, PAGE_LABELS)
    together = detector.score(known)
    alone = np.concatenate([detector.score(row[None]) for row in known])
    assert together == pytest.approx(alone)
    assert kind.fit(PAGES, PAGE_LABELS).score(known) == pytest.approx(together)


class Counting:
    """Remembers which pictures it was fitted to."""

    def __init__(self) -> None:
        self.fitted: list[list[int]] = []

    def fit(self, embeddings: Embeddings, labels: Sequence[str]) -> Counting:
        self.fitted.append([int(row[0]) for row in embeddings])
        return self

    def score(self, queries: Embeddings) -> Scores:
        return queries[:, 0].astype(np.float64)


ROWS = np.arange(5, dtype=np.float32)[:, None]
OWNERS = ["a", "a", "b", "b", "single"]


def test_each_picture_is_left_out_alone_and_each_label_whole() -> None:
    counting = Counting()
    kind = Kind(name="counting", what="", fit=counting.fit)
    scores = left_out(kind, ROWS, OWNERS)
    assert list(scores.own) == [0, 1, 2, 3]
    assert sorted(scores.pseudo_unknown) == [0, 1, 2, 3, 4]
    assert counting.fitted == [
        [1, 2, 3, 4],
        [0, 2, 3, 4],
        [0, 1, 3, 4],
        [0, 1, 2, 4],
        [2, 3, 4],
        [0, 1, 4],
        [0, 1, 2, 3],
    ]


def test_a_slow_detector_leaves_out_parts_in_which_every_label_keeps_pictures() -> None:
    counting = Counting()
    kind = Kind(name="counting", what="", fit=counting.fit, folds=2)
    scores = left_out(kind, ROWS, OWNERS)
    assert sorted(scores.own) == [0, 1, 2, 3]
    assert counting.fitted[:2] == [[1, 3, 4], [0, 2, 4]]
    # Labels a and single together, then b.
    assert counting.fitted[2:] == [[2, 3], [0, 1, 4]]


def test_a_gallery_of_one_label_has_nothing_to_take_for_unknown() -> None:
    assert left_out(KINDS[0], PAGES[:5], PAGE_LABELS[:5]).pseudo_unknown == ()


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"pip install 'pagesight\[compare\]'"):
        check()
