"""Lines of a page that can be laid beside another page's: what they say and where they stand.

reading ──page──> lines with places ──blocks──> what was exchanged inside a line
                                    └─near───> what stands in the same place
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from pagesight_server.text.reading import STATUS_BAR, Reading, TextLine, essence, informative

MIN_CONTEXT = 0.35
"""Share of the longer line that must stay when blocks of it are exchanged."""

SAME_X, SAME_Y, SAME_HEIGHT = 0.08, 0.05, 0.35
"""How far two lines in the same place may lie apart, in widths of the picture, sideways and
downwards; and by what share their heights may differ."""


class Place(NamedTuple):
    """Where a line stands, in widths of the picture."""

    x: float
    """Of its middle, as is y."""
    y: float
    height: float

    def near(self, other: Place) -> bool:
        """Whether two lines stand in the same place and are of one size."""
        return (
            abs(self.x - other.x) < SAME_X
            and abs(self.y - other.y) < SAME_Y
            and abs(self.height - other.height) < SAME_HEIGHT * max(self.height, other.height)
        )


def middle(places: Sequence[Place]) -> Place:
    """The median place."""
    x, y, height = (median(values) for values in zip(*places, strict=True))
    return Place(x, y, height)


class PageLine(NamedTuple):
    """A line of a page, below the status bar."""

    essence: str
    place: Place
    line: TextLine


def page(reading: Reading) -> list[PageLine]:
    """The lines of a reading that can tell a page, with their places."""
    found = []
    for line in reading.lines:
        box, text = line.box, essence(line.text)
        if box.bottom > STATUS_BAR * reading.height_px and informative(text) >= 2:
            width = reading.width_px
            place = Place(
                (box.left + box.right) / 2 / width,
                (box.top + box.bottom) / 2 / width,
                (box.bottom - box.top) / width,
            )
            found.append(PageLine(text, place, line))
    return found


def blocks(old: str, new: str) -> list[tuple[str, str]]:
    """What was exchanged inside a line, block by block; nothing when too little of it stayed.

    One equal character between two exchanged ones is a coincidence and belongs to the block.

    >>> blocks("微粒贷由深圳微众银行提供", "云帆宝由深圳云帆银行提供")
    [('微粒贷', '云帆宝'), ('微众', '云帆')]
    """
    found: list[list[int]] = []
    for op in Levenshtein.opcodes(old, new):
        if op.tag == "equal":
            continue
        if found and op.src_start - found[-1][1] <= 1 and op.dest_start - found[-1][3] <= 1:
            found[-1][1], found[-1][3] = op.src_end, op.dest_end
        else:
            found.append([op.src_start, op.src_end, op.dest_start, op.dest_end])
    stayed = len(old) - sum(end - start for start, end, _, _ in found)
    if stayed < max(2, MIN_CONTEXT * max(len(old), len(new))):
        return []
    return [(old[a:b], new[c:d]) for a, b, c, d in found]
