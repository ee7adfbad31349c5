"""Whole pictures with odd surroundings: what stands around the pixels does not spoil them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError
from pagesight_server.inference import jpeg, png
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from tests.support.pictures import chunk, encoded, with_chunk

LIMITS = ImageLimits()

NOISE = Image.fromarray(
    np.random.default_rng(1).integers(0, 256, (21, 16, 3)).astype(np.uint8)
).resize((61, 83))
PIXELS = np.asarray(NOISE)


# --- JPEG: what stands behind the picture, and what lacks at its end -----------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "picture", [NOISE, NOISE.convert("L"), NOISE.convert("CMYK")], ids=["RGB", "grey", "CMYK"]
)
def test_a_jpeg_with_a_video_behind_it_is_the_picture(picture: Image.Image, seed: int) -> None:
    data = encoded(picture, "JPEG")
    # What is compressed looks random: the mark of a scan is in 1 MB of it 16 times.
    video = b"MotionPhoto_Data" + b"\xff\xda\xff\xda" * 99 + random.Random(seed).randbytes(4 << 20)
    np.testing.assert_array_equal(decode(data + video, LIMITS), decode(data, LIMITS))


def test_a_jpeg_with_a_preview_inside_has_as_many_scans_as_it_has_itself() -> None:
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 200
    data = encoded(NOISE, "JPEG", exif=exif, comment=b"\xff\xda\xff\xd9" * 200)
    assert jpeg.layout(data) == jpeg.Layout(scans=1, has_end=True)
    assert decode(data, LIMITS).shape == PIXELS.shape


def test_a_jpeg_of_several_pictures_is_the_first() -> None:
    buffer = io.BytesIO()
    NOISE.save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (61, 83))])
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "MPO"
        first = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(decode(data, LIMITS), first)


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_mark_is_whole(
    mode: str, options: dict[str, object], cut: int
) -> None:
    data = encoded(NOISE.convert(mode), "JPEG", **options)
    np.testing.assert_array_equal(decode(data[:-cut], LIMITS), decode(data, LIMITS))


@pytest.mark.parametrize("cut", [20, 200, 1000])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_rows_is_not_whole(mode: str, cut: int) -> None:
    with pytest.raises(ImageError, match="truncated"):
        decode(encoded(NOISE.convert(mode), "JPEG")[:-cut], LIMITS)


SEGMENTS = {
    "JFIF": (0xE0, b"JFIF\0\1\1\1\0\x48\0\x48\0\0"),
    "EXIF": (0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\1\0\0\0\0\0\0"),
    "XMP": (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='?'/>"),
    "ICC": (0xE2, b"ICC_PROFILE\0\1\1" + bytes(9)),
    "MPF": (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\1\xb0\1\0\4\0\0\0\1\0\0\0\2\0\0\0\0"),
    "Photoshop": (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10\0\x48\0\0\0\1\0\1\0\x48"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(("marker", "body"), SEGMENTS.values(), ids=SEGMENTS)
def test_a_segment_that_is_cut_short_does_not_spoil_a_jpeg(marker: int, body: bytes) -> None:
    data = encoded(NOISE, "JPEG")
    expected = decode(data, LIMITS)
    for length in range(len(body) + 1):
        segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + length) + body[:length]
        for at in (2, 20):  # before and after the JFIF segment
            np.testing.assert_array_equal(decode(data[:at] + segment + data[at:], LIMITS), expected)


def test_an_adobe_segment_that_is_cut_short_says_nothing_of_the_colours() -> None:
    data = encoded(NOISE, "JPEG")
    segment = b"\xff\xee\0\x0cAdobe\0\x64\0\0\0"
    np.testing.assert_array_equal(
        decode(data[:20] + segment + data[20:], LIMITS), decode(data, LIMITS)
    )


def test_a_jpeg_of_too_many_segments_is_refused() -> None:
    data = encoded(NOISE, "JPEG")
    with pytest.raises(ImageError, match="more than 10,000 segments"):
        decode(data[:2] + b"\xff\xfe\0\2" * 10_001 + data[2:], LIMITS)


def test_marks_are_found_in_no_more_time_than_a_file_is_long() -> None:
    # Of fill bytes there may be any number: to look at each run from each of its bytes took hours.
    data = b"\xff\xd8" + b"\xff" * 4_000_000
    assert jpeg.layout(data) == jpeg.Layout(scans=0, has_end=False)


# --- PNG: chunks that the pixels do not depend on ------------------------------------------------


def text(*, kind: str = "zTXt", size: int = 2 << 20) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if kind == "zTXt":
        info.add_text("comment", "x" * size, zip=True)
    elif kind == "tEXt":
        info.add_text("comment", "x" * size)
    else:
        info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>" + " " * size, zip=True)
    return info


def flipped(data: bytes, kind: bytes) -> bytes:
    """A PNG in which the first byte of a chunk has changed, and its checksum has not."""
    at = data.index(kind) + 4
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


WHOLE: dict[str, bytes] = {
    "zTXt of 2 MB": encoded(NOISE, pnginfo=text()),
    "tEXt of 2 MB": encoded(NOISE, pnginfo=text(kind="tEXt")),
    "XMP of 2 MB": encoded(NOISE, pnginfo=text(kind="iTXt")),
    "profile of 2 MB of nothing": encoded(NOISE, icc_profile=bytes(2 << 20)),
    "profile that is none": encoded(NOISE, icc_profile=b"no profile"),
    "profile of another method": with_chunk(encoded(NOISE), chunk(b"iCCP", b"name\0\7abc")),
    "pHYs with a bad checksum": flipped(encoded(NOISE, dpi=(72, 72)), b"pHYs"),
    "iCCP with a bad checksum": flipped(encoded(NOISE, icc_profile=b"x" * 99), b"iCCP"),
    "eXIf with a bad checksum": flipped(encoded(NOISE, exif=exif_of(6)), b"eXIf"),
    "eXIf of nothing": with_chunk(encoded(NOISE), chunk(b"eXIf", b"")),
    "gAMA cut short": with_chunk(encoded(NOISE), chunk(b"gAMA", b"\0")),
    "cHRM cut short": with_chunk(encoded(NOISE), chunk(b"cHRM", b"\0")),
    "sRGB cut short": with_chunk(encoded(NOISE), chunk(b"sRGB", b"")),
    "pHYs cut short": with_chunk(encoded(NOISE), chunk(b"pHYs", b"\0")),
    "tRNS cut short": with_chunk(encoded(NOISE), chunk(b"tRNS", b"\0")),
    "acTL of no frames": with_chunk(encoded(NOISE), chunk(b"acTL", bytes(8))),
    "fcTL out of order": with_chunk(encoded(NOISE), chunk(b"fcTL", b"\0\0\0\7" + bytes(22))),
    "fdAT after the picture": with_chunk(encoded(NOISE), chunk(b"fdAT", b"x"), before=b"IEND"),
    "a chunk of its own": with_chunk(encoded(NOISE), chunk(b"npTc", b"nine patch")),
    "zTXt of 2 MB after the picture": with_chunk(
        encoded(NOISE), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 << 20))), before=b"IEND"
    ),
    "300 comments of 1 MB": with_chunk(
        encoded(NOISE), 300 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))
    ),
    "no end": encoded(NOISE)[:-12],
    "something behind the end": encoded(NOISE) + b"\xff" * 999,
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_whole_png_is_shown_whatever_else_is_in_it(data: bytes) -> None:
    np.testing.assert_array_equal(decode(data, LIMITS), PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(flipped(encoded(NOISE), b"IHDR"), id="header with a bad checksum"),
        pytest.param(flipped(encoded(NOISE.quantize(16)), b"PLTE"), id="palette of a bad checksum"),
        pytest.param(flipped(encoded(NOISE), b"IDAT"), id="damaged pixels"),
        pytest.param(encoded(NOISE)[:-400], id="truncated pixels"),
    ],
)
def test_a_png_whose_pixels_are_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"damaged|limits are"):
        decode(data, LIMITS)


def xmp(orientation: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f'<x tiff:Orientation="{orientation}"/>', zip=True)
    return info


def magick(orientation: int) -> PngImagePlugin.PngInfo:
    """EXIF as ImageMagick writes it into a text."""
    info, exif = PngImagePlugin.PngInfo(), exif_of(orientation).tobytes()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    return info


@pytest.mark.parametrize(
    "options",
    [{"exif": exif_of(6)}, {"pnginfo": xmp(6)}, {"pnginfo": magick(6)}],
    ids=["EXIF", "XMP", "text"],
)
def test_a_png_is_turned_wherever_it_says_so(options: dict[str, Any]) -> None:
    data = encoded(NOISE, **options)
    with Image.open(io.BytesIO(data)) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    assert upright.shape == (61, 83, 3)
    np.testing.assert_array_equal(decode(data, LIMITS), upright)


def test_a_png_of_pixels_alone_is_not_copied() -> None:
    data = encoded(NOISE)
    assert png.trimmed(data).data is data


def test_a_png_of_too_many_chunks_is_refused() -> None:
    data = with_chunk(encoded(NOISE), chunk(b"tEXt", b"") * 100_001)
    with pytest.raises(ImageError, match="more than 100,000 chunks"):
        decode(data, LIMITS)


@pytest.mark.parametrize("default_image", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_of_an_apng_the_default_image_counts(mode: str, default_image: bool) -> None:
    frames = [
        Image.new("RGB", (20, 24), colour).convert(mode)
        for colour in ((204, 204, 204), (0, 0, 0), (51, 51, 51))
    ]
    data = encoded(frames[0], save_all=True, append_images=frames[1:], default_image=default_image)
    assert b"fdAT" in data
    assert decode(data, LIMITS)[5, 5].tolist() == [204, 204, 204]
    # A later frame is damaged: none of it is looked at.
    assert decode(flipped(data, b"fdAT"), LIMITS)[5, 5].tolist() == [204, 204, 204]


# --- Transparency --------------------------------------------------------------------------------


def png_of(depth: int, colour_type: int, rows: bytes, *, width: int, key: bytes) -> bytes:
    """A PNG of given rows, each with its filter in front, with a tRNS chunk."""
    height = 16
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", header),
            chunk(b"tRNS", key),
            chunk(b"IDAT", zlib.compress(rows * height)),
            chunk(b"IEND", b""),
        )
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_white_at_every_depth(depth: int) -> None:
    # Black all over, and black is transparent.
    data = png_of(depth, 0, b"\0" + bytes(32 * depth // 8), width=32, key=b"\0\0")
    assert decode(data, LIMITS)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_grey_that_is_not_black_can_be_transparent(depth: int) -> None:
    # The left half black and opaque, the right half of grey 1, which is transparent.
    grey = (1).to_bytes(2, "big") if depth == 16 else bytes([{2: 0x55, 4: 0x11, 8: 0x01}[depth]])
    half = 16 * depth // 8
    row = b"\0" + bytes(half) + grey * (half // len(grey))
    pixels = decode(png_of(depth, 0, row, width=32, key=b"\0\1"), LIMITS)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, 31].tolist() == [255, 255, 255]


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_white(depth: int) -> None:
    # Left black and opaque; right dark red, which is transparent.
    black, red = (bytes(3), b"\x30\0\0") if depth == 8 else (bytes(6), b"\x30\0\0\0\0\0")
    key = b"\0\x30\0\0\0\0" if depth == 8 else b"\x30\0\0\0\0\0"
    data = png_of(depth, 2, b"\0" + black * 16 + red * 16, width=32, key=key)
    pixels = decode(data, LIMITS)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, 31].tolist() == [255, 255, 255]


def page(ink: int, alpha: Pixels, mode: str = "RGBA") -> Image.Image:
    """A page of one ink that is as opaque as `alpha` says."""
    picture = Image.new("L", (alpha.shape[1], alpha.shape[0]), ink)
    picture.putalpha(Image.fromarray(alpha))
    return picture.convert(mode)


STROKES = np.zeros((60, 80), np.uint8)
"""Thin lines, as of text: on a tenth of the page."""
STROKES[10:50:5, 10:70] = 255
SHADES = (STROKES * 0.6).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("alpha", [STROKES, SHADES], ids=["opaque", "translucent"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [(255, 0), (200, 0), (0, 255), (60, 255)],
    ids=["white", "light", "black", "dark"],
)
def test_what_is_drawn_on_transparency_is_seen(
    ink: int, ground: int, alpha: Pixels, kind: str
) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encoded(page(ink, alpha), kind, **options), LIMITS)
    assert pixels[0, 0].tolist() == [ground] * 3
    assert abs(int(pixels[10, 20, 0]) - ground) > 70


def test_light_ink_on_transparency_is_seen_in_grey_and_of_a_palette() -> None:
    assert decode(encoded(page(255, STROKES, "LA")), LIMITS)[0, 0].tolist() == [0, 0, 0]
    palette = Image.fromarray((STROKES > 0).astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert decode(encoded(palette, transparency=0), LIMITS)[0, 0].tolist() == [0, 0, 0]


def test_a_picture_that_is_transparent_all_over_is_white() -> None:
    for colour in ((0, 0, 0, 0), (255, 255, 255, 0), (200, 30, 90, 0)):
        pixels = decode(encoded(Image.new("RGBA", (20, 20), colour)), LIMITS)
        assert pixels.min() == 255


def test_rounded_corners_do_not_turn_a_light_page_dark() -> None:
    alpha = np.full((200, 100), 255, np.uint8)
    alpha[:6, :6] = alpha[:6, -6:] = alpha[-6:, :6] = alpha[-6:, -6:] = 0
    assert decode(encoded(page(250, alpha)), LIMITS)[0, 0].tolist() == [255, 255, 255]
