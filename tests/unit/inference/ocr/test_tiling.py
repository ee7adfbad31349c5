"""Tall pictures in bands, and lines that two bands found."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.ocr.detector import scaled
from pagesight_server.inference.ocr.tiling import OVERLAP, Band, Region, cut, join
from pagesight_server.text.reading import Box


def bands(height_px: int, width_px: int) -> list[Band]:
    return cut(height_px, width_px, longest_px=2000, narrowest_px=640)


def region(left: int, top: int, right: int, bottom: int) -> Region:
    return Region.of(Box(left, top, right, bottom), np.zeros((48, 8, 3), np.uint8))


def digest(crop: Pixels) -> bytes:
    """The digest of a line that is cut out so."""
    return Region.of(Box(0, 0, 1, 1), scaled(crop, 48), crop).digest


@pytest.mark.parametrize("height_px", [9, 30, 47, 48, 49, 90])
def test_lines_have_equal_digests_if_their_pixels_are_equal(height_px: int) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (height_px, 100, 3), dtype=np.uint8)
    other = crop.copy()
    other[height_px // 2 - 1 : height_px // 2 + 1, 50] ^= 64
    assert digest(crop) == digest(crop.copy()) == digest(np.tile(crop, (1, 2, 1))[:, 100:])
    assert digest(other) != digest(crop)


def test_lines_of_the_same_bytes_and_another_shape_have_other_digests() -> None:
    flat = np.arange(12 * 20 * 3, dtype=np.uint8)
    shapes = [(12, 20, 3), (20, 12, 3), (10, 24, 3), (24, 10, 3)]
    assert len({digest(flat.reshape(shape)) for shape in shapes}) == 4


def test_the_smaller_of_crop_and_strip_is_digested() -> None:
    box, strip = Box(0, 0, 1, 1), np.full((48, 96, 3), 7, np.uint8)
    larger, smaller = np.full((96, 192, 3), 7, np.uint8), np.full((24, 48, 3), 7, np.uint8)
    alone = Region.of(box, strip).digest
    assert alone == hashlib.sha256(b"\0\0\0\x30" + b"\x07" * strip.size).digest()
    assert Region.of(box, strip, larger).digest == alone
    expected = hashlib.sha256(b"\0\0\0\x18" + b"\x07" * smaller.size).digest()
    assert Region.of(box, strip, smaller).digest == expected


@pytest.mark.parametrize(
    ("height_px", "width_px"),
    [
        pytest.param(2400, 1080, id="a phone"),
        pytest.param(3200, 1440, id="a large phone"),
        pytest.param(1280, 720, id="a small picture"),
        pytest.param(2000, 300, id="narrow, but not shrunk"),
        pytest.param(1080, 8000, id="wide: a cut would go through lines"),
        pytest.param(16, 16, id="tiny"),
    ],
)
def test_a_usual_picture_is_looked_at_whole(height_px: int, width_px: int) -> None:
    assert bands(height_px, width_px) == [Band(0, height_px)]


def test_a_tall_picture_is_looked_at_in_bands_like_a_phone() -> None:
    found = bands(8000, 1080)
    assert found == [Band(0, 2430), Band(1857, 4287), Band(3713, 6143), Band(5570, 8000)]
    # Shrunk to 2000 pixels of height a band is 889 wide, as wide as 1080 x 2430 becomes.
    assert {band.bottom - band.top for band in found} == {2430}


@given(st.integers(16, 32767), st.integers(16, 4000))
def test_bands_cover_the_picture_and_overlap_by_more_than_a_line(
    height_px: int, width_px: int
) -> None:
    found = bands(height_px, width_px)
    assert found[0].top == 0
    assert found[-1].bottom == height_px
    for above, below in itertools.pairwise(found):
        assert above.top < below.top
        assert above.bottom - below.top >= int(OVERLAP * width_px)
        # What detection shrinks a band to is as wide as a phone's screen, or all there is.
        span = above.bottom - above.top
        assert width_px * min(1.0, 2000 / span) >= min(width_px, 640)


def test_one_band_is_returned_as_it_is() -> None:
    regions = [region(0, 0, 10, 10), region(0, 5, 10, 15)]
    assert join([(Band(0, 100), regions)]) == regions


def test_lines_of_all_bands_stand_where_they_are_in_the_picture() -> None:
    found = [(Band(0, 100), [region(1, 20, 9, 30)]), (Band(60, 160), [region(1, 70, 9, 80)])]
    assert sorted(one.box for one in join(found)) == [Box(1, 20, 9, 30), Box(1, 130, 9, 140)]


def test_a_line_that_two_bands_found_is_kept_once_where_it_is_whole() -> None:
    upper, lower = Band(0, 100), Band(60, 160)
    cut_off = region(0, 88, 50, 100)  # rows 88 to 100, ends where its band ends
    whole = region(0, 28, 50, 48)  # rows 88 to 108
    assert [one.box for one in join([(upper, [cut_off]), (lower, [whole])])] == [
        Box(0, 88, 50, 108)
    ]
    begun = region(0, 0, 50, 5)  # rows 60 to 65, the end of a line that begins above
    line = region(0, 52, 50, 65)
    assert [one.box for one in join([(upper, [line]), (lower, [begun])])] == [Box(0, 52, 50, 65)]


def test_lines_of_one_band_are_never_taken_for_each_other() -> None:
    nested = [region(0, 10, 50, 40), region(5, 15, 45, 35)]
    found = join([(Band(0, 100), nested), (Band(60, 160), [])])
    assert len(found) == 2


@given(st.lists(st.tuples(st.integers(0, 760), st.integers(5, 24)), unique_by=lambda x: x[0]))
def test_separate_lines_are_found_once_each(drawn: list[tuple[int, int]]) -> None:
    """Lines below each other, each in every band that has it whole or in part."""
    lines: list[tuple[int, int]] = []
    for top, height in sorted(drawn):
        if not lines or top >= lines[-1][1]:
            lines.append((top, top + height))
    picture = [Band(0, 300), Band(250, 550), Band(500, 800)]
    found = [
        (
            band,
            [
                region(0, max(0, top - band.top), 40, min(bottom, band.bottom) - band.top)
                for top, bottom in lines
                if top < band.bottom and bottom > band.top
            ],
        )
        for band in picture
    ]
    assert sorted((one.box.top, one.box.bottom) for one in join(found)) == [
        (top, min(bottom, 800)) for top, bottom in lines
    ]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1), st.integers(0, 60), st.integers(0, 400), st.integers(1, 40),
            st.integers(1, 120),
        ),
        max_size=25,
    )
)  # fmt: skip
def test_a_region_is_left_out_only_for_one_of_another_band_that_is_kept(
    drawn: list[tuple[int, int, int, int, int]],
) -> None:
    """Boxes of any height, over as many rows as they like."""
    picture = [Band(0, 500), Band(400, 900)]
    found: list[list[Region]] = [[], []]
    for number, left, top, width, height in drawn:
        found[number].append(region(left, top, left + width, min(500, top + height)))
    kept = join(list(zip(picture, found, strict=True)))
    boxes = [one.box for one in kept]
    for band, regions in zip(picture, found, strict=True):
        for one in regions:
            left, top, right, bottom = one.box
            box = Box(left, top + band.top, right, bottom + band.top)
            assert box in boxes or any(_most_of_the_smaller(box, other) for other in boxes)


def _most_of_the_smaller(a: Box, b: Box) -> bool:
    """Whether two boxes have more than half of the smaller one's pixels in common, counted."""
    pixels = [
        {(x, y) for x in range(box.left, box.right) for y in range(box.top, box.bottom)}
        for box in (a, b)
    ]
    return 2 * len(pixels[0] & pixels[1]) > min(map(len, pixels))
