"""Which failures are worth another attempt, and after how long."""

from __future__ import annotations

import pytest

import pagesight
from pagesight import RetryPolicy

POLICY = RetryPolicy(attempts=4, first_delay_s=0.5, longest_delay_s=1.5)
AWAY = pagesight.UnavailableError("no server")


MENDED = {
    pagesight.UnavailableError,
    pagesight.RevisionBehindError,
    pagesight.OverloadedError,
}
HOPELESS = [
    kind
    for kind in map(vars(pagesight).get, pagesight.__all__)
    if isinstance(kind, type) and issubclass(kind, pagesight.PagesightError) and kind not in MENDED
]


@pytest.mark.parametrize("kind", HOPELESS)
def test_what_cannot_succeed_is_not_repeated(kind: type[pagesight.PagesightError]) -> None:
    assert len(HOPELESS) > 10
    assert POLICY.delay_s(kind("it failed"), 1) is None


@pytest.mark.parametrize(("failures", "usual_s"), [(1, 0.5), (2, 1.0), (3, 1.5)])
def test_waits_double_up_to_the_longest_and_differ(failures: int, usual_s: float) -> None:
    waits = [POLICY.delay_s(AWAY, failures) or 0.0 for _ in range(200)]
    assert all(0.5 * usual_s <= wait <= 1.5 * usual_s for wait in waits)
    assert max(waits) - min(waits) > 0.5 * usual_s


def test_no_more_attempts_are_made_than_allowed() -> None:
    assert POLICY.delay_s(AWAY, 4) is None
    assert RetryPolicy(attempts=1).delay_s(AWAY, 1) is None


def test_the_server_says_how_long_to_wait_at_least() -> None:
    shed = pagesight.OverloadedError("full", retry_after_s=30.0)
    waits = [POLICY.delay_s(shed, 1) or 0.0 for _ in range(50)]
    assert all(30.0 <= wait <= 36.0 for wait in waits)
    assert len(set(waits)) > 1


@pytest.mark.parametrize(
    "settings",
    [{"attempts": 0}, {"first_delay_s": -1.0}, {"first_delay_s": 9.0, "longest_delay_s": 1.0}],
)
def test_a_policy_that_cannot_be_says_what_is_needed(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need attempts >= 1"):
        RetryPolicy(**settings)  # type: ignore[arg-type]
