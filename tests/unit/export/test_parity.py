"""The parity figures, worked out by hand, and what they let through."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pagesight_export import parity
from pagesight_export.parity import Parity

GOOD = Parity(
    pictures=72,
    median_cosine_of_pairs=0.5,
    cosine_min=0.99999,
    cosine_mean=0.99999,
    max_abs_difference=1e-4,
    max_error_over_median_distance=1e-4,
    top1_agreement=1.0,
)


def on_circle(*degrees: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    turns = np.radians(degrees)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


def test_the_figures_are_those_of_three_points_on_a_circle() -> None:
    # Pairs 60, 90 and 30 degrees apart: the median is 60, cosine 0.5, distance 1.
    source = on_circle(0, 60, 90)
    # The third is off by 2 degrees: cosine cos 2, distance 2 sin 1.
    found = parity.measure(source, on_circle(0, 60, 92))

    assert found.pictures == 3
    assert found.median_cosine_of_pairs == pytest.approx(0.5, abs=1e-6)
    assert found.cosine_min == pytest.approx(math.cos(math.radians(2)), abs=1e-6)
    assert found.cosine_mean == pytest.approx((2 + math.cos(math.radians(2))) / 3, abs=1e-6)
    assert found.max_error_over_median_distance == pytest.approx(2 * math.sin(math.radians(1)))
    assert found.max_abs_difference == pytest.approx(math.sin(math.radians(2)), abs=1e-6)
    assert found.top1_agreement == 1
    assert found.spread


def test_a_picture_whose_nearest_other_changes_lowers_the_agreement() -> None:
    # The middle one is nearest to the third before and to the first after; the others keep it.
    found = parity.measure(on_circle(0, 46, 90), on_circle(0, 44, 90))

    assert found.top1_agreement == pytest.approx(2 / 3)


def test_embeddings_that_are_all_alike_are_not_called_spread() -> None:
    found = parity.measure(on_circle(0, 1, 2, 3), on_circle(0, 1, 2, 3))

    assert not found.spread
    assert found.to_json()["spread"] is False


@pytest.mark.parametrize(
    ("dtype", "changes", "complaint"),
    [
        pytest.param("float32", {}, None, id="fp32 as good as the source"),
        pytest.param("float32", {"cosine_min": 0.9998}, "0.999800", id="fp32 below 0.9999"),
        pytest.param("float16", {"cosine_min": 0.9991}, None, id="fp16 above 0.999"),
        pytest.param("float16", {"cosine_min": 0.9989}, "0.998900", id="fp16 below 0.999"),
        pytest.param(
            "float16", {"max_error_over_median_distance": 0.03}, "0.0300", id="fp16 among likes"
        ),
        pytest.param("int8", {"cosine_min": 0.991}, None, id="int8 above 0.99"),
        pytest.param("int8", {"cosine_min": 0.989}, "0.989", id="int8 below 0.99"),
        pytest.param("int8", {"max_error_over_median_distance": 0.3}, None, id="int8 is coarse"),
        pytest.param("float16", {"cosine_min": math.nan}, "nan", id="not a number"),
    ],
)
def test_what_an_export_must_reach(
    dtype: str, changes: dict[str, float], complaint: str | None
) -> None:
    failures = replace(GOOD, **changes).failures(dtype)  # type: ignore[arg-type]

    assert bool(failures) == (complaint is not None)
    assert complaint is None or complaint in failures[0]


def test_embeddings_of_another_number_of_pictures_are_no_parity() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        parity.measure(on_circle(0, 1, 2), on_circle(0, 1))
