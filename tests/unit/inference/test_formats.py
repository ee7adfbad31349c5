"""Formats beside JPEG, PNG and WebP: off unless they are asked for, and behind the same limits."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pagesight_server.common.errors import ImageError
from pagesight_server.inference import formats
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import Format, ImageLimits
from tests.support.pictures import encoded

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

EVERY: tuple[Format, ...] = ("jpeg", "png", "webp", "avif", "bmp", "gif", "heif", "tiff")
LIMITS = ImageLimits(formats=EVERY)

LEFT_RED = np.zeros((32, 48, 3), np.uint8)
"""48 wide and 32 high: the left half red, the right half blue."""
LEFT_RED[:, :24, 0] = 200
LEFT_RED[:, 24:, 2] = 200
PICTURE = Image.fromarray(LEFT_RED)

# ISO/IEC 23008-12: the brands of a HEIC photo, as an iPhone writes them.
HEIC = b"\0\0\0\x28ftypheic\0\0\0\0mif1MiHBMiHEMiPrmiafheic" + bytes(40)


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_has_heif", lambda: False)


@pytest.fixture
def with_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_has_heif", lambda: True)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        *((encoded(PICTURE, kind), kind.lower()) for kind in ("JPEG", "PNG", "WEBP", "AVIF")),
        *((encoded(PICTURE, kind), kind.lower()) for kind in ("BMP", "GIF", "TIFF")),
        (encoded(PICTURE, "TIFF", big_tiff=True), "tiff"),
        (encoded(PICTURE.convert("1"), "BMP"), "bmp"),
        (HEIC, "heif"),
        (HEIC.replace(b"ftypheic", b"ftypmif1"), "heif"),
        (HEIC.replace(b"ftypheic", b"ftypmif1").replace(b"miafheic", b"miafavif"), "avif"),
        (HEIC.replace(b"heic", b"isom").replace(b"mif1", b"mp42"), None),
        (b"BM is how this text begins, and it is long enough", None),
        (b"MM, delicious", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"", None),
        (b"\0\0\0\x08ftyp", None),
    ],
)
def test_a_format_is_known_by_its_first_bytes(data: bytes, name: str | None) -> None:
    assert formats.format_of(data) == name


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize(
    ("data", "called"),
    [
        (HEIC, "HEIC"),
        *((encoded(PICTURE, kind), kind) for kind in ("AVIF", "BMP", "GIF", "TIFF")),
    ],
    ids=["HEIC", "AVIF", "BMP", "GIF", "TIFF"],
)
def test_what_is_off_says_what_to_do(data: bytes, called: str) -> None:
    with pytest.raises(
        ImageError,
        match=rf"the picture is {called}, which this server does not read: save it as JPEG or PNG"
        r"\. Its operator can switch it on: install `pagesight\[heif\]`$",
    ):
        decode(data, ImageLimits())


def test_what_settings_leave_out_says_what_to_do() -> None:
    only_png = ImageLimits(formats=("png",))
    decode(encoded(PICTURE), only_png)
    for kind in ("JPEG", "WEBP", "GIF"):
        with pytest.raises(ImageError, match=rf'add "{kind.lower()}" to image\.formats'):
            decode(encoded(PICTURE, kind), only_png)


@pytest.mark.usefixtures("without_heif")
def test_heic_without_its_wheel_says_so_though_it_is_switched_on() -> None:
    with pytest.raises(ImageError, match=r"HEIC, .*install `pagesight\[heif\]`"):
        decode(HEIC, LIMITS)


@pytest.mark.usefixtures("with_heif")
@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "TIFF"])
def test_all_are_on_with_the_extra(kind: str) -> None:
    pixels = decode(encoded(PICTURE, kind), ImageLimits())
    assert pixels.shape == LEFT_RED.shape
    assert np.abs(pixels[16, 5].astype(int) - (200, 0, 0)).max() <= 3  # AVIF rounds


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF"])
def test_every_mode_gives_the_pixels_that_it_has(kind: str, mode: str) -> None:
    picture = PICTURE.convert(mode)
    data = encoded(picture, kind)
    expected = picture.quantize() if kind == "GIF" and mode == "RGB" else picture
    np.testing.assert_array_equal(decode(data, LIMITS), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "AVIF"])
def test_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), (value, 0, 0)) for value in (200, 20, 90)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert abs(int(decode(data, LIMITS)[5, 5, 0]) - 200) <= 3


def test_what_is_transparent_in_a_gif_is_white_and_under_light_ink_black() -> None:
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([99, 99, 99, 0, 0, 0, 255, 255, 255])
    picture.paste(1, (8, 8, 16, 16))
    assert decode(encoded(picture, "GIF", transparency=0), LIMITS)[0, 0].tolist() == [255] * 3
    picture.paste(2, (8, 8, 16, 16))
    assert decode(encoded(picture, "GIF", transparency=0), LIMITS)[0, 0].tolist() == [0] * 3


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("orientation", "row", "column"),
    [(1, 16, 5), (3, 16, 43), (6, 5, 16), (8, 43, 16)],
)
def test_they_are_turned_upright(kind: str, orientation: int, row: int, column: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    pixels = decode(encoded(PICTURE, kind, exif=exif), LIMITS)
    assert pixels.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    red, _, blue = pixels[row, column].tolist()
    assert red > 150
    assert blue < 60


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_is_read_in_every_compression_that_costs_no_more_than_its_pixels(
    compression: str,
) -> None:
    data = encoded(PICTURE, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode(data, LIMITS), LEFT_RED)


def test_a_tiff_of_jpegs_is_refused() -> None:
    with pytest.raises(ImageError, match="a TIFF compressed as jpeg: save it as PNG or JPEG"):
        decode(encoded(PICTURE, "TIFF", compression="jpeg"), LIMITS)


def tiled_tiff(tile_px: int) -> bytes:
    """A TIFF of 32 x 32 grey pixels that says it is of larger tiles (TIFF 6.0, section 15)."""
    tags = [
        *((256, 4, 32), (257, 4, 32), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)),
        *((322, 4, tile_px), (323, 4, tile_px), (324, 4, 8), (325, 4, 4)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IIH", 12, 0, len(tags)) + entries + bytes(4)


def test_a_tiff_of_tiles_that_are_larger_than_any_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="a TIFF of too large tiles"):
        decode(tiled_tiff(32_768), LIMITS)


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "TIFF"])
def test_limits_are_the_same(kind: str) -> None:
    data = encoded(PICTURE, kind)
    small = ImageLimits(formats=EVERY, max_pixels=48 * 32 - 1)
    with pytest.raises(ImageError, match="48 x 32 pixels, the limits are 1,535 in all"):
        decode(data, small)
    with pytest.raises(ImageError, match="truncated"):
        decode(data[: len(data) // 2], LIMITS)


@settings(max_examples=300)
@given(
    st.sampled_from([encoded(PICTURE, kind) for kind in ("AVIF", "BMP", "GIF", "TIFF")]),
    st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4)), max_size=4),
    st.integers(0, 400),
)
def test_damaged_files_raise_nothing_but_image_errors(
    data: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    damaged = bytearray(data)
    for at, put in changes:
        start = at % len(damaged)
        damaged[start : start + len(put)] = put
    with contextlib.suppress(ImageError):
        decode(bytes(damaged[: len(damaged) - cut]), ImageLimits(formats=EVERY, max_pixels=100_000))


# --- HEIC itself, where its wheel is installed ---------------------------------------------------


def heic(picture: Image.Image, **options: Any) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, "HEIF", quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("orientation", "shape", "row", "column"),
    [(1, (32, 48, 3), 16, 5), (3, (32, 48, 3), 16, 43), (6, (48, 32, 3), 5, 16)],
)
def test_a_heic_photo_is_read_and_turned_upright(
    orientation: int, shape: tuple[int, ...], row: int, column: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    pixels = decode(heic(PICTURE, exif=exif.tobytes()), ImageLimits())
    assert pixels.shape == shape
    red, _, blue = pixels[row, column].tolist()
    assert red > 150
    assert blue < 60


def test_the_limits_of_a_heic_photo_are_the_same() -> None:
    data = heic(PICTURE)
    with pytest.raises(ImageError, match="48 x 32 pixels, the limits are 999 in all"):
        decode(data, ImageLimits(max_pixels=999))
    with pytest.raises(ImageError, match="truncated"):
        decode(data[:-30], ImageLimits())
