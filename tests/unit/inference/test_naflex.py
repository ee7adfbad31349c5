"""NaFlex preprocessing: grids worked out by hand, patches in the order that the format names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pagesight_export import feeds
from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.naflex import Naflex, grid


def bilinear(picture: Pixels, height: int, width: int) -> Pixels:
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "limit", "expected"),
    [
        # Scale 256 * 16 / side each way: a square fills 16 x 16 exactly.
        pytest.param(512, 512, 256, (16, 16), id="square"),
        # 23 rows hold up to scale 23 * 16 / 2400 = 0.1533, where the width is 10.35 columns:
        # 11. Beyond, 24 x 11 = 264 is more than 256.
        pytest.param(2400, 1080, 256, (23, 11), id="phone"),
        pytest.param(2400, 1080, 1024, (47, 21), id="phone, finer"),
        # 42 rows up to scale 0.0840, where the width is 5.67 columns: 6. 43 x 6 = 258 is more.
        pytest.param(8000, 1080, 256, (42, 6), id="long scroll"),
        # 18 columns up to scale 7.2, where the height is 13.5 rows: 14. 14 x 19 = 266 is more.
        pytest.param(30, 40, 256, (14, 18), id="a thumbnail is enlarged"),
        pytest.param(1, 4000, 256, (1, 256), id="a line"),
        pytest.param(4000, 1, 16, (16, 1), id="a column"),
    ],
)
def test_a_picture_gets_the_finest_grid_of_its_shape(
    height: int, width: int, limit: int, expected: tuple[int, int]
) -> None:
    assert grid(height, width, patch_size=16, max_num_patches=limit) == expected


@given(
    height=st.integers(1, 9000), width=st.integers(1, 9000), limit=st.sampled_from([16, 256, 1024])
)
@settings(max_examples=300)
def test_no_grid_is_beyond_the_limit_or_far_below_it(height: int, width: int, limit: int) -> None:
    rows, columns = grid(height, width, patch_size=16, max_num_patches=limit)

    assert 1 <= rows * columns <= limit
    # One more on either side would be too many, unless the picture is at its largest scale.
    largest = max(height, width) * 100 / 16
    assert (rows + 1) * (columns + 1) > limit or max(rows, columns) >= largest - 1


def test_patches_are_rows_of_the_grid_and_pixels_are_rows_of_the_patch() -> None:
    # 2 x 3 patches of 2 x 2 pixels, each pixel numbered; nothing is resized.
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    naflex = Naflex(patch_size=2, max_num_patches=6, resize=lambda p, height, width: p)

    found = naflex([picture])

    assert found["shapes"].tolist() == [[2, 3]]
    assert found["patches"].shape == (1, 6, 12)
    # The second patch begins at column 2: bytes 6..11 of row 0, then of row 1 (18 bytes on).
    assert found["patches"][0, 1].tolist() == [*range(6, 12), *range(24, 30)]
    # The fourth is the first of the lower row: rows 2 and 3, columns 0 and 1.
    assert found["patches"][0, 3].tolist() == [*range(36, 42), *range(54, 60)]


def test_a_batch_of_mixed_shapes_is_padded_with_zeros_and_masked() -> None:
    white = [np.full(size, 255, dtype=np.uint8) for size in ((2400, 1080, 3), (64, 64, 3))]
    naflex = Naflex(patch_size=16, max_num_patches=256, resize=bilinear)

    found = naflex(white)

    assert found["patches"].shape == (2, 256, 768)
    assert found["patches"].dtype == np.uint8
    assert found["mask"].sum(1).tolist() == [23 * 11, 256]
    assert found["shapes"].tolist() == [[23, 11], [16, 16]]
    assert found["patches"][0, : 23 * 11].min() == 255
    assert found["patches"][0, 23 * 11 :].max() == 0


def test_a_patch_size_and_a_limit_come_from_the_manifest() -> None:
    naflex = Naflex.from_manifest({"patch_size": 14, "max_num_patches": 100}, bilinear)

    found = naflex([np.zeros((300, 300, 3), dtype=np.uint8)])

    assert found["patches"].shape == (1, 100, 14 * 14 * 3)
    assert found["shapes"].tolist() == [[10, 10]]


@given(height=st.integers(1, 700), width=st.integers(1, 700), limit=st.sampled_from([16, 64, 256]))
@settings(max_examples=40)
def test_server_and_exporter_make_the_same_bytes_of_a_picture(
    height: int, width: int, limit: int
) -> None:
    picture = np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    server = Naflex(patch_size=16, max_num_patches=limit, resize=bilinear)([picture])

    exporter = feeds.prepare(
        {"geometry": "naflex", "patch_size": 16, "max_num_patches": limit},
        {"resize": {"library": "pillow", "interpolation": "bilinear"}},
        [picture],
    )

    assert set(server) == set(exporter)
    for name, value in server.items():
        assert value.dtype == exporter[name].dtype
        assert np.array_equal(value, exporter[name]), name
