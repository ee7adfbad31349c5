"""Pixels in bands of rows: converted, composited and turned without a second whole picture.

    rows of a codec's picture ──band──> on a ground ──> their upright place in one array
    a codec that fills arrays ──> that array ──tile──> turned in its place

What a codec needs for itself comes on top. A band fits into a processor core's own cache, and is
large enough for the calls of each to cost nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pagesight_server.common.arrays import Pixels

BAND_PIXELS = 128 * 1024
"""Pixels of a band: half a megabyte of RGBA, of which some copies are made at a time."""

TILE_ROWS, TILE_COLUMNS = 64, 256
"""What is moved at once when an array is turned in its place: runs of three cache lines, and
48 KB, a dozen pages of memory, to give back together."""

Rows = Callable[[int, int], Image.Image]
"""Gives the rows of a picture from the first up to, but without, the last: as RGB or RGBA."""

_WHITE, _BLACK = "white", "black"

_FLIPS = {
    1: (1, 1),
    2: (1, -1),
    3: (-1, -1),
    4: (-1, 1),
    5: (1, 1),
    6: (1, -1),
    7: (-1, -1),
    8: (-1, 1),
}
"""Steps along rows and columns by EXIF orientation; from 5 on they are exchanged before."""


def bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    """First row of each band of a picture and the row after its last, from the top."""
    step = max(1, BAND_PIXELS // width)
    for top in range(0, height, step):
        yield top, min(height, top + step)


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a picture as it is stored, and how it is to be turned."""

    height: int
    width: int
    orientation: int = 1
    """EXIF 2.3, tag 274: 1 as stored, 6 to be turned clockwise, ...; what it does not name is 1."""

    def __post_init__(self) -> None:
        if self.orientation not in _FLIPS:
            object.__setattr__(self, "orientation", 1)

    def written(self, rows: Rows) -> Pixels:
        """The upright RGB pixels of a picture whose rows are at hand.

        Args:
            rows: Gives the stored rows, which are put on white or black where they are RGBA.
        """
        exchanged = self.orientation >= 5
        shape = (self.width, self.height, 3) if exchanged else (self.height, self.width, 3)
        upright: Pixels = np.empty(shape, np.uint8)
        down, across = _FLIPS[self.orientation]
        as_stored = upright[::down, ::across]
        if exchanged:
            as_stored = as_stored.transpose(1, 0, 2)
        ground: str | None = None
        for top, bottom in bands(self.height, self.width):
            band = rows(top, bottom)
            if band.mode == "RGBA":
                ground = ground or ground_of(rows, self.height, self.width)
                band = Image.alpha_composite(Image.new("RGBA", band.size, ground), band)
            as_stored[top:bottom] = np.asarray(band.convert("RGB"))
        return upright

    def filled(self, fill: Callable[[Pixels], bool]) -> Pixels | None:
        """The upright RGB pixels of a picture that a codec decodes into an array.

        Args:
            fill: Decodes into height x width x 3, as stored; says whether it could.

        Returns:
            None where it could not.
        """
        if self.orientation >= 5:
            return self._filled_exchanged(fill)
        pixels: Pixels = np.empty((self.height, self.width, 3), np.uint8)
        if not fill(pixels):
            return None
        down, across = _FLIPS[self.orientation]
        if down < 0:
            _flip_rows(pixels)
        if across < 0:
            for top, bottom in bands(self.height, self.width):
                pixels[top:bottom] = pixels[top:bottom, ::-1].copy()
        return pixels

    def _filled_exchanged(self, fill: Callable[[Pixels], bool]) -> Pixels | None:
        """Does what `filled` does with rows and columns exchanged, and gives back what was moved.

        Each band of stored rows is exchanged in its place. From then on a row of the upright
        picture is in one piece in each band, and the bands can be given back from their front.
        """
        height, width = self.height, self.width
        memory = mmap.mmap(-1, height * width * 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # those are given back 2 MB at a time
        flat: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        if not fill(flat.reshape(height, width, 3)):
            return None
        pieces = []
        for top in range(0, height, TILE_ROWS):
            start, end = (width * 3 * row for row in (top, min(height, top + TILE_ROWS)))
            band = flat[start:end]
            band[:] = band.reshape(-1, width, 3).transpose(1, 0, 2).reshape(-1)
            pieces.append((top, start, band.reshape(width, -1, 3)))
        upright: Pixels = np.empty((width, height, 3), np.uint8)
        down, across = _FLIPS[self.orientation]
        target = upright[::down, ::across]
        for left in range(0, width, TILE_COLUMNS):
            right = min(width, left + TILE_COLUMNS)
            for top, start, piece in pieces:
                rows = piece.shape[1]
                target[left:right, top : top + rows] = piece[left:right]
                _give_back(memory, start, start + left * rows * 3, start + right * rows * 3)
        return upright


def _give_back(memory: mmap.mmap, first: int, start: int, end: int) -> None:
    """Gives back the whole pages from `start` to `end`; none that begins before `first`."""
    page = mmap.PAGESIZE
    start = max(-(-first // page), start // page) * page
    end = end // page * page
    if start < end:
        memory.madvise(mmap.MADV_DONTNEED, start, end - start)


def _flip_rows(pixels: Pixels) -> None:
    """Turns a picture upside down in its place."""
    height, width = pixels.shape[:2]
    for top, bottom in bands(height // 2, width):
        upper = pixels[top:bottom]
        lower = pixels[height - bottom : height - top]
        kept = upper.copy()
        upper[:] = lower[::-1]
        lower[:] = kept[::-1]


GLIMPSE = 0.01
"""Share of a picture up to which transparency does not choose its ground: the rounded corners of a
window or a phone, by which a page must not turn from white to black."""

ONE_OF = 4
"""Of so many rows one is looked at for a ground: even small text is higher."""


def ground_of(rows: Rows, height: int, width: int) -> str:
    """White or black, whichever shows more of a transparent picture.

    What matters is where something visible meets what shows through. So at each pixel that is
    more opaque than its neighbour in the row, the distance of its brightness from the ground
    counts by how much more. A picture that is transparent all over is white.
    """
    through = brighter = looked_at = 0
    for top, bottom in bands(height, width):
        band = rows(top, bottom)
        band = band.resize((width, -(-band.height // ONE_OF)), Image.Resampling.NEAREST)
        looked_at += width * band.height
        if band.getchannel("A").getextrema() == (255, 255):
            continue
        alpha = np.asarray(band.getchannel("A"), np.int16)
        through += int((255 - alpha).sum())
        step = np.diff(alpha, axis=1)
        # The distance from black less that from white, halved.
        brightness = np.asarray(band.convert("RGB").convert("L"), np.int32) - 128
        brighter += int((np.maximum(step, 0) * brightness[:, 1:]).sum())
        brighter += int((np.maximum(-step, 0) * brightness[:, :-1]).sum())
    share = through / (255 * looked_at)
    return _BLACK if share > GLIMPSE and brighter > 0 else _WHITE
