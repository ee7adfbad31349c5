"""Average-linkage clustering (UPGMA) of a matrix of likeness.

    each picture a cluster ──the two most alike join, again and again──> joins ──cut──> clusters

How alike two clusters are is the mean over all pairs, so neither one bridge between two pages
joins them, as single linkage would have it, nor keeps one odd picture a page apart, as complete
linkage would. Nearest-neighbour chains find the same joins in the square of the number of
pictures (Murtagh, "A Survey of Recent Advances in Hierarchical Clustering Algorithms", 1983).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Join(NamedTuple):
    """Joins two clusters, each named by one of its rows."""

    row: int
    other: int
    likeness: float
    """Mean likeness of the pairs between the two."""


def average_linkage(likeness: NDArray[np.float32], cut: float = -np.inf) -> list[Join]:
    """The joins of pictures, the most alike first.

    Args:
        likeness: Symmetric, shape (pictures, pictures); the diagonal is not read. It is
            overwritten.
        cut: Mean likeness below which nothing is joined.
    """
    np.fill_diagonal(likeness, -np.inf)
    sizes = np.ones(len(likeness))
    joins: list[Join] = []
    chain: list[int] = []
    # A cluster whose nearest other is below the cut is done: a join brings none nearer to it than
    # the nearer of the two was (the linkage is reducible).
    left = dict.fromkeys(range(len(likeness)))
    while left:
        if not chain:
            chain.append(next(iter(left)))
        row = chain[-1]
        nearest = int(np.argmax(likeness[row]))
        if len(chain) > 1 and likeness[row, chain[-2]] >= likeness[row, nearest]:
            nearest = chain[-2]  # Of ties the one before, else a chain could go round for ever.
        alike = float(likeness[row, nearest])
        if alike < cut or alike == -np.inf:
            chain.pop()
            del left[row]
        elif len(chain) > 1 and nearest == chain[-2]:
            del chain[-2:]
            joins.append(Join(row, nearest, alike))
            _join(likeness, sizes, row, nearest)
            del left[nearest]
        else:
            chain.append(nearest)
    # Sorted stably: of equal ones, the joins that others build on stay before these.
    return sorted(joins, key=lambda join: -join.likeness)


def clusters(pictures: int, joins: Iterable[Join]) -> list[list[int]]:
    """The rows of each cluster, ascending; clusters of one among them, by their first rows."""
    member_of = list(range(pictures))
    members = {row: [row] for row in range(pictures)}
    for join in joins:
        kept, gone = member_of[join.row], member_of[join.other]
        for row in members[gone]:
            member_of[row] = kept
        members[kept] += members.pop(gone)
    return sorted(sorted(rows) for rows in members.values())


def _join(likeness: NDArray[np.float32], sizes: NDArray[np.float64], kept: int, gone: int) -> None:
    """Joins one cluster to another, whose row then stands for both."""
    share = sizes[kept] / (sizes[kept] + sizes[gone])
    joined = share * likeness[kept] + (1 - share) * likeness[gone]
    likeness[kept] = joined
    likeness[:, kept] = joined
    likeness[kept, kept] = -np.inf
    likeness[gone] = -np.inf
    likeness[:, gone] = -np.inf
    sizes[kept] += sizes[gone]
