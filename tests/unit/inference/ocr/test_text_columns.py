"""The text that one picture may have is counted before any of its lines is scaled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError
from pagesight_server.inference.bundle import Bundle, Tensors
from pagesight_server.inference.bundle import load as load_bundle
from pagesight_server.inference.ocr import OcrEngine, OcrSettings, detector
from pagesight_server.inference.ocr.detector import Detector, TextColumns
from pagesight_server.inference.ocr.engine import owned
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import LibraryNumbers
from pagesight_server.inference.ocr.tiling import Region, cut
from pagesight_server.inference.settings import Compute, ImageLimits
from pagesight_server.text.reading import Box
from tests.samples.fonts import face

SIDE_PX = 736
"""The canvas of a picture of this size is the picture."""


class DrawnLines:
    """A detection network that finds lines where the picture is black."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"probability": (inputs["pixels"][:, None, :, :, 0] == 0).astype(np.float32)}


@pytest.fixture(scope="module")
def bundle(bundles: Path) -> Bundle:
    return load_bundle(bundles / "ocr", "ocr")


@pytest.fixture
def finder(bundle: Bundle) -> Detector:
    return Detector(bundle, Compute(), max_enlarged_px=10**6, graph=DrawnLines())


def small_print(lines: int) -> Pixels:
    """Lines of 8 pixels height and 600 pixels width, 20 pixels apart."""
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8)
    for line in range(lines):
        pixels[20 * line + 10 : 20 * line + 18, 50:650] = 0
    return pixels


def test_columns_are_those_of_the_strips(finder: Detector) -> None:
    regions = finder.find(small_print(30))
    columns = sum(region.strip.shape[1] for region in regions)
    assert len(regions) == 30
    assert len(finder.find(small_print(30), TextColumns(columns))) == 30
    with pytest.raises(ImageError, match=rf"than {columns - 1:,} pixels.*: send it in parts$"):
        finder.find(small_print(30), TextColumns(columns - 1))


def test_too_much_text_is_refused_before_any_of_it_is_scaled(
    finder: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    scaled = detector.scaled

    def counted(crop: Pixels, height_px: int) -> Pixels:
        made.append(height_px)
        return scaled(crop, height_px)

    monkeypatch.setattr(detector, "scaled", counted)
    with pytest.raises(ImageError):
        finder.find(small_print(30), TextColumns(10_000))
    assert made == []
    assert len(finder.find(small_print(1), TextColumns(10_000))) == len(made) == 1


class OneLineEach:
    """Finds one line of 100 columns in each picture or band."""

    def find(self, pixels: Pixels, columns: TextColumns) -> list[Region]:
        columns.take([100])
        top = len(pixels) // 2
        return [Region.of(Box(0, top, 9, top + 1), np.zeros((48, 100, 3), np.uint8))]


class CountingReader:
    """Reads nothing in the strips that it is given, and counts them."""

    def __init__(self) -> None:
        self.lines = 0

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        self.lines += len(strips)
        return [Text("", 0.0) for _ in strips]


def engine(reader: CountingReader, *, most: int) -> OcrEngine:
    return OcrEngine(
        owned([OneLineEach()], name="test"),
        [owned([reader], name="test")],
        OcrSettings(max_text_columns=most),
        LibraryNumbers(longest_px=200),
    )


async def test_the_bands_of_a_picture_share_its_columns_and_pictures_do_not() -> None:
    reader, three_bands = CountingReader(), np.zeros((500, 32, 3), np.uint8)
    ours = engine(reader, most=299)
    with pytest.raises(ImageError, match="than 299 pixels"):
        await ours.read(three_bands)
    assert reader.lines == 0
    await ours.close()
    ours = engine(reader, most=300)
    await ours.read(three_bands)
    await ours.read(three_bands)
    assert reader.lines > 0
    await ours.close()


@pytest.mark.heavy
@pytest.mark.parametrize("width_px", [720, 1080])
def test_a_wall_of_text_as_long_as_a_picture_may_be_is_read(bundle: Bundle, width_px: int) -> None:
    limits, settings, library = ImageLimits(), OcrSettings(), LibraryNumbers()
    height_px = min(limits.max_side_px, limits.max_pixels // width_px)
    bands = cut(
        height_px,
        width_px,
        longest_px=library.longest_px,
        narrowest_px=settings.narrowest_px,
    )
    pixels = wall_of_text(width_px, bands[0].bottom)
    regions = Detector(bundle, Compute(), max_enlarged_px=settings.max_enlarged_px).find(pixels)
    columns = len(bands) * sum(region.strip.shape[1] for region in regions)
    assert len(regions) > 30
    assert columns <= settings.max_text_columns, f"{columns:,}"


def wall_of_text(width_px: int, height_px: int) -> Pixels:
    """Lines of the usual 14 sp from edge to edge, as phones of 360 dp width show them."""
    dp = width_px / 360
    font, words = face(round(14 * dp)), "The quick brown fox jumps over the lazy dog. " * 9
    fits = next(n for n in range(len(words)) if font.length(words[:n]) > (360 - 2 * 16) * dp)
    shown = Image.new("RGB", (width_px, height_px), "white")
    for baseline in range(round(16 * dp), height_px, round(21 * dp)):
        font.draw(ImageDraw.Draw(shown), (16 * dp, baseline), words[:fits], (0, 0, 0))
    return np.asarray(shown)
