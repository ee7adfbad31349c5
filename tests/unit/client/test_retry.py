"""Which failures are worth another attempt, after how long, and until when."""

from __future__ import annotations

import logging

import pytest

import pagesight
from pagesight import RetryPolicy
from pagesight._retry import Attempts, Retries

POLICY = RetryPolicy(first_delay_s=0.5, longest_delay_s=1.5)

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


class Clock:
    """Stands for the module `time`; passes when a test says so."""

    now_s = 1000.0

    def monotonic(self) -> float:
        """As of the module."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pagesight._retry.time", clock)
    return clock


def away() -> pagesight.UnavailableError:
    return pagesight.UnavailableError("no server")


def waits(attempts: Attempts, clock: Clock, failure: pagesight.PagesightError) -> list[float]:
    """What is waited between attempts that take no time, until there is to be none."""
    found = []
    while (wait_s := attempts.wait_s(failure)) is not None:
        found.append(wait_s)
        clock.now_s += wait_s
    return found


@pytest.mark.parametrize("kind", HOPELESS)
def test_what_cannot_succeed_is_not_repeated(kind: type[pagesight.PagesightError]) -> None:
    assert len(HOPELESS) > 10
    failure = kind("it failed")
    assert Attempts(Retries(POLICY, 60.0)).wait_s(failure) is None
    assert failure.message == str(failure) == "it failed"


def test_a_certificate_that_is_not_trusted_is_not_tried_again() -> None:
    failure = away()
    failure.is_final = True
    assert Attempts(Retries(POLICY, 60.0)).wait_s(failure) is None


@pytest.mark.parametrize(("failures", "usual_s"), [(1, 0.5), (2, 1.0), (3, 1.5), (5000, 1.5)])
def test_waits_double_up_to_the_longest_and_differ(failures: int, usual_s: float) -> None:
    drawn = [POLICY.delay_s(failures) for _ in range(200)]
    most_s = min(1.5 * usual_s, POLICY.longest_delay_s)
    assert all(0.5 * usual_s <= wait <= most_s for wait in drawn)
    assert max(drawn) - min(drawn) > 0.5 * (most_s - 0.5 * usual_s)


def test_attempts_begin_until_the_budget_ends_and_the_last_one_when_it_does(clock: Clock) -> None:
    failure = away()
    found = waits(Attempts(Retries(POLICY, 60.0)), clock, failure)
    assert sum(found) == pytest.approx(60.0)
    assert failure.message == f"no server; tried {len(found) + 1} times in 60 s"
    assert str(failure) == failure.message


def test_the_budget_begins_with_the_first_failure(clock: Clock) -> None:
    attempts = Attempts(Retries(POLICY, 60.0))
    clock.now_s += 600.0  # which the first attempt took
    assert attempts.wait_s(away()) is not None


def test_without_a_budget_nothing_is_repeated_nor_said() -> None:
    failure = away()
    assert Attempts(Retries(POLICY, 0.0)).wait_s(failure) is None
    assert failure.message == "no server"


def test_no_more_attempts_are_made_than_allowed(clock: Clock) -> None:
    policy = RetryPolicy(attempts=4, first_delay_s=0.5, longest_delay_s=1.5)
    assert len(waits(Attempts(Retries(policy, 60.0)), clock, away())) == 3
    once = RetryPolicy(attempts=1)
    assert Attempts(Retries(once, 60.0)).wait_s(away()) is None


def test_the_caller_has_the_last_word(clock: Clock) -> None:
    slow = RetryPolicy(first_delay_s=8.0, longest_delay_s=8.0)
    assert Attempts(Retries(slow, 60.0)).wait_s(away(), clock.now_s + 4.0) is None
    assert Attempts(Retries(slow, 60.0)).wait_s(away(), clock.now_s + 8.1) is not None


def test_the_server_says_how_long_to_wait_at_least(clock: Clock) -> None:
    shed = pagesight.OverloadedError("full", retry_after_s=30.0)
    found = [Attempts(Retries(POLICY, 60.0)).wait_s(shed) or 0.0 for _ in range(50)]
    assert all(30.0 <= wait <= 36.0 for wait in found)
    assert len(set(found)) > 1


def test_a_server_that_asks_for_more_than_the_budget_is_not_asked_again(clock: Clock) -> None:
    shed = pagesight.OverloadedError("full", retry_after_s=61.0)
    assert Attempts(Retries(POLICY, 60.0)).wait_s(shed) is None


def test_a_timeout_after_failures_says_what_they_were(clock: Clock) -> None:
    attempts = Attempts(Retries(POLICY, 60.0))
    attempts.wait_s(away())
    clock.now_s += 7.0
    late = pagesight.DeadlineExceededError("no answer in time")
    assert attempts.wait_s(late) is None
    assert late.message == "no answer in time; tried 2 times in 7 s, and before: no server"


def test_an_outage_is_logged_once_however_many_calls_wait(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    retries = Retries(POLICY, 60.0)

    def logged() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    for _ in range(3):
        Attempts(retries).wait_s(away())
    Attempts(retries).wait_s(pagesight.OverloadedError("full", retry_after_s=1.0))
    Attempts(retries).wait_s(pagesight.RevisionBehindError("behind"))
    assert logged() == ["no server; trying again for 60 s"]
    retries.answered()
    Attempts(retries).wait_s(away())
    assert len(logged()) == 2


@pytest.mark.parametrize(
    "settings",
    [{"attempts": 0}, {"first_delay_s": -1.0}, {"first_delay_s": 9.0, "longest_delay_s": 1.0}],
)
def test_a_policy_that_cannot_be_says_what_is_needed(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need attempts >= 1"):
        RetryPolicy(**settings)  # type: ignore[arg-type]
