"""The rotation before one-bit codes: it keeps angles, spreads what is strong, and never changes."""

from __future__ import annotations

import numpy as np
import pytest

from pagesight_server.index.cosines import unit
from pagesight_server.index.rotation import rotated


@pytest.mark.parametrize("dimension", [1, 2, 3, 7, 16, 100, 1152, 1664])
def test_inner_products_stay_as_they_are(dimension: int) -> None:
    vectors = unit(np.random.default_rng(1).standard_normal((9, dimension), np.float32))
    before = vectors.copy()
    turned = rotated(vectors)
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-5)
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("dimension", [16, 100, 1152, 1664])
def test_a_vector_of_one_coordinate_is_spread_over_all(dimension: int) -> None:
    turned = rotated(np.eye(dimension, dtype=np.float32))
    # A random direction's greatest coordinate is about sqrt(2 ln d / d).
    limit = 2 * (2 * np.log(dimension) / dimension) ** 0.5
    assert np.abs(turned).max(axis=1).mean() < limit


def test_it_is_the_one_that_codes_on_disk_were_made_with() -> None:
    # SHAKE-256 of "pagesight rotation 1" begins with the bits 11 01 01 01 of four bytes: the signs
    # of two coordinates in each pass, which are then added and subtracted, over the root of two.
    expected = [[-0.1464, -0.25, -0.9571], [-0.8536, -0.4571, 0.25], [0.5, -0.8536, 0.1464]]
    np.testing.assert_allclose(rotated(np.eye(3, dtype=np.float32)), expected, atol=1e-4)
