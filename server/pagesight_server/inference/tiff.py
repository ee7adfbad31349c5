"""TIFF: the tags of a file that its pixels depend on, and no others.

    bytes ──directory──> too many tags, or values of one? ──> others made void ──> Pillow

Pillow makes an object of each number in the tags that it looks at, and one of each strip or tile,
before it tells the size: 16 MB of them took gigabytes and half a minute.
"""

from __future__ import annotations

import struct

from pagesight_server.common.errors import ImageError

MAX_TAGS = 4096
"""Tags of a picture; scanners and cameras write some dozens."""

MAX_VALUES = 128 * 1024
"""Numbers in a tag, or strips, or tiles of all colours: those of 64 x 64 pixels are 25,000 in four
colours of 25 megapixels. Pillow takes some microseconds for each."""

_ICC_PROFILE, _XMP = 34675, 700
_BYTES = (_ICC_PROFILE, _XMP)
_NEEDED = frozenset(
    {
        *range(254, 263),  # kind, width, height, bits, compression, photometric interpretation
        *(266, 273, 274, 277, 278, 279, 284),  # strips, orientation, samples, planes
        *(292, 293, 317, 320, 322, 323, 324, 325),  # fax, predictor, palette, tiles
        *(332, 338, 339, 529, 530, 532),  # inks, alpha, kind of samples, YCbCr
        *_BYTES,
    }
)
_BYTE, _UNDEFINED = 1, 7


def trimmed(data: bytes) -> bytes:
    """Makes void what the pixels of a TIFF do not depend on; a damaged one is left to Pillow.

    Layout: TIFF 6.0, section 2; BigTIFF has longer counts and offsets.

    Raises:
        ImageError: it has more tags than a picture has, or more values in one.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2] == 43  # of big-endian ones Pillow knows none
    where, how_many, entry = ("Q", "Q", "HHQ8x") if is_big else ("L", "H", "HHL4x")
    where, how_many, entry = (f"{order}{layout}" for layout in (where, how_many, entry))
    changed = bytearray(data)
    try:
        (at,) = struct.unpack_from(where, data, 8 if is_big else 4)
        (tags,) = struct.unpack_from(how_many, data, at)
        if tags > MAX_TAGS:
            raise ImageError(f"the TIFF has more than {MAX_TAGS:,} tags: save it as PNG or JPEG")
        at += struct.calcsize(how_many)
        for start in range(at, at + tags * struct.calcsize(entry), struct.calcsize(entry)):
            tag, kind, values = struct.unpack_from(entry, data, start)
            if tag not in _NEEDED or (tag in _BYTES and kind not in {_BYTE, _UNDEFINED}):
                struct.pack_into(f"{order}H", changed, start + 2, 0)  # no type that there is
            elif tag not in _BYTES and values > MAX_VALUES:
                raise ImageError("the TIFF has too many strips or tiles: save it as PNG or JPEG")
    except (struct.error, OverflowError):
        return data
    return bytes(changed)
