"""When a failed call is worth repeating, and after how long.

    UNAVAILABLE          no server, or it is shutting down: another may answer
    RESOURCE_EXHAUSTED   with google.rpc.RetryInfo alone: shed before any work
    everything else      fails again, or may have been done: never repeated

A repeat is safe: questions change nothing, and a change carries a request_id under which
the server makes it once. Waits grow twofold and are drawn at random, so that callers who
were turned away together do not come back together; what RetryInfo asks for is the least.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pagesight._errors import OverloadedError, PagesightError, UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed call is repeated."""

    attempts: int = 4
    """Calls in all; 1 repeats nothing. A stream counts anew after each answer."""
    first_delay_s: float = 0.1
    """Wait before the first repeat, on average; it doubles each time."""
    longest_delay_s: float = 5.0
    """Longest wait of our own choice; a server may ask for more."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_delay_s <= self.longest_delay_s:
            raise ValueError(
                "need attempts >= 1 and 0 <= first_delay_s <= longest_delay_s, got "
                f"{self.attempts}, {self.first_delay_s} and {self.longest_delay_s}"
            )

    def delay_s(self, error: PagesightError, failures: int) -> float | None:
        """Returns how long to wait before another attempt; None when there should be none.

        Args:
            error: What the last attempt failed with.
            failures: Attempts that have failed, the last one included.
        """
        if failures >= self.attempts or not isinstance(error, UnavailableError | OverloadedError):
            return None
        usual_s = min(self.longest_delay_s, self.first_delay_s * 2.0 ** (failures - 1))
        wait_s = usual_s * random.uniform(0.5, 1.5)
        if error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s * random.uniform(1.0, 1.2))
        return wait_s


DEFAULT_RETRY = RetryPolicy()
