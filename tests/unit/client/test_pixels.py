"""Pictures held in memory become PNG files with the same pixels."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pagesight._requests import read_image


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
