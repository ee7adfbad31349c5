"""When a failed call is worth repeating, after how long, and until when.

    UNAVAILABLE          no server, or it is shutting down: another may answer
    RESOURCE_EXHAUSTED   with google.rpc.RetryInfo alone: shed before any work
    everything else      fails again, or may have been done: never repeated

    RetryPolicy   how patiently ─┐
    retry_for_s   how long ──────┴─> Retries (one of a client) ──> Attempts (one of a call)

A repeat is safe: questions change nothing, and a change carries a request_id under which
the server makes it once. Waits grow twofold and are drawn at random, so that callers who
were turned away together do not come back together; what RetryInfo asks for is the least.
The budget begins with the first failure, not with the call: an enrolment of ten minutes that
a restart ends has it whole. No attempt begins after it.
"""

from __future__ import annotations

import logging
import math
import random
import time
from dataclasses import dataclass

from pagesight._errors import (
    DeadlineExceededError,
    OverloadedError,
    PagesightError,
    RevisionBehindError,
    UnavailableError,
    extend,
)

DEFAULT_RETRY_FOR_S = 60.0
"""Outlasts a restart: 20 s in which a server drains (`server.drain_seconds`), 20 s in which it
starts, and as much again as spare time; and the default timeout of a call is no longer."""

log = logging.getLogger("pagesight")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed call is repeated, within `retry_for_s` of the client."""

    attempts: int | None = None
    """Calls in all, at most; a stream counts anew after each answer. None: as many as there is
    time for."""
    first_delay_s: float = 0.1
    """Wait before the first repeat, on average; it doubles each time."""
    longest_delay_s: float = 5.0
    """Longest wait of our own choice; a server may ask for more."""

    def __post_init__(self) -> None:
        if (self.attempts is not None and self.attempts < 1) or not (
            0 <= self.first_delay_s <= self.longest_delay_s
        ):
            raise ValueError(
                "need attempts >= 1 and 0 <= first_delay_s <= longest_delay_s, got "
                f"{self.attempts}, {self.first_delay_s} and {self.longest_delay_s}"
            )

    def delay_s(self, failures: int) -> float:
        """Returns how long to wait before another attempt, by our own choice.

        Args:
            failures: Attempts that have failed.
        """
        doublings = min(failures - 1, 64)  # beyond which the power is no float
        usual_s = min(self.longest_delay_s, self.first_delay_s * 2.0**doublings)
        return random.uniform(0.5 * usual_s, min(1.5 * usual_s, self.longest_delay_s))


DEFAULT_RETRY = RetryPolicy()


class Retries:
    """What a client repeats and for how long; shared by its calls.

    Args:
        policy: How patiently.
        for_s: Seconds after the first failure in which another attempt may begin. 0: none may.
    """

    def __init__(self, policy: RetryPolicy, for_s: float) -> None:
        self.policy = policy
        self.for_s = for_s
        self._away = False

    def tell(self, error: PagesightError) -> None:
        """Logs that the server is away; once until it has answered again, however many wait."""
        if type(error) is UnavailableError and not self._away:
            self._away = True
            log.warning("%s; trying again for %g s", error.message, self.for_s)

    def answered(self) -> None:
        """Notes that the server has answered."""
        self._away = False


class Attempts:
    """The failures in a row of one call, one screenshot or one stream; for one thread or task."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._failures = 0
        self._since_s = 0.0
        self._last: PagesightError | None = None

    def wait_s(
        self, error: PagesightError, give_up_s: float = math.inf, *, tell: bool = True
    ) -> float | None:
        """Notes a failure; returns how long to wait before another attempt, None for none.

        When there is to be none after several, the error says how long was tried.

        Args:
            error: What the last attempt failed with.
            give_up_s: When the caller's own time is up, by `time.monotonic`.
            tell: Whether this is worth a warning: nothing else answers in place of what failed.
        """
        now_s = time.monotonic()
        if not self._failures:
            self._since_s = now_s
        self._failures += 1
        wait_s = self._delay_s(error, now_s)
        if wait_s is None or now_s + wait_s >= give_up_s:
            self._describe(error, now_s)
            return None
        self._last = error
        if tell:
            self._retries.tell(error)
        return wait_s

    def _delay_s(self, error: PagesightError, now_s: float) -> float | None:
        policy, failures = self._retries.policy, self._failures
        left_s = self._since_s + self._retries.for_s - now_s
        if not is_repeatable(error) or left_s <= 0 or failures == policy.attempts:
            return None
        # The last attempt is made when the budget ends, not one wait before.
        wait_s = min(policy.delay_s(failures), left_s)
        if error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s * random.uniform(1.0, 1.2))
        return wait_s if wait_s <= left_s else None

    def _describe(self, error: PagesightError, now_s: float) -> None:
        if self._last is None:
            return
        tried = f"tried {self._failures} times in {now_s - self._since_s:.3g} s"
        if is_repeatable(error):
            extend(error, f"; {tried}")
        elif isinstance(error, DeadlineExceededError):
            extend(error, f"; {tried}, and before: {self._last.message}")


def is_repeatable(error: PagesightError) -> bool:
    """Tells whether another attempt can succeed where one failed with this error."""
    if isinstance(error, RevisionBehindError | OverloadedError):
        return True
    return isinstance(error, UnavailableError) and not error.is_final
