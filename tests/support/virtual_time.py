"""An event loop whose time passes only when nothing is left to do, and a model that takes time.

    timer due in 5 s, nothing ready ──> the clock says 5 s later, at once

So waits of any length are tested exactly and without waiting.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from tests.support import WAIT_S

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Skips waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Without a timer only a real thread can go on: wait for it.
        ready = super().select(WAIT_S if timeout is None else 0)
        if not ready:
            assert timeout is not None, "nothing is left that could go on"
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 seconds."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds that have passed virtually."""
        return self._virtual.now_s


class TimedOwner(Executor):
    """Runs one thing at a time, each for so many virtual seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Runs `fn` now and tells its result when the time has passed."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        result = fn(*args, **kwargs)
        asyncio.get_running_loop().call_later(self._seconds, future.set_result, result)
        return future


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
