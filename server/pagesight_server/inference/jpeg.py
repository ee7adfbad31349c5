"""JPEG: what stands in a file, and its pixels by libjpeg-turbo.

    bytes ──markers──> scans, end mark ──> TurboJPEG, strict ──> upright RGB
                                              └── anything amiss: None, and Pillow judges

A phone may write a video behind the picture, so marks are counted where a decoder reads them, up
to the end mark, and not in the whole file. A file that lacks the end mark is whole all the same
where every coefficient is there, which a strict decoder tells.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import simplejpeg

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError
from pagesight_server.inference.bands import Frame

MAX_SCANS = 32
"""Scans of a progressive JPEG; libjpeg writes 10, and 18 of CMYK. One takes 75 bytes of a file and,
at 25 megapixels, 30 ms: a hostile file within `max_bytes` could take hours."""

MAX_SEGMENTS = 10_000
"""Segments of a file; pictures have about twenty. Each takes 4 bytes and some microseconds, as long
as Pillow neither gathers it (`MAX_EXIF_SEGMENTS`) nor takes it apart (`MAX_TABLE_BYTES`)."""

MAX_EXIF_SEGMENTS = 4
"""Segments of EXIF that are looked at, of 64 KB each; cameras write one. Pillow copies all that it
has for each one more, and takes some microseconds for each of the tags in them."""

MAX_TABLE_BYTES = 16 * 1024
"""Bytes of quantisation tables ahead of the first scan; pictures have four tables at most, of 65
or 129 bytes. Pillow takes each apart."""

END = b"\xff\xd9"

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_GOES_ON = np.isin(np.arange(256), [0x00, 0xFF, *range(0xD0, 0xD8)])
"""What follows an FF within the data of a scan: 00 one of its own, D0 to D7 a restart."""
_LOOKED_AT = 64 * 1024
"""Bytes of a scan that are looked through at once."""

_ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
"""Markers without a length: TEM, SOI, RST0 to RST7."""
_END_OF_IMAGE, _START_OF_SCAN, _TABLES = 0xD9, 0xDA, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of headers, SOF0 to SOF15."""
_UNKNOWN = frozenset({*range(0x02, 0xC0), 0xC8, 0xDE, 0xDF, *range(0xF0, 0xFE)})
"""Markers at which libjpeg gives up, some of which Pillow passes over byte by byte."""
_EXIF = 0xE1, b"Exif\0\0"

_DROPPED = (
    (0xE0, b"JFIF", 14),
    (0xE2, b"ICC_PROFILE\0", 14),
    (0xED, b"Photoshop 3.0\0", 2**16),
    (0xEE, b"Adobe", 12),
)
"""Segments of applications: the marker, how they begin, and bytes below which they are cut short.
libjpeg passes over such, Pillow refuses the picture; of Photoshop's nothing is needed."""


class Layout(NamedTuple):
    """What the markers of a file say."""

    scans: int
    has_end: bool
    broken: tuple[tuple[int, int], ...] = ()
    """What must not spoil the picture, or take time for nothing: where each piece starts and ends.
    Segments, and what stands between them."""

    def mended(self, data: bytes) -> bytes:
        """Returns the file without them."""
        starts = (0, *(end for _, end in self.broken))
        ends = (*(start for start, _ in self.broken), len(data))
        pieces = (data[start:end] for start, end in zip(starts, ends, strict=True))
        return b"".join(pieces) if self.broken else data


def layout(data: bytes) -> Layout:
    """Walks the markers of a JPEG up to its end mark (ITU-T T.81, B.1.1), as libjpeg does.

    Raises:
        ImageError: no decoder takes it, or it has more of anything than a picture has.
    """
    at, scans = 2, 0
    header = _Header()
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            return Layout(scans, False, tuple(header.broken))
        if scans == 0 and found.start() > at:
            header.broken.append((at, found.start()))
        marker, at = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            return Layout(scans, True, tuple(header.broken))
        if marker in _ALONE:
            continue
        # A length counts itself; one below two is refused by the decoder.
        start, at = found.start(), at + max(2, int.from_bytes(data[at : at + 2], "big"))
        if scans == 0:
            header.add(data, marker, start, at)
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError(
                    f"the JPEG has more than {MAX_SCANS} scans: save it again, as a plain one"
                )
            after = _end_of_scan(data, at)
            if after is None:
                return Layout(scans, False, tuple(header.broken))
            at = after
    raise ImageError(
        f"the JPEG has more than {MAX_SEGMENTS:,} segments: save it again, as a plain one"
    )


class _Header:
    """The segments ahead of the first scan, which Pillow reads in Python."""

    def __init__(self) -> None:
        self.broken: list[tuple[int, int]] = []
        self._frames = self._exifs = self._table_bytes = 0

    def add(self, data: bytes, marker: int, start: int, end: int) -> None:
        """Takes the next segment.

        Raises:
            ImageError: no decoder takes a picture with it.
        """
        self._frames += marker in _FRAMES
        self._table_bytes += end - start if marker == _TABLES else 0
        if marker in _UNKNOWN or self._frames > 1:
            raise ImageError("the picture is damaged or truncated: its header cannot be read")
        if self._table_bytes > MAX_TABLE_BYTES:
            raise ImageError("the JPEG has too many tables: save it again, as a plain one")
        body = start + 4
        is_exif = marker == _EXIF[0] and data.startswith(_EXIF[1], body)
        self._exifs += is_exif
        if (is_exif and self._exifs > MAX_EXIF_SEGMENTS) or any(
            marker == dropped and end - body < least and data.startswith(beginning, body)
            for dropped, beginning, least in _DROPPED
        ):
            self.broken.append((start, end))


def _end_of_scan(data: bytes, start: int) -> int | None:
    """Finds the first marker after the data of a scan; None where there is none."""
    for at in range(start, len(data) - 1, _LOOKED_AT):
        part = np.frombuffer(data, np.uint8, min(_LOOKED_AT + 1, len(data) - at), at)
        marks = np.flatnonzero(part[:-1] == 0xFF)
        ends = marks[~_GOES_ON[part[marks + 1]]]
        if ends.size:
            return at + int(ends[0])
    return None


def pixels_of(data: bytes, frame: Frame) -> Pixels | None:
    """The upright pixels of a grey or RGB JPEG; None where TurboJPEG finds anything wrong.

    Args:
        data: The encoded picture.
        frame: Its size, which was checked, and how it is turned.
    """
    # The array has the checked size, so a file with two headers cannot take more.
    return frame.filled(lambda pixels: _decode(data, "RGB", pixels))


def is_whole(data: bytes, frame: Frame, mode: str) -> bool:
    """Whether every coefficient of a grey or CMYK JPEG is in the file.

    Args:
        data: The encoded picture.
        frame: Its size, which was checked.
        mode: "L" or "CMYK".
    """
    colours, channels = ("GRAY", 1) if mode == "L" else ("CMYK", 4)
    return _decode(data, colours, np.empty((frame.height, frame.width, channels), np.uint8))


def _decode(data: bytes, colours: str, pixels: Pixels) -> bool:
    try:
        # Pillow uses the slow, exact transforms: with them both give the same pixels.
        decoded = simplejpeg.decode_jpeg(
            data, colours, fastdct=False, fastupsample=False, buffer=pixels, strict=True
        )
    except ValueError:
        return False
    return bool(decoded.shape == pixels.shape)
