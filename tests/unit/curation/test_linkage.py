"""Average linkage, on matrices whose clusters are worked out by hand or by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pagesight_server.curation.linkage import Join, average_linkage, clusters


def matrix(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(rows, np.float32)


def test_the_most_alike_are_joined_first_and_means_count_every_pair() -> None:
    joins = average_linkage(
        matrix(
            (1.0, 0.9, 0.5, 0.1),
            (0.9, 1.0, 0.3, 0.1),
            (0.5, 0.3, 1.0, 0.7),
            (0.1, 0.1, 0.7, 1.0),
        )
    )
    # {0, 1} with {2, 3}: the mean of 0.5, 0.1, 0.3 and 0.1.
    assert [join.likeness for join in joins] == pytest.approx([0.9, 0.7, 0.25])
    assert [{join.row, join.other} for join in joins[:2]] == [{0, 1}, {2, 3}]


def test_a_bridge_between_two_pages_does_not_join_them() -> None:
    alike = matrix(
        (1.0, 0.9, 0.8, 0.0),
        (0.9, 1.0, 0.1, 0.0),
        (0.8, 0.1, 1.0, 0.9),
        (0.0, 0.0, 0.9, 1.0),
    )
    assert clusters(4, average_linkage(alike, 0.6)) == [[0, 1], [2, 3]]


def test_nothing_is_joined_below_the_cut_and_equal_pictures_end() -> None:
    assert average_linkage(np.full((5, 5), 0.4, np.float32), 0.5) == []
    joined = clusters(5, average_linkage(np.full((5, 5), 0.5, np.float32), 0.5))
    assert joined == [[0, 1, 2, 3, 4]]
    assert average_linkage(np.empty((0, 0), np.float32)) == []
    assert clusters(2, [Join(1, 0, 0.7)]) == [[0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_those_of_scipy(seed: int) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    distance = pytest.importorskip("scipy.spatial.distance")
    points = np.random.default_rng(seed).normal(size=(60, 3))
    apart = distance.squareform(distance.pdist(points))
    cut = float(np.median(apart))
    theirs = hierarchy.fcluster(
        hierarchy.linkage(distance.squareform(apart), "average"), cut, "distance"
    )
    ours = clusters(60, average_linkage(np.asarray(-apart, np.float32), -cut))
    expected = sorted(np.flatnonzero(theirs == one).tolist() for one in np.unique(theirs))
    assert ours == expected
