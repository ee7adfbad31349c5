"""Pictures held in memory become PNG files with the same pixels."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pagesight import EnrolItem, InvalidImageError
from pagesight._requests import Upload, change, read_image
from pagesight.v1 import gallery_pb2 as gallery


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (7, 2, 4)])
def test_an_array_is_sent_as_the_pixels_it_holds(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(read_image(pixels))) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), pixels)


def test_a_part_of_an_array_is_sent_as_that_part() -> None:
    pixels = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    with Image.open(io.BytesIO(read_image(pixels[1:4, ::2]))) as picture:
        assert np.array_equal(np.asarray(picture), pixels[1:4, ::2])


def test_a_pil_image_is_sent_as_the_pixels_it_holds() -> None:
    image = Image.new("RGBA", (4, 3), (1, 2, 3, 4))
    with Image.open(io.BytesIO(read_image(image))) as picture:
        assert (picture.mode, picture.size, picture.getpixel((0, 0))) == (
            "RGBA",
            (4, 3),
            (1, 2, 3, 4),
        )


def opened(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    """A picture as it is after it was written to a file and opened from there."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def shown(data: bytes) -> Image.Image:
    """The picture of a file as a viewer shows it: upright."""
    with Image.open(io.BytesIO(data)) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


QUARTERS = Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 10, 3), np.uint8)).resize(
    (40, 24), Image.Resampling.NEAREST
)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_pil_image_is_sent_to_be_turned_as_its_file_is(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = opened(QUARTERS, kind, exif=exif)
    upright = ImageOps.exif_transpose(opened(QUARTERS, kind, exif=exif)).convert("RGB")
    assert np.array_equal(np.asarray(shown(read_image(image))), np.asarray(upright))


def test_of_the_exif_of_a_pil_image_only_how_it_is_turned_is_sent() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0110] = "Camera of Somebody"
    exif[0x013B] = "Somebody"
    data = read_image(opened(QUARTERS, "JPEG", exif=exif))
    assert b"Somebody" not in data
    with Image.open(io.BytesIO(data)) as picture:
        assert dict(picture.getexif()) == {0x0112: 6}


def test_a_pil_image_that_was_turned_upright_is_not_turned_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    upright = ImageOps.exif_transpose(opened(QUARTERS, "PNG", exif=exif))
    assert np.array_equal(np.asarray(shown(read_image(upright))), np.asarray(upright))


def test_a_pil_image_with_damaged_exif_is_sent_as_it_lies() -> None:
    image = QUARTERS.copy()
    image.info["exif"] = b"Exif\0\0II*\0" + b"\xff" * 40
    assert np.array_equal(np.asarray(shown(read_image(image))), np.asarray(QUARTERS))


@pytest.mark.parametrize(
    ("mode", "colour", "red"),
    [
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),  # red, by Rec. 601, rounded
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("RGBX", (255, 0, 0, 9), (255, 0, 0)),
        ("RGBa", (255, 0, 0, 255), (255, 0, 0)),
        ("La", (99, 255), (99, 99, 99)),
        ("PA", None, None),
        ("F", 99.0, (99, 99, 99)),
        ("I", 99, (99, 99, 99)),
        ("I;16", 99, None),
        ("LAB", (99, 0, 0), None),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_a_pil_image_of_any_mode_that_has_rgb_is_sent(
    mode: str, colour: float | tuple[int, ...] | None, red: tuple[int, int, int] | None
) -> None:
    image = Image.new(mode, (4, 3)) if colour is None else Image.new(mode, (4, 3), colour)
    picture = shown(read_image(image))
    assert picture.size == (4, 3)
    if red is not None:
        assert picture.getpixel((0, 0)) == red


def test_grey_of_more_than_8_bits_is_not_cut_off() -> None:
    image = Image.new("I", (4, 3), 0x1234)
    with Image.open(io.BytesIO(read_image(image))) as picture:
        assert picture.getpixel((0, 0)) == 0x1234


def test_the_profile_of_inks_is_not_sent_with_rgb() -> None:
    image = Image.new("CMYK", (4, 3))
    image.info["icc_profile"] = b"of inks"
    with Image.open(io.BytesIO(read_image(image))) as picture:
        assert "icc_profile" not in picture.info


def truncated() -> Image.Image:
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(buffer, "JPEG")
    return Image.open(io.BytesIO(buffer.getvalue()[:-3000]))


def closed() -> Image.Image:
    image = opened(QUARTERS, "PNG")
    image.close()
    return image


class Unwritable:
    """A PIL image for which nothing works, whatever its version raises."""

    mode = "RGB"
    size = (4, 3)

    def load(self) -> None:
        """Does nothing."""

    def save(self, *_: object, **__: object) -> None:
        raise RecursionError("deep inside a plugin")

    def convert(self, _mode: str) -> Unwritable:
        return self


UNUSABLE = {
    "truncated": truncated,
    "closed": closed,
    "empty": lambda: Image.new("RGB", (0, 3)),
    "unwritable": Unwritable,
}


@pytest.mark.parametrize("make", UNUSABLE.values(), ids=UNUSABLE)
def test_a_pil_image_that_cannot_be_sent_fails_alone(make: Callable[[], Any]) -> None:
    with pytest.raises(
        InvalidImageError, match=r"the PIL image cannot be sent as PNG: ."
    ) as caught:
        read_image(make())
    assert caught.value.reason == "IMAGE_UNUSABLE"
    assert "\n" not in caught.value.message
    upload = Upload(change({}))
    items = [EnrolItem(image=image, label="a") for image in (QUARTERS, make(), QUARTERS)]
    assert [upload.message(item) is None for item in items] == [False, True, False]
    added = gallery.EnrolOutcome(image_id="b", added=True)
    outcomes = upload.result(gallery.EnrolResult(revision=1, outcomes=[added, added])).outcomes
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        InvalidImageError,
        type(None),
    ]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 5), np.float32),
        np.zeros((3, 5, 2), np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros(5, np.uint8),
    ],
    ids=["floats", "two channels", "no rows", "one dimension"],
)
def test_an_array_that_is_no_picture_says_what_one_is(array: object) -> None:
    with pytest.raises(TypeError, match="uint8 of height x width"):
        read_image(array)  # type: ignore[arg-type]


def test_neither_pillow_nor_numpy_nor_opentelemetry_is_imported_for_it() -> None:
    code = (
        "import sys\n"
        "from pagesight import _requests\n"
        "_requests.query({})\n"
        "try: _requests.read_image(3.5)\n"
        "except TypeError as error: print(error)\n"
        "print({'numpy', 'PIL', 'opentelemetry'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "an image is bytes or the path of a file, not float; "
        "PIL images and numpy arrays will do, too",
        "set()",
    ], done.stderr
