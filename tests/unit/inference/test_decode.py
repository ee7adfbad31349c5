"""Bytes to pixels: every accepted form, every refusal, and nothing but ImageError."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pagesight_server.__main__ import main
from pagesight_server.common.errors import ImageError
from pagesight_server.inference.decode import decode, read_file
from pagesight_server.inference.settings import ImageLimits
from tests.support.fuzzing import many_scans
from tests.support.pictures import RED, encoded, solid

# Pillow warns of damaged metadata; a server lets it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimits()
RGB = Image.new("RGB", (20, 30), RED)
LEFT_RED = np.zeros((16, 32, 3), np.uint8)
"""32 wide and 16 high: the left half red, the right half blue."""
LEFT_RED[:, :16, 0] = 255
LEFT_RED[:, 16:, 2] = 255


def png_chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, with next to no rows in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)),
            png_chunk(b"IEND", b""),
        ]
    )


def webp_header(kind: bytes, width: int, height: int) -> bytes:
    """A WebP whose first chunk says it is so large (RFC 9649)."""
    if kind == b"VP8X":
        chunk = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        chunk = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(20)
    else:
        chunk = bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(20)
    body = b"WEBP" + kind + struct.pack("<I", len(chunk)) + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})],
)
def test_each_kind_of_file_gives_its_pixels(kind: str, options: dict[str, object]) -> None:
    pixels = decode(encoded(RGB, kind, **options), LIMITS)
    assert pixels.shape == (30, 20, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - RED).max() <= 3  # JPEG rounds


# Where the left half of the stored picture is to be seen (EXIF 2.3, tag 274).
@pytest.mark.parametrize(
    ("orientation", "shape", "row", "column"),
    [
        pytest.param(1, (16, 32), 8, 4, id="as stored: left"),
        pytest.param(3, (16, 32), 8, 28, id="turned by 180 degrees: right"),
        pytest.param(6, (32, 16), 4, 8, id="to be turned clockwise: top"),
        pytest.param(8, (32, 16), 28, 8, id="to be turned counter-clockwise: bottom"),
        pytest.param(2, (16, 32), 8, 28, id="mirrored: right"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright(
    kind: str, orientation: int, shape: tuple[int, int], row: int, column: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    pixels = decode(encoded(Image.fromarray(LEFT_RED), kind, exif=exif), LIMITS)
    assert pixels.shape[:2] == shape
    red, _, blue = pixels[row, column].tolist()
    assert red > 200
    assert blue < 60


def by_pillow(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What Pillow alone makes of a file."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def noise(width: int = 61, height: int = 83) -> Image.Image:
    """A picture without a plain area, of odd sides: every transform shows."""
    values = np.random.default_rng(1).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    return Image.fromarray(values.astype(np.uint8)).resize((width, height))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"subsampling": 0}, id="4:4:4"),
        pytest.param({"subsampling": 1}, id="4:2:2"),
        pytest.param({"subsampling": 2}, id="4:2:0"),
        pytest.param({"progressive": True}, id="progressive"),
        pytest.param({"keep_rgb": True}, id="stored as RGB"),
        pytest.param({"restart_marker_rows": 1}, id="with restart markers"),
        pytest.param({"icc_profile": b"not a profile"}, id="with a colour profile"),
        pytest.param({"comment": b"a comment"}, id="with a comment"),
        pytest.param({"quality": 30}, id="coarse"),
    ],
)
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(options: dict[str, object]) -> None:
    data = encoded(noise(), "JPEG", **options)
    np.testing.assert_array_equal(decode(data, LIMITS), by_pillow(data))


@pytest.mark.parametrize("orientation", range(9))
def test_a_jpeg_has_pillows_pixels_however_it_lies(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(noise(), "JPEG", exif=exif)
    np.testing.assert_array_equal(decode(data, LIMITS), by_pillow(data))


def test_a_jpeg_with_a_second_header_takes_no_more_than_the_first_says() -> None:
    # What stands behind the first header of the frame says 65,500 x 65,500: 12 GB of RGB.
    data = bytearray(encoded(noise(), "JPEG"))
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
    larger = frame[:5] + (65_500).to_bytes(2) * 2 + frame[9:]
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"damaged|limits are"):
            decode(bytes(data[:at] + larger + data[at:]), LIMITS)
        with pytest.raises(ImageError, match=r"damaged|limits are"):
            decode(bytes(data[:at] + frame + larger + data[at + len(frame) :]), LIMITS)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


@settings(max_examples=300)
@given(
    st.sampled_from([{"quality": 90}, {"progressive": True}, {"restart_marker_rows": 1}]),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=3)), max_size=3),
    st.integers(0, 3000),
)
def test_a_damaged_jpeg_is_refused_or_shown_as_pillow_does(
    options: dict[str, object], changes: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(encoded(noise(), "JPEG", **options))
    for at, put in changes:
        start = at % len(data)
        data[start : start + len(put)] = put
    damaged = bytes(data[: len(data) - cut % len(data)])
    try:
        expected = by_pillow(damaged)
    except Exception:
        expected = None
    small = ImageLimits(max_pixels=100_000, min_side_px=1)
    if expected is not None and expected.shape[0] * expected.shape[1] <= small.max_pixels:
        np.testing.assert_array_equal(decode(damaged, small), expected)
    else:
        try:
            pixels = decode(damaged, small)
        except ImageError:
            return
        # Nothing but the end mark was missing.
        assert not damaged.endswith(b"\xff\xd9")
        np.testing.assert_array_equal(pixels, by_pillow(damaged + b"\xff\xd9"))


def test_transparent_parts_are_white() -> None:
    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 20, 10))
    picture.putpixel((0, 19), (0, 0, 0, 51))  # black, a fifth opaque: 255 * 0.8 = 204
    pixels = decode(encoded(picture), LIMITS)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[15, 5].tolist() == [255, 255, 255]
    assert pixels[19, 0].tolist() == [204, 204, 204]


def test_a_palette_gives_its_colours() -> None:
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    assert decode(encoded(picture), LIMITS)[5, 5].tolist() == [10, 200, 30]


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    assert decode(encoded(picture, transparency=1), LIMITS)[5, 5].tolist() == [255, 255, 255]


def test_16_bit_grey_is_scaled_to_8() -> None:
    grey = np.full((20, 20), 0x8000, np.uint16)
    grey[:, 10:] = 0xFFFF
    pixels = decode(encoded(Image.fromarray(grey)), LIMITS)
    assert pixels[5, 5].tolist() == [128, 128, 128]
    assert pixels[5, 15].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 77, [77, 77, 77]), ("1", 1, [255, 255, 255]), ("LA", (77, 255), [77, 77, 77])],
)
def test_grey_becomes_rgb(mode: str, value: int, expected: list[int]) -> None:
    assert decode(encoded(Image.new(mode, (20, 20), value)), LIMITS)[5, 5].tolist() == expected


def test_cmyk_becomes_rgb() -> None:
    # Full yellow and magenta on white paper is red.
    data = encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = decode(data, LIMITS)[5, 5].tolist()
    assert red > 240
    assert green < 20
    assert blue < 20


def test_damaged_exif_does_not_spoil_a_picture() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = bytearray(encoded(RGB, "JPEG", exif=exif))
    start = data.index(b"Exif\0\0") + 6
    data[start : start + 8] = b"\xff" * 8
    assert decode(bytes(data), LIMITS).shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(encoded(RGB, "PDF"), "no JPEG, PNG or WebP", id="PDF"),
        pytest.param(b"hello, this is a text", "no JPEG, PNG or WebP", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no JPEG", id="SVG"),
        pytest.param(encoded(RGB)[:60], "damaged or truncated", id="truncated PNG"),
        pytest.param(
            solid(RED, width=300, height=300, kind="JPEG")[:-400], "damaged", id="truncated JPEG"
        ),
        pytest.param(solid(RED, kind="WEBP")[:-10], "damaged|no JPEG", id="truncated WebP"),
        pytest.param(solid(RED, width=15), "15 x 32 pixels, at least 16", id="too narrow"),
        pytest.param(solid(RED, height=1), "24 x 1 pixels, at least 16", id="too low"),
    ],
)
def test_what_is_no_usable_picture_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        decode(data, LIMITS)


def test_a_file_with_too_many_bytes_is_refused_whatever_it_holds() -> None:
    data = solid(RED)
    decode(data, ImageLimits(max_bytes=len(data)))
    with pytest.raises(ImageError, match=r"has 1,001 bytes, the limit is 1,000"):
        decode(b"x" * 1001, ImageLimits(max_bytes=1000))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_header(20_000, 20_000), id="PNG of 400 megapixels"),
        pytest.param(png_header(2**31 - 1, 2**31 - 1), id="PNG of 4 exapixels"),
        pytest.param(png_header(32_768, 16), id="PNG with a side too long"),
        pytest.param(webp_header(b"VP8X", 2**24, 2**24), id="extended WebP"),
        pytest.param(webp_header(b"VP8L", 16_384, 16_384), id="lossless WebP"),
        pytest.param(webp_header(b"VP8 ", 16_383, 16_383), id="lossy WebP"),
    ],
)
def test_a_decompression_bomb_is_refused_before_memory_is_taken(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="pixels, the limits are"):
            decode(data, LIMITS)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_jpeg_of_too_many_scans_is_refused_before_any_is_decoded() -> None:
    # At 25 megapixels each takes 30 ms and 75 bytes; here there are ten of the encoder's own.
    decode(many_scans(22, side_px=64), LIMITS)
    with pytest.raises(ImageError, match="more than 32 scans"):
        decode(many_scans(23, side_px=64), LIMITS)


def test_the_pixel_limit_is_exact() -> None:
    data = solid(RED, width=20, height=30)
    decode(data, ImageLimits(max_pixels=600))
    with pytest.raises(ImageError, match="20 x 30 pixels, the limits are 599 in all"):
        decode(data, ImageLimits(max_pixels=599))


def test_limits_below_one_cannot_be_set() -> None:
    with pytest.raises(ValueError, match=">= 1"):
        ImageLimits(max_bytes=0)


def only_image_errors(data: bytes) -> None:
    message = ""
    try:
        assert decode(data, ImageLimits(max_pixels=100_000)).shape[2] == 3
    except ImageError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 300


@settings(max_examples=200)
@given(st.binary(max_size=300))
@example(b"\xff\xd8\xff")
@example(b"\x89PNG\r\n\x1a\n")
@example(b"RIFF\x10\0\0\0WEBPVP8X")
@example(b"RIFF\0\0\0\0WEBP")
def test_arbitrary_bytes_raise_nothing_but_image_errors(data: bytes) -> None:
    only_image_errors(data)


def valid_files() -> list[bytes]:
    exif = Image.Exif()
    exif[274] = 6
    exif[0x010E] = "a description"
    rgba = Image.new("RGBA", (20, 20), (9, 8, 7, 100))
    return [
        encoded(RGB, "JPEG", exif=exif),
        encoded(RGB, "JPEG", progressive=True),
        encoded(Image.new("CMYK", (20, 20)), "JPEG"),
        encoded(RGB, exif=exif),
        encoded(rgba),
        encoded(Image.new("P", (20, 20)), transparency=0),
        encoded(Image.new("I;16", (20, 20))),
        encoded(RGB, "WEBP", exif=exif),
        encoded(rgba, "WEBP", lossless=True),
        encoded(RGB, save_all=True, append_images=[Image.new("RGB", (20, 30))]),
    ]


@settings(max_examples=400)
@given(
    st.sampled_from(valid_files()),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=6)), max_size=5),
    st.integers(0, 2000),
)
def test_damaged_files_raise_nothing_but_image_errors(
    data: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    damaged = bytearray(data)
    for at, put in changes:
        start = at % len(damaged)
        damaged[start : start + len(put)] = put
    only_image_errors(bytes(damaged[: len(damaged) - cut % len(damaged)]))


def test_damaged_metadata_is_nothing_that_a_server_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    # One tag of a million bytes, of which there are none.
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x010E, 2, 1_000_000, 8)
    data = encoded(RGB, "JPEG", exif=exif)
    monkeypatch.setattr("sys.argv", ["pagesight-server", "--help"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        decode(data, LIMITS)
        assert told != []
        told.clear()
        with pytest.raises(SystemExit):
            main()
        decode(data, LIMITS)
    assert told == []


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    # Sparse: it could not be read into this memory.
    file = tmp_path / "huge.png"
    with file.open("wb") as huge:
        huge.truncate(2**40)
    with pytest.raises(ImageError, match="1,099,511,627,776 bytes, the limit is 16,777,216"):
        read_file(file, LIMITS)


def test_a_file_that_is_not_there_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        read_file(tmp_path / "none.png", LIMITS)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(solid(RED))
    assert read_file(file, LIMITS) == solid(RED)


def test_the_first_frame_of_a_moving_picture_counts() -> None:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(buffer.getvalue(), LIMITS)[5, 5].tolist() == [255, 0, 0]
