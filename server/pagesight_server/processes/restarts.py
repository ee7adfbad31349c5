"""When a worker that ended is started again, and when no more.

ends within the window:  1     2     3     4     5
then:                   1 s   2 s   4 s   8 s   give up
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Restarts:
    """Counts the restarts of one worker, and says when it may start again."""

    most: int = 5
    """Ends within the window that are too many: whoever supervises this server shall know."""
    window_s: float = 300.0
    """Five minutes: more than five starts of large models take."""
    first_s: float = 1.0
    """Before the first restart: time for what ended the worker, such as lack of memory, to pass."""
    longest_s: float = 30.0
    """The longest wait before a restart."""
    _ends_s: deque[float] = field(default_factory=deque)

    def delay_s(self, now_s: float) -> float | None:
        """Counts an end of the worker.

        Args:
            now_s: When it ended, by a clock that only goes forward.

        Returns:
            Seconds to wait before the restart; None to give up.
        """
        self._ends_s.append(now_s)
        while self._ends_s[0] < now_s - self.window_s:
            self._ends_s.popleft()
        ends = len(self._ends_s)
        return None if ends >= self.most else min(self.longest_s, self.first_s * 2 ** (ends - 1))
