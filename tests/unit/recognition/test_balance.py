"""How much looks count against text: moved by the gallery's own pictures, and little by few."""

from __future__ import annotations

import numpy as np
import pytest

from pagesight_server.recognition.balance import MIN_PICTURES, PRIOR, Floats, fit_looks_share

PRIOR_SHARE = 0.6  # 12 of 12 + 8
RNG = np.random.Generator(np.random.PCG64(5))


def pictures(count: int, *, looks: float, text: float) -> tuple[list[Floats], list[int]]:
    """Left-out pictures of five labels, the own one ahead by so much in looks and in text."""
    evidence, own = [], []
    for number in range(count):
        features = RNG.uniform(0.2, 0.4, (5, 3))
        features[number % 5] += (looks, text, 0.0)
        evidence.append(features)
        own.append(number % 5)
    return evidence, own


def test_before_there_are_pictures_enough_the_published_share_stands() -> None:
    evidence, own = pictures(MIN_PICTURES - 1, looks=0.5, text=0.0)
    assert fit_looks_share(evidence, own) == pytest.approx(PRIOR_SHARE)
    assert PRIOR[0] / (PRIOR[0] + PRIOR[1]) == pytest.approx(PRIOR_SHARE)


@pytest.mark.parametrize(
    ("looks", "text", "more_looks"),
    [
        pytest.param(0.3, 0.0, True, id="text says nothing: many languages"),
        pytest.param(0.0, 0.3, False, id="looks say nothing: one app's pages"),
    ],
)
def test_what_tells_the_gallerys_own_pages_counts_more(
    looks: float, text: float, more_looks: bool
) -> None:
    share = fit_looks_share(*pictures(100, looks=looks, text=text))
    assert (share > PRIOR_SHARE + 0.05) if more_looks else (share < PRIOR_SHARE - 0.05)


def test_more_pictures_move_the_share_farther_from_the_prior() -> None:
    few = fit_looks_share(*pictures(MIN_PICTURES, looks=0.3, text=0.0))
    many = fit_looks_share(*pictures(10 * MIN_PICTURES, looks=0.3, text=0.0))
    assert PRIOR_SHARE < few < many < 1.0


def test_evidence_that_misleads_is_never_held_against_a_page() -> None:
    share = fit_looks_share(*pictures(200, looks=0.3, text=-0.3))
    assert 0.9 < share <= 1.0
