"""What the gallery's own pictures score, label by label, each taken for a query and left out.

    picture, not enrolled ──weigh, decide──> decision ──of one label──> scores, how many rejected

The threshold is the gallery's; how well the pictures of one page fit each other differs from page
to page. Screenshots of the labels whose own pictures lie near the threshold are rejected most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from pagesight_server.gallery.snapshot import OTHER, Snapshot, is_reserved
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import leave_one_out

MAX_EXAMINED = 2_000
"""Pictures that are left out in turn; each costs what a query costs after its text is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnScores:
    """What the pictures of one label score, each left out; at least one of them was."""

    scores: tuple[float, ...]
    """Of the page that came closest, as it would be held against the threshold."""
    rejected: int
    """How many would be answered `other`."""

    @staticmethod
    def of(decisions: list[Decision]) -> OwnScores:
        """The scores of what was decided of a label's pictures."""
        return OwnScores(
            scores=tuple(decision.score for decision in decisions),
            rejected=sum(decision.label == OTHER for decision in decisions),
        )

    @property
    def mean(self) -> float:
        """The mean score."""
        return math.fsum(self.scores) / len(self.scores)

    @property
    def least(self) -> float:
        """The score of the picture that fits least."""
        return min(self.scores)

    @property
    def greatest(self) -> float:
        """The score of the picture that fits best."""
        return max(self.scores)


def rows_to_examine(snapshot: Snapshot, most: int = MAX_EXAMINED) -> list[int]:
    """The pictures to look at, ascending: all, or so many that are drawn at random."""
    rows = range(len(snapshot.pictures))
    if len(rows) <= most:
        return list(rows)
    generator = np.random.Generator(np.random.PCG64(0))
    return sorted(generator.choice(len(rows), most, replace=False).tolist())


def can_be_left_out(snapshot: Snapshot, rows: list[int]) -> list[int]:
    """Returns those pictures that show a known page and are not the only one of their label.

    Without its only picture a label cannot answer, so nothing can be said of that one.
    """
    counts = snapshot.sample.counts
    labels = [snapshot.pictures[row].label for row in rows]
    return [
        row
        for row, label in zip(rows, labels, strict=True)
        if counts[label] > 1 and not is_reserved(label)
    ]


def own_scores(knowledge: Knowledge, *, with_text: bool) -> dict[str, OwnScores]:
    """What the pictures of each label score, each left out; labels with one picture have none.

    Nor has a picture whose text counts and cannot be read any more.

    Args:
        knowledge: What is known of the gallery.
        with_text: Whether their text counts as read.
    """
    snapshot = knowledge.snapshot
    rows = can_be_left_out(snapshot, rows_to_examine(snapshot))
    decisions: defaultdict[str, list[Decision]] = defaultdict(list)
    left_out = leave_one_out(knowledge.method, snapshot, rows, with_text=with_text)
    for row, _, candidates in left_out:
        decisions[snapshot.pictures[row].label].append(
            decide(candidates, knowledge.calibration, with_text=with_text)
        )
    return {label: OwnScores.of(of_label) for label, of_label in decisions.items()}
