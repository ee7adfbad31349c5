"""What happens to screenshots on their way changes neither the answer nor, by much, its score.

The real models and drawn pages; `tests.support.alterations` has the list and the amounts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples import DEMO_LABELS, LABELS
from tests.support.alterations import ALTERATIONS, Outcome, Shown, drawn_page, outcomes

GALLERY = 3
"""Pictures of each page: as many as a page begins with."""

PAGE_SEED = 9_001
"""Of the pages that are asked for; the gallery's seed is 0, so that no user is in both."""

ROUNDING = 1e-6
"""Of sums of 32-bit numbers."""


def moved(outcome: Outcome) -> float:
    """By how much the score moved."""
    return abs(outcome.after.score - outcome.before.score)


def amount(outcome: Outcome) -> float:
    """By how much the score may move."""
    return sum(ALTERATIONS[name].moves for name in outcome.alterations)


@pytest.fixture(scope="module")
def short(bundles: Path) -> list[Outcome]:
    """Two pages under every alteration: an amount, told by few words, and a form."""
    tries = [
        (drawn_page(label, PAGE_SEED), [(name,) for name in ALTERATIONS])
        for label in ("dyfxj_amount", "dxm_user_info")
    ]
    return asyncio.run(outcomes(bundles, DEMO_LABELS, GALLERY, tries))


@pytest.mark.heavy
@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_screenshot_is_answered_as_before(name: str, short: list[Outcome]) -> None:
    for outcome in short:
        if outcome.alterations == (name,):
            assert outcome.before.label == outcome.label
            assert outcome.after.label == outcome.label
            assert moved(outcome) <= ALTERATIONS[name].moves + ROUNDING


@pytest.mark.slow
def test_every_page_is_answered_as_before_under_alterations_and_combinations(
    bundles: Path,
) -> None:
    chance = random.Random(14)

    def tries() -> Iterator[tuple[Shown, list[tuple[str, ...]]]]:
        names = list(ALTERATIONS)
        for label in LABELS:
            combinations = [
                # Sorted as the table is: what happens first stands first.
                tuple(sorted(chance.sample(names, count), key=names.index))
                for count in (2, 2, 3)
            ]
            yield drawn_page(label, PAGE_SEED), [*((name,) for name in names), *combinations]

    made = asyncio.run(outcomes(bundles, LABELS, GALLERY, tries()))
    turned = [
        (outcome.label, outcome.alterations, outcome.after.closest_label)
        for outcome in made
        if outcome.after.closest_label != outcome.before.closest_label
    ]
    rejected = [
        (outcome.label, outcome.alterations, outcome.after.score, outcome.after.threshold)
        for outcome in made
        # Of several at once the score may fall by the sum, which is more than there is to lose.
        if len(outcome.alterations) == 1 and outcome.after.label != outcome.before.label
    ]
    farther = [
        (outcome.label, outcome.alterations, moved(outcome))
        for outcome in made
        if moved(outcome) > amount(outcome) + ROUNDING
    ]
    assert (turned, rejected, farther) == ([], [], [])
