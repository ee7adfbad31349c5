"""In which order screenshots are looked at: the most useful first.

    doubtful   the server asks for a person, the most doubtful first
    variety    one of each kind of answer that is not among these, the commonest kind first
    random     a tenth of what is left, drawn by the picture's own hash
    rest       everything else, once the reviewer asks for it

What is drawn at random is drawn the same for every reviewer and every start, so that two of them
look at the same tenth and a share without corrections says something of all the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pagesight._review_page.model import Stage, Waiting

DOUBTFUL = 0.95
"""Doubt from which an answer is doubtful whatever the server said of it: rejections are never
marked for review. It is the server's own default (`recognition.review_above`)."""

RANDOM_SHARE = 0.1
"""Share of what is neither doubtful nor the first of its kind."""


def in_order(waiting: Iterable[Waiting]) -> list[tuple[Waiting, Stage]]:
    """Returns what waits, the most useful first, each with the reason for its place."""
    everything = list(waiting)
    doubtful = [item for item in everything if item.doubtful or item.doubt >= DOUBTFUL]
    doubtful.sort(key=lambda item: (-item.doubt, item.image_id))
    chosen = {item.key for item in doubtful}
    seen = {item.group for item in doubtful}
    sizes = Counter(item.group for item in everything)
    rest = [item for item in everything if item.key not in chosen]
    rest.sort(key=lambda item: (-sizes[item.group], item.group, -item.doubt, item.image_id))
    variety, drawn, left = [], [], []
    for item in rest:
        if item.group not in seen:
            seen.add(item.group)
            variety.append(item)
        elif share_of(item.image_id) < RANDOM_SHARE:
            drawn.append(item)
        else:
            left.append(item)
    drawn.sort(key=lambda item: item.image_id)
    left.sort(key=lambda item: (-item.doubt, item.image_id))
    stages: list[tuple[Stage, list[Waiting]]] = [
        ("doubtful", doubtful),
        ("variety", variety),
        ("random", drawn),
        ("rest", left),
    ]
    return [(item, stage) for stage, items in stages for item in items]


def share_of(image_id: str, salt: int = 0) -> float:
    """A number in 0..1 that follows from a picture's hash, evenly spread.

    Args:
        image_id: SHA-256 in hexadecimal.
        salt: Draws by another salt, 0 to 7, are independent of these: each takes 32 bits of its
            own.
    """
    return int(image_id[8 * salt : 8 * salt + 8], 16) / 2**32
