"""Resizing, held against Pillow's: what manifests name, and what galleries were made with."""

from __future__ import annotations

import platform
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL import __version__ as pillow_version

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference import resize
from pagesight_server.inference.resize import bilinear, opencv, pillow, resizing

BILINEAR = {"library": "pillow", "interpolation": "bilinear"}

by_cykooz = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="cykooz.resizer is installed on Linux on x86-64 alone",
)


def noise(height: int, width: int, *, extreme: bool = False) -> Pixels:
    """The hardest picture to resample alike: no two pixels are related."""
    pixels = np.random.default_rng(height * 10_007 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return np.where(pixels > 127, np.uint8(255), np.uint8(0)) if extreme else pixels


def assert_alike(picture: Pixels, height: int, width: int) -> None:
    """Holds ours to Pillow's: one level apart, two in some values of a million."""
    ours, theirs = (of(picture, height, width) for of in (bilinear, pillow("bilinear")))
    assert ours.shape == theirs.shape == (height, width, 3)
    assert ours.dtype == np.uint8
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.max() <= 2
    assert np.sum(apart > 1) <= 1 + apart.size // 50_000


@by_cykooz
@given(
    size=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    to=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    extreme=st.booleans(),
)
@settings(max_examples=60)
def test_bilinear_is_pillows_but_for_rounding(
    size: tuple[int, int], to: tuple[int, int], extreme: bool
) -> None:
    assert_alike(noise(*size, extreme=extreme), *to)


@by_cykooz
@pytest.mark.parametrize(
    ("size", "to"),
    [
        pytest.param((2400, 1080), (752, 336), id="a phone"),
        pytest.param((1080, 2400), (336, 752), id="a phone on its side"),
        pytest.param((8000, 1080), (1376, 192), id="a long scroll"),
        pytest.param((1, 1), (512, 512), id="one pixel"),
        pytest.param((1, 9000), (16, 4096), id="one row"),
        pytest.param((9000, 1), (4096, 16), id="one column"),
        pytest.param((3, 300_000), (16, 4096), id="a ribbon on its side"),
        pytest.param((300_000, 3), (4096, 16), id="a ribbon"),
        pytest.param((30, 40), (448, 576), id="enlarged"),
        pytest.param((640, 640), (512, 512), id="five to four, where some are two levels apart"),
        pytest.param((640, 320), (640, 160), id="narrower alone"),
        pytest.param((640, 320), (160, 320), id="lower alone"),
        pytest.param((640, 320), (640, 320), id="as it is"),
    ],
)
def test_bilinear_is_pillows_but_for_rounding_for_all_shapes(
    size: tuple[int, int], to: tuple[int, int]
) -> None:
    assert_alike(noise(*size), *to)


@by_cykooz
def test_screenshots_are_resized_as_by_pillow_nearly_to_the_byte() -> None:
    """Measured: 4 values of 10,000 differ on drawn pages."""
    page = np.full((2400, 1080, 3), 245, np.uint8)
    for line in range(40):
        cv2.putText(page, f"Balance {line:04}", (40, 60 + 58 * line), 0, 1.6, (20, 20, 60), 3)
    ours, theirs = bilinear(page, 752, 336), pillow("bilinear")(page, 752, 336)
    assert np.mean(ours != theirs) < 0.002
    assert theirs.std() > 20, "the page was meant to show something"


@by_cykooz
def test_threads_resize_at_the_same_time() -> None:
    """Its thread pool is the thread's that imported it, which must not be waited for."""
    pictures = [noise(900 + number, 500) for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        resized = list(threads.map(lambda picture: bilinear(picture, 300, 160), pictures))
    for picture, one in zip(pictures, resized, strict=True):
        np.testing.assert_array_equal(one, bilinear(picture, 300, 160))


@by_cykooz
def test_a_view_of_a_picture_is_resized_like_its_copy() -> None:
    picture = noise(400, 300)[10:390:2, ::-1]
    np.testing.assert_array_equal(
        bilinear(picture, 100, 90), bilinear(np.ascontiguousarray(picture), 100, 90)
    )


@by_cykooz
def test_bilinear_is_resized_by_cykooz_where_it_is_installed() -> None:
    by = resizing(BILINEAR)
    assert by is not None
    assert by.resize is bilinear
    assert re.fullmatch(r"cykooz\.resizer \d+\.\d+\.\d+, (avx2|sse4_1|none)", by.library)


def test_bilinear_is_resized_by_pillow_where_cykooz_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resize, "cykooz", None)
    by = resizing(BILINEAR)
    assert by is not None
    assert by.library == f"Pillow {pillow_version}"
    picture = noise(60, 40)
    wanted = Image.fromarray(picture).resize((20, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(by.resize(picture, 30, 20), np.asarray(wanted))


@pytest.mark.parametrize(
    ("interpolation", "kernel"),
    [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)],
)
def test_filters_with_negative_weights_are_left_to_pillow(
    interpolation: str, kernel: Image.Resampling
) -> None:
    by = resizing({"library": "pillow", "interpolation": interpolation})
    assert by is not None
    assert by.library == f"Pillow {pillow_version}"
    picture = noise(60, 40)
    wanted = np.asarray(Image.fromarray(picture).resize((20, 30), kernel))
    np.testing.assert_array_equal(by.resize(picture, 30, 20), wanted)


def test_opencvs_are_opencvs() -> None:
    by = resizing({"library": "opencv", "interpolation": "area"})
    assert by is not None
    assert by.library == f"OpenCV {cv2.__version__}"
    picture = noise(60, 40)
    wanted = cv2.resize(picture, (20, 30), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(by.resize(picture, 30, 20), wanted)
    np.testing.assert_array_equal(opencv("area")(picture, 30, 20), wanted)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(None, id="nothing"),
        pytest.param({}, id="no library"),
        pytest.param({"library": "magic", "interpolation": "bilinear"}, id="another library"),
        pytest.param({"library": "pillow", "interpolation": "area"}, id="another interpolation"),
    ],
)
def test_what_is_unknown_is_not_guessed(how: dict[str, str] | None) -> None:
    assert resizing(how) is None
