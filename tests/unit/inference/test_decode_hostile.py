"""Hostile and damaged files: what costs more than its pixels, and what lacks some of them.

Times are not asserted: what took them is, which Pillow does in Python.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from pagesight_server.common.errors import ImageError
from pagesight_server.inference import avif, jpeg, png, tiff
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from tests.support.pictures import chunk, encoded, with_chunk

LIMITS = ImageLimits()

NOISE = Image.fromarray(
    np.random.default_rng(1).integers(0, 256, (21, 16, 3)).astype(np.uint8)
).resize((61, 83))
PIXELS = np.asarray(NOISE)

# --- JPEG: what Pillow reads of a header in Python ------------------------------------------------


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


def test_of_many_segments_of_exif_the_first_count() -> None:
    # Pillow copies all of them for each: 9,900 in 16 MB took seven seconds.
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(NOISE, "JPEG", exif=turned)
    more = segment(0xE1, b"Exif\0\0" + bytes(100)) * 500
    at = data.index(b"\xff\xdb")
    crowded = data[:at] + more + data[at:]
    # With the picture's own segment as many as are looked at, and not one more.
    assert jpeg.layout(crowded).mended(crowded) == data[:at] + more[: 3 * 110] + data[at:]
    np.testing.assert_array_equal(decode(crowded, LIMITS), decode(data, LIMITS))


@pytest.mark.parametrize(
    "junk", [bytes(5000), b"\xff\0" * 5000, b"\xff" * 5000, b"x" * 5000], ids=lambda j: repr(j[:2])
)
def test_what_stands_between_segments_is_passed_over_at_once(junk: bytes) -> None:
    # Pillow looks at it byte by byte: four seconds for 16 MB.
    data = encoded(NOISE, "JPEG")
    at = data.index(b"\xff\xdb")
    assert jpeg.layout(data[:at] + junk + data[at:]).mended(data[:at] + junk + data[at:]) == data
    np.testing.assert_array_equal(
        decode(data[:at] + junk + data[at:], LIMITS), decode(data, LIMITS)
    )


@pytest.mark.parametrize(
    ("added", "message"),
    [
        pytest.param(segment(0xDB, bytes(65) * 300), "too many tables", id="tables"),
        pytest.param(segment(0xC0, b"\x08\0\x40\0\x40\1" + bytes(3)), "damaged", id="header"),
        # libjpeg knows no such marker, and Pillow looks for the next one within its body.
        pytest.param(segment(0xF0, segment(0xE1, b"Exif\0\0")), "damaged", id="marker"),
    ],
)
def test_a_jpeg_that_no_decoder_takes_is_refused_by_its_layout(added: bytes, message: str) -> None:
    data = encoded(NOISE, "JPEG")
    with pytest.raises(ImageError, match=message):
        jpeg.layout(data[:2] + added + data[2:])


@pytest.mark.parametrize("has_end", [True, False])
def test_a_jpeg_without_pixels_is_refused(has_end: bool) -> None:
    with pytest.raises(ImageError, match="it has no pixels"):
        decode(b"\xff\xd8\xff" + b"\xd9" * has_end + bytes(1000), LIMITS)


# --- PNG: what is inflated, and how many rows there are -------------------------------------------


XMP = b"XML:com.adobe.xmp\0"
TOO_LONG = zlib.compress(bytes(5 << 20), 9)
FITS = zlib.compress(b"<x/>" + bytes(200_000))


@pytest.mark.parametrize(
    "repeated",
    [
        pytest.param(chunk(b"iCCP", b"name\0\0" + TOO_LONG), id="profile that is too long"),
        pytest.param(chunk(b"iCCP", b"name\0\0none"), id="profile that is none"),
        pytest.param(chunk(b"zTXt", XMP + b"\0" + TOO_LONG), id="text that is too long"),
        pytest.param(chunk(b"zTXt", XMP + b"\0" + FITS), id="text"),
        pytest.param(chunk(b"iTXt", XMP + b"\1\0\0\0" + TOO_LONG), id="other text too long"),
    ],
)
def test_what_a_png_repeats_is_inflated_once(
    repeated: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated: list[int] = []

    def inflate(data: bytes, most: int) -> None:
        inflated.append(len(data))

    monkeypatch.setattr(png, "_inflated", inflate)
    data = with_chunk(encoded(NOISE), repeated * 50)
    np.testing.assert_array_equal(decode(data, LIMITS), PIXELS)
    assert len(inflated) == 1


def test_a_comment_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_inflated", lambda *_: pytest.fail("it was"))
    data = with_chunk(encoded(NOISE), chunk(b"zTXt", b"comment\0\0" + FITS))
    np.testing.assert_array_equal(decode(data, LIMITS), PIXELS)


MODES = {"1": (1, 0), "L": (8, 0), "RGB": (8, 2), "P": (8, 3), "LA": (8, 4), "RGBA": (16, 6)}
"""Depth and kind of colour of PNGs; with RGB of 16 bits."""


def png_of_rows(
    rows: bytes, *, size: tuple[int, int], mode: str, interlaced: bool = False
) -> bytes:
    header = struct.pack(">IIBBBBB", *size, *MODES[mode], 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(768)) if mode == "P" else b""
    pixels = zlib.compress(rows)
    half = len(pixels) // 2
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", header),
            palette,
            chunk(b"IDAT", pixels[:half]),
            chunk(b"IDAT", pixels[half:]),
            chunk(b"IEND", b""),
        )
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_png_that_ends_before_its_last_row_is_refused(mode: str, interlaced: bool) -> None:
    # 17 x 18 pixels. Of Adam7's passes 1 to 7 the first column, row and steps are
    # (0,0,8,8) (4,0,8,8) (0,4,4,8) (2,0,4,4) (0,2,2,4) (1,0,2,2) (0,1,1,2): columns and rows
    passes = [(3, 3), (2, 3), (5, 2), (4, 5), (9, 4), (8, 9), (17, 9)]
    bits = {"1": 1, "L": 8, "RGB": 24, "P": 8, "LA": 16, "RGBA": 64}[mode]
    lines = [1 + -(-columns * bits // 8) for columns, rows in passes for _ in range(rows)]
    if not interlaced:
        lines = [1 + -(-17 * bits // 8)] * 18
    whole = png_of_rows(bytes(sum(lines)), size=(17, 18), mode=mode, interlaced=interlaced)
    assert decode(whole, LIMITS).shape == (18, 17, 3)  # black, or white where it is transparent
    for rows in (0, 1, len(lines) // 2, len(lines) - 1):
        short = png_of_rows(
            bytes(sum(lines[:rows])), size=(17, 18), mode=mode, interlaced=interlaced
        )
        with pytest.raises(ImageError, match="damaged or truncated"):
            decode(short, LIMITS)


def test_a_png_whose_first_rows_alone_are_there_is_refused() -> None:
    row = b"\0" + b"\xc8" * 192
    with pytest.raises(ImageError, match="some of its rows are not there"):
        decode(png_of_rows(row * 16, size=(64, 64), mode="RGB"), LIMITS)


def test_a_png_that_does_not_end_blank_is_not_inflated_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(png, "lacks_rows", lambda _: pytest.fail("it was"))
    np.testing.assert_array_equal(decode(encoded(NOISE), LIMITS), PIXELS)


# --- Other formats: what is read in pieces, and numbers that Pillow makes objects of -------------


ALL = ImageLimits(formats=("webp", "gif", "bmp", "tiff", "avif"))
SHORT, LONG, RATIONAL = 3, 4, 5


def directory(*entries: tuple[int, int, int, int], big: bool = False) -> bytes:
    """A TIFF of tags in their order: the number of each, type, how many values, and the value."""
    layout, header, count = "<HHLL", b"II*\0\x08\0\0\0", "<H"
    if big:
        layout, header, count = "<HHQQ", b"II+\0\x08\0\0\0\x10" + bytes(7), "<Q"
    packed = b"".join(struct.pack(layout, *entry) for entry in sorted(entries))
    return header + struct.pack(count, len(entries)) + packed + bytes(8)


def tags(*, bits: int = 8, rows: int = 64, side: int = 64) -> list[tuple[int, int, int, int]]:
    """Those of a grey picture without compression, but for where its strips are."""
    values = {256: side, 257: side, 258: bits, 259: 1, 262: 1, 277: 1, 278: rows}
    return [(tag, SHORT, 1, value) for tag, value in values.items()]


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_exif_that_is_too_long_is_not_taken_apart(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(NOISE, kind, exif=directory((0x0112, SHORT, 1, 6)) + bytes(300_000))
    monkeypatch.setattr(Image.Exif, "load", lambda *_: pytest.fail("it was"))
    assert decode(data, LIMITS).shape == PIXELS.shape


@pytest.mark.parametrize(
    "extension",
    [b"!\xfe" + b"\1a" * 600_000 + b"\0", b"x" * 1_100_000],
    ids=["comment", "nothing"],
)
def test_a_gif_in_too_many_pieces_is_refused(extension: bytes) -> None:
    data = encoded(NOISE.quantize(8), "GIF")
    at = data.index(b",\0\0\0\0")
    with pytest.raises(ImageError, match="too many pieces: save it as PNG"):
        decode(data[:at] + extension + data[at:], ALL)


def run_length_bmp(side: int, runs: bytes) -> bytes:
    palette = b"".join(bytes([level, 0, level, 0]) for level in range(256))
    start = 14 + 40 + len(palette)
    header = struct.pack("<LllHHLLllLL", 40, side, side, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<LLL", start + len(runs), 0, start) + header + palette + runs


def test_a_bmp_in_too_many_pieces_is_refused_and_no_other() -> None:
    row = b"\1\7" * 64 + b"\0\0"
    assert decode(run_length_bmp(64, row * 64 + b"\0\1"), ALL)[5, 5].tolist() == [7, 0, 7]
    with pytest.raises(ImageError, match="too many pieces: save it as PNG"):
        decode(run_length_bmp(5000, b"\1\7" * 1_100_000), ALL)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param([*tags(rows=1), (273, LONG, 200_000, 8)], "strips or tiles", id="strips"),
        pytest.param(
            [*tags(), (322, SHORT, 1, 1), (323, SHORT, 1, 1), (324, 1, 200_000, 8)],
            "strips or tiles",
            id="tiles",
        ),
        pytest.param([*tags(), (274, RATIONAL, 200_000, 8)], "strips or tiles", id="numbers"),
        pytest.param([(tag, SHORT, 1, 1) for tag in range(5000)], "4,096 tags", id="tags"),
    ],
)
def test_a_tiff_of_too_much_beside_its_pixels_is_refused(
    entries: list[tuple[int, int, int, int]], message: str, big: bool
) -> None:
    with pytest.raises(ImageError, match=message):
        decode(directory(*entries, big=big) + bytes(2_000_000), ALL)


def test_a_tiff_whose_strips_are_stored_over_and_over_is_refused() -> None:
    # Of two heights by turns, so that none is like the one before it, which Pillow passes over.
    entries = [*tags(bits=8, rows=48), (273, LONG, 1000, 8)]
    with pytest.raises(ImageError, match="overlapping strips"):
        decode(directory(*entries) + bytes(20_000), ALL)


def test_a_tiff_whose_rows_are_all_the_same_part_of_the_file_is_refused() -> None:
    # PackBits: 2,000 times nothing, then a row of 64 pixels.
    packed = b"\x80" * 2000 + b"\xc1\x07"
    for rows in (1, 64):
        entries = [tag for tag in tags(rows=64 // rows) if tag[0] != 259]
        start = len(directory(*entries, *[(0, 0, 0, 0)] * 3))
        entries += [
            (259, SHORT, 1, 32773),
            (273, LONG, rows, start),
            (279, LONG, rows, start + 4 * rows),
        ]
        if rows == 1:  # the values themselves
            entries[-2:] = [(273, LONG, 1, start), (279, LONG, 1, 2 + 2000 + 63 * 2)]
            whole = directory(*entries) + packed + b"\xc1\x07" * 63
            assert decode(whole, ALL)[5, 5].tolist() == [7, 7, 7]
            continue
        at, length = struct.pack("<L", start + 8 * rows), struct.pack("<L", len(packed))
        with pytest.raises(ImageError, match="overlapping strips"):
            decode(directory(*entries) + at * rows + length * rows + packed, ALL)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "L", "I;16"])
def test_a_tiff_keeps_what_its_pixels_depend_on(mode: str, compression: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    turned[0x010E] = "what it shows"
    grey = Image.fromarray(np.asarray(NOISE.convert("L")).astype(np.uint16) * 257)
    data = encoded(
        grey if mode == "I;16" else NOISE.convert(mode),
        "TIFF",
        compression=compression,
        exif=turned,
        dpi=(300, 300),
    )
    trimmed = tiff.trimmed(data)
    assert len(trimmed) == len(data)
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(trimmed)) as picture:
        assert 0x010E in whole.getexif()
        assert 0x010E not in picture.getexif()
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(whole))
        assert picture.size == (83, 61)
    assert decode(data, ALL).shape == (61, 83, 3)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_without_its_exif(orientation: int) -> None:
    turned = Image.Exif()
    turned[0x0112] = orientation
    turned[0x010F] = "the maker of it"
    data = encoded(NOISE, "AVIF", exif=turned, xmp=b"<x:xmpmeta/>")
    with Image.open(io.BytesIO(data)) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(decode(data, ALL), upright)
    with Image.open(io.BytesIO(avif.trimmed(data))) as picture:
        assert b"the maker" not in picture.info.get("exif", b"")
        assert "xmp" not in picture.info


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_exif_of_an_avif_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(NOISE, "AVIF", exif=directory((0x010F, SHORT, 1, 6)) + bytes(300_000))
    monkeypatch.setattr(Image.Exif, "load", lambda *_: pytest.fail("it was"))
    assert decode(data, ALL).shape == PIXELS.shape
