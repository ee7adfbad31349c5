"""The lines of a page without the phone's status bar, and how two of them are aligned.

    reading ──status bar cut off──> lines ──matching key──> page lines, each with its place
    two page lines ──exchanged_blocks──> the blocks in which their keys differ
                   └─Place.near────────> whether they stand in the same place

Everything that compares pages takes its lines from here, so that all agree on where the page
begins and on which of its lines say something.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from pagesight_server.text.matching import MIN_INFORMATIVE, informative, matching_key
from pagesight_server.text.reading import Box, Reading, TextLine

STATUS_BAR = 0.078
"""Height of the phone's status bar, as a share of the picture's shorter side: the bar does not grow
with a long screenshot. Android's plain bar is 24 to 30 of 360 to 411 density-independent pixels
wide (6 to 8 %); a line that reaches below the bound is the page's."""

MIN_CONTEXT, MIN_CONTEXT_CHARACTERS = 0.35, 2
"""What two lines must have in common to count as one line with blocks exchanged: this share of
the longer one's characters, as less is two lines; and so many, as one is a coincidence."""

MAX_DX, MAX_DY = 0.08, 0.05
"""How far apart the middles of two lines in the same place may lie, in widths of the picture.
Sideways two Chinese characters of common size, as the length of a centred line varies; downwards
less than one line of common pitch."""

MAX_HEIGHT_DIFFERENCE = 0.35
"""By what share of the larger height the heights of two lines in the same place may differ. Boxes
of one size of type vary by their characters; a title over body text differs by more."""


class Place(NamedTuple):
    """Where a line stands, in widths of the picture: screens differ in their aspect ratio."""

    x: float
    """Middle of the line, from the left."""
    y: float
    """Middle of the line, from the top."""
    height: float

    def near(self, other: Place) -> bool:
        """Whether two lines stand in the same place and are of one size."""
        return (
            abs(self.x - other.x) < MAX_DX
            and abs(self.y - other.y) < MAX_DY
            and abs(self.height - other.height)
            < MAX_HEIGHT_DIFFERENCE * max(self.height, other.height)
        )


def median_place(places: Sequence[Place]) -> Place:
    """The median of at least one place, of each coordinate by itself."""
    x, y, height = (median(values) for values in zip(*places, strict=True))
    return Place(x, y, height)


class PageLine(NamedTuple):
    """A line of a page that says something of which page it is."""

    key: str
    """Its matching key, with at least `MIN_INFORMATIVE` informative characters."""
    place: Place
    line: TextLine
    """The line as it was read."""


def lines_below_status_bar(reading: Reading) -> list[TextLine]:
    """All lines of a page, in reading order: those that reach below the phone's status bar."""
    bottom_px = STATUS_BAR * min(reading.width_px, reading.height_px)
    return [line for line in reading.lines if line.box.bottom > bottom_px]


def page_lines(reading: Reading) -> list[PageLine]:
    """The lines of a page that say something of which page it is, in reading order.

    Neither the status bar nor lines of digits, masks, punctuation and single letters are among
    them.
    """
    width_px = reading.width_px
    lines = []
    for line in lines_below_status_bar(reading):
        box, key = line.box, matching_key(line.text)
        if informative(key) >= MIN_INFORMATIVE:
            place = Place(
                (box.left + box.right) / 2 / width_px,
                (box.top + box.bottom) / 2 / width_px,
                (box.bottom - box.top) / width_px,
            )
            lines.append(PageLine(key, place, line))
    return lines


def digit_boxes(reading: Reading) -> list[Box]:
    """Where lines that hold a digit stand, the status bar apart: what a viewer may have to cover.

    A masked number, such as 136****3607, is covered as a whole.
    """
    return [
        line.box
        for line in lines_below_status_bar(reading)
        if any(character.isdigit() for character in line.text)
    ]


def exchanged_blocks(old: str, new: str) -> list[tuple[str, str]]:
    """The blocks in which two lines differ, as pairs of the old and the new text.

    A single equal character between two exchanged ones is a coincidence and belongs to the block.

    Args:
        old: Matching key of one line.
        new: Matching key of the other.

    Returns:
        The pairs in order; either side of one may be empty. Nothing when the lines are equal or
        have too little in common to be one line with blocks exchanged.

    >>> exchanged_blocks("微粒贷由深圳微众银行提供", "云帆宝由深圳云帆银行提供")
    [('微粒贷', '云帆宝'), ('微众', '云帆')]
    """
    blocks: list[list[int]] = []
    for op in Levenshtein.opcodes(old, new):
        if op.tag == "equal":
            continue
        if blocks and op.src_start - blocks[-1][1] <= 1 and op.dest_start - blocks[-1][3] <= 1:
            blocks[-1][1], blocks[-1][3] = op.src_end, op.dest_end
        else:
            blocks.append([op.src_start, op.src_end, op.dest_start, op.dest_end])
    common = len(old) - sum(end - start for start, end, _, _ in blocks)
    if common < max(MIN_CONTEXT_CHARACTERS, MIN_CONTEXT * max(len(old), len(new))):
        return []
    return [
        (old[old_start:old_end], new[new_start:new_end])
        for old_start, old_end, new_start, new_end in blocks
    ]
