"""Settings of OCR: what it may cost, and how close it keeps to the library. Each was measured.

`make bench-ocr SCREENS=DIR` repeats that; `ARGS='--reread-below 0.9 --max-columns 1920'` tries
other values.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

COLUMN_BYTES = 3 * 48
"""Memory of a line that is scaled to 48 pixels height, for each pixel of its width."""

WIDTHS = (
    *range(64, 257, 32),
    *range(320, 641, 32),
    *range(704, 1281, 64),
    *range(1408, 2049, 128),
)
"""Padded widths of lines in pixels: see `OcrSettings.widths`."""


CUDA_WIDTHS = (160, 320, 480, 640, 960, 1280, 2048)
"""Padded widths of lines in pixels on CUDA, where each new shape has its price."""

CUDA_CANVASES = (
    (1344, 736),
    (1632, 736),
    (1792, 832),
    (1920, 1088),
    (1984, 896),
    (1984, 928),
    (1984, 960),
    (1984, 1120),
)
"""Heights and widths in pixels of the canvases that have sessions of their own on CUDA: of phones'
screenshots from 640 x 1136 to 1440 x 3200 with the library's bounds, 28 of 34 sizes have one of
these, and the others fit into one that is at most 13 % larger
(`tests/unit/inference/test_fixed_shapes.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrSettings:
    """How text is found and read."""

    detectors: int = 1
    """Threads that find text."""

    detection_sessions: int = 0
    """Sessions that those threads share on a GPU, each in use by one of them at a time: a run is
    short beside what a thread does before and after it. 0: one each. On a CPU one session runs for
    all threads at once."""

    recognisers: int = 1
    """Threads that recognise lines, on a GPU each with sessions of its own."""

    widths: tuple[int, ...] = WIDTHS
    """Widths in pixels that lines of 48 pixels height are padded to, ascending; past the last, its
    multiples. Of the columns that the library computes for 64 real screenshots (every line padded
    to 320 or to the widest of six) 29 % are left for lines up to 256 and 25 % for wider ones; what
    is read twice adds 15 %. Steps of 16 would save 2 %, in batches half as full. None lies from
    257 to 319: what is saved there is lost again by what is read twice. A GPU wants fewer."""

    reread_below: float = 0.97
    """Confidence below which a line is read again, padded as the library pads it: to 320 pixels,
    or to the widest of its six (`library_widths`). The network sees the padding, and what it is
    unsure of depends on it. Of 11,384 characters on 64 real screenshots, and of 4,718 on 30
    generated pages of 1080 pixels width, these differ from the library's:

    | read again below | real lines | edits  | generated lines | edits  |
    |------------------|------------|--------|-----------------|--------|
    | never            |            | 0.93 % |                 | 1.87 % |
    | 0.93             | 11 %       | 0.26 % | 8 %             | 0.83 % |
    | 0.95             | 13 %       | 0.18 % | 9 %             | 0.55 % |
    | 0.97             | 16 %       | 0.11 % | 12 %            | 0.23 % |
    | 0.99             | 22 %       | 0.05 % | 16 %            | 0.06 % |

    Padded to 320 alone, whatever its company, all lines read again would leave 0.18 % and 0.66 %:
    what the library differs from itself by, reading one line at a time. 0 never reads again."""

    max_columns: int = 640
    """Padded pixels of width in one batch, the measure of what a run costs. A CPU's time for a
    column is flat from 160 to 640 and a tenth higher at 1920, the library's batch; a GPU wants
    thousands."""

    share_columns: int = 8_192
    """Columns of one screenshot that are read before others go first that had fewer: about what a
    usual screenshot takes, so that usual ones are read one after the other. (Had each its equal
    share of every moment, all would be ready when the last one is.)"""

    gives_way: bool = True
    """Whether lines that are due later leave cores to finding the text of a screenshot that goes
    first (`line_pool.LEFT_IDLE`). A GPU is not what finding waits for."""

    max_lines: int = 2_000
    """Lines of text that one picture may have; more are refused before any is read. A long page has
    hundreds; 2,000 take a core some minutes."""

    max_text_columns: int = 800_000
    """Pixels of width that its lines may have together once they are scaled to 48 pixels height, of
    `COLUMN_BYTES` each; more are refused before any is scaled (`ImageLimits` says why so many)."""

    sizes: tuple[int, ...] = ()
    """Batch sizes that recognition runs at, ascending from 1, so that a CUDA session meets few
    shapes; all are run before the first request. Empty: any size, and no warm-up."""

    cache_entries: int = 4096
    """Entries of the LRU cache of recognised lines, keyed by their pixels, about 300 bytes each:
    icons, status bars and labels recur in every screenshot of an app. 0 switches it off."""

    max_enlarged_px: int = 3_000_000
    """Pixels that a small picture is at most enlarged to before text is looked for; of a usual
    screenshot 1 to 1.8 million are. The library has no limit: of a strip of 16 x 2000 pixels it
    makes 63 million: some 20 s and 15 GB, at what a usual one takes for each."""

    narrowest_px: int = 640
    """Width below which a tall picture is not shrunk but looked at in overlapping parts. The
    library shrinks 1080 x 8000 to 270 pixels of width, where nothing can be read; phones end at
    625 to 900."""

    def __post_init__(self) -> None:
        if not 0 <= self.detection_sessions <= self.detectors:
            raise ValueError(
                f"need detection_sessions from 0 to detectors, {self.detectors}, got "
                f"{self.detection_sessions}"
            )
        counts = (
            self.detectors,
            self.recognisers,
            self.max_enlarged_px,
            self.narrowest_px,
            self.share_columns,
            self.max_lines,
            self.max_text_columns,
        )
        if min(counts) < 1 or self.cache_entries < 0 or not 0 <= self.reread_below <= 1:
            raise ValueError(
                "need detectors, recognisers, max_enlarged_px, narrowest_px, share_columns, "
                "max_lines and max_text_columns of at least 1, cache_entries of at least 0 and "
                f"reread_below from 0 to 1, got {self}"
            )
        if not self.widths or self.widths[0] < 8 or not _ascend(self.widths):
            raise ValueError(f"widths must ascend from 8 or more, got {self.widths}")
        if self.sizes and (self.sizes[0] != 1 or not _ascend(self.sizes)):
            raise ValueError(f"sizes must ascend from 1, got {self.sizes}")
        if self.max_columns < self.widths[0]:
            raise ValueError(f"max_columns must be at least {self.widths[0]}, the least width")

    def width(self, pixels: int) -> int:
        """The width that a line is padded to, from its own width; both in pixels."""
        at = bisect_left(self.widths, pixels)
        if at < len(self.widths):
            return self.widths[at]
        return -(-pixels // self.widths[-1]) * self.widths[-1]

    def count(self, width: int, waiting: int) -> int:
        """How many of the waiting lines of a width go in one batch: at least one."""
        most = max(1, min(waiting, self.max_columns // width))
        return max((size for size in self.sizes if size <= most), default=most)

    def shapes(self) -> Iterator[tuple[int, int]]:
        """Every (batch size, width) that can occur."""
        for width, size in itertools.product(self.widths, self.sizes):
            if size == self.count(width, size):
                yield size, width


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryNumbers:
    """Parameters of the library that the engine needs; a bundle repeats them."""

    longest_px: int = 2000
    """Longer side in pixels that larger pictures are scaled down to."""

    batch: int = 6
    """Lines in one batch of the library, all padded to the widest of them."""

    padded_px: int = 320
    """Least padded width in pixels."""

    min_confidence: float = 0.5
    """Confidence below which a line is dropped, 0 to 1."""


def library_widths(widths: Sequence[int], library: LibraryNumbers) -> list[int]:
    """The padded width of each line of a picture in the library: sorted, batched, to the widest.

    Args:
        widths: The widths of the lines in pixels.
        library: The library's parameters.
    """
    order = sorted(range(len(widths)), key=widths.__getitem__)
    padded = [0] * len(widths)
    for start in range(0, len(order), library.batch):
        batch = order[start : start + library.batch]
        for line in batch:
            padded[line] = max(library.padded_px, widths[batch[-1]])
    return padded


def _ascend(numbers: tuple[int, ...]) -> bool:
    return all(a < b for a, b in itertools.pairwise(numbers))
