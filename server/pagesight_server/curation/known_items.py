"""Known items: pictures of the gallery, answered as if it did not hold them.

    picture ──drawn at random──> not enrolled ──weigh, decide──> answer, beside the label it has

Hidden among the screenshots that a person reviews, they tell how often that person is right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pagesight_server.curation.own_scores import can_be_left_out
from pagesight_server.gallery.snapshot import Picture
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.decision import REVIEW_ABOVE, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import leave_one_out


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownItem:
    """A picture of the gallery, and what would be answered without it."""

    picture: Picture
    answer: Answer


def draw_known(
    knowledge: Knowledge,
    count: int,
    *,
    review_above: float = REVIEW_ABOVE,
    lot: random.Random | None = None,
) -> list[KnownItem]:
    """Draws pictures of known pages, each answered as if it were not enrolled.

    Args:
        knowledge: What is known of the gallery.
        count: How many; fewer where it has fewer that can be left out, or where the text of one
            that was drawn cannot be read any more.
        review_above: Doubt from which an accepted answer asks for review.
        lot: What draws them; the system's randomness when None.
    """
    snapshot = knowledge.snapshot
    rows = can_be_left_out(snapshot, list(range(len(snapshot.pictures))))
    drawn = (lot or random.SystemRandom()).sample(rows, min(count, len(rows)))
    left_out = leave_one_out(knowledge.method, snapshot, drawn, with_text=True)
    return [
        KnownItem(
            picture=snapshot.pictures[row],
            answer=Answer(
                decision=decide(
                    candidates, knowledge.calibration, with_text=True, review_above=review_above
                ),
                knowledge=knowledge,
                query=query,
                left_out=row,
            ),
        )
        for row, query, candidates in left_out
    ]
