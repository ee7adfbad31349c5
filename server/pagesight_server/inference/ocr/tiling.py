"""Cuts tall pictures into bands, so that text keeps the height it has on a screen.

    1080 x 8000 ──cut──> four bands of 1080 x 2430, overlapping ──detect each──> regions
                                                          regions ──join──> each line once

A line that a cut goes through is found twice: in part by the band whose edge it touches, and
whole by the band that has it further inside. The one further inside is kept.

Wide pictures are never cut, since a line of text would be: they are shrunk, as in the library.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pagesight_server.common.arrays import Pixels
from pagesight_server.text.reading import Box

PHONE = 2.25
"""Height over width of a usual phone, whose text sizes the models were trained for."""

OVERLAP = 0.25
"""Overlap of two bands as a share of the width: more than the height of any line, so that each
line is whole in some band."""


class Band(NamedTuple):
    """Rows of pixels from `top` to `bottom`, bottom exclusive."""

    top: int
    bottom: int


class Region(NamedTuple):
    """One line of text: its box, and its pixels as the recogniser takes them."""

    box: Box
    """In pixels of the picture, or of the band, that was searched."""
    strip: Pixels
    """48 x width x 3, BGR, turned upright."""
    digest: bytes
    """Digest of the line's pixels: lines of equal digests have equal strips."""

    @classmethod
    def of(cls, box: Box, strip: Pixels, crop: Pixels | None = None) -> Region:
        """Makes a region, with the digest of its pixels.

        Args:
            box: In pixels of the picture, or of the band, that was searched.
            strip: 48 x width x 3.
            crop: What the strip was scaled from, with nothing else: it is digested where it is
                the smaller one, as most lines of a screenshot are. None: the strip is.
        """
        digested = strip if crop is None or crop.size >= strip.size else crop
        # Processors have instructions for SHA-256, so it takes half of what BLAKE2 takes. With the
        # height, as 2 rows of 6 pixels have the same bytes as 3 of 4.
        digest = hashlib.sha256(len(digested).to_bytes(4, "big"))
        digest.update(np.ascontiguousarray(digested).data)
        return cls(box, strip, digest.digest())


ROW_PX = 32
"""Height of the rows in which regions are looked up: about that of a line."""


def cut(height_px: int, width_px: int, *, longest_px: int, narrowest_px: int) -> list[Band]:
    """The bands to search one by one; a single band, the whole, for all but tall pictures.

    Args:
        height_px: Height of the picture.
        width_px: Width of the picture.
        longest_px: The side that detection shrinks larger pictures to.
        narrowest_px: Width that shrinking may leave; a narrower picture is not shrunk at all.
    """
    shrunk_px = width_px * min(1.0, longest_px / height_px)
    if shrunk_px >= min(width_px, narrowest_px):
        return [Band(0, height_px)]
    span = max(longest_px, round(PHONE * width_px))
    overlap = math.ceil(OVERLAP * width_px)
    count = math.ceil((height_px - overlap) / (span - overlap))
    if count < 2:
        return [Band(0, height_px)]
    tops = [round(i * (height_px - span) / (count - 1)) for i in range(count)]
    return [Band(top, top + span) for top in tops]


def join(bands: Sequence[tuple[Band, Sequence[Region]]]) -> list[Region]:
    """The regions of all bands in the whole picture's coordinates, each once.

    Args:
        bands: Bands from top to bottom, each with the regions found in it.
    """
    if len(bands) == 1:
        return list(bands[0][1])
    ends = {bands[0][0].top, bands[-1][0].bottom}
    inside: list[tuple[int, int, Region]] = []
    for number, (band, regions) in enumerate(bands):
        for region in regions:
            left, top, right, bottom = region.box
            box = Box(left, top + band.top, right, bottom + band.top)
            from_top = box.top - band.top if band.top not in ends else math.inf
            from_bottom = band.bottom - box.bottom if band.bottom not in ends else math.inf
            depth = int(min(from_top, from_bottom, band.bottom))
            inside.append((depth, number, region._replace(box=box)))
    inside.sort(key=lambda one: -one[0])
    kept: list[Region] = []
    # Only what shares a row can be the same: comparing each with each takes minutes where a page
    # is full of small print.
    in_rows: dict[int, list[tuple[int, Box]]] = {}
    for _, number, region in inside:
        rows = range(region.box.top // ROW_PX, region.box.bottom // ROW_PX + 1)
        others = itertools.chain.from_iterable(in_rows.get(row, ()) for row in rows)
        if any(n != number and _same(region.box, box) for n, box in others):
            continue
        kept.append(region)
        for row in rows:
            in_rows.setdefault(row, []).append((number, region.box))
    return kept


def _same(a: Box, b: Box) -> bool:
    """Whether two boxes share more than half of the smaller one."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return False
    return 2 * width * height > min(_area(a), _area(b))


def _area(box: Box) -> int:
    return (box.right - box.left) * (box.bottom - box.top)
